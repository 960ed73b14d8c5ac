"""What one process can tell of its whole service: from the queue, the accounts, and who holds which lock."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import Final

from footfall.durable.lock import is_held
from footfall.processes.data_dir import DATABASE_PRESENCE, STORAGE_PRESENCE, open_queue
from footfall.processes.roles import COLLECTOR, PROCESSOR, REPORTING, STORAGE
from footfall.queue.account import Account, RelayAccount, read_account
from footfall.queue.base import SinkReport
from footfall.queue.broker.feed import ASSIGNMENT_SUFFIX
from footfall.queue.broker.relay import RELAY
from footfall.queue.local.reader import QueueState
from footfall.queue.local.store import LocalQueue
from footfall.queue.sink import DATABASE, SINKS, VISIT_LOG
from footfall.settings import Settings
from footfall.status.readiness import Check
from footfall.status.refusals import RefusalCounts
from footfall.status.service import ServiceStatus

_PRESENCES: Final = {STORAGE: STORAGE_PRESENCE, PROCESSOR: DATABASE_PRESENCE, REPORTING: DATABASE_PRESENCE}
_SINK_OF: Final = {STORAGE: VISIT_LOG, PROCESSOR: DATABASE}


@contextmanager
def service_status(
    settings: Settings,
    roles: tuple[str, ...],
    own: dict[str, Check] | None = None,
    *,
    refusals: RefusalCounts | None = None,
) -> Iterator[ServiceStatus]:
    """Open what tells the status of the service, in one of its processes.

    Args:
        settings: all of them.
        roles: all roles of the service.
        own: the checks of the roles that this process has itself; other roles are checked through `data_dir`.
        refusals: how many requests for reports were refused, if this process counts them.

    Raises:
        FootfallError: the queue can't be opened.
    """
    sinks = tuple(_SINK_OF[role] for role in roles if role in _SINK_OF)
    if not settings.queue.is_broker:
        with closing(open_queue(settings)) as queue:
            checks = _checks(settings, roles, own or {}, lambda sink: _trouble_of(queue.sink_reports().get(sink)))
            yield ServiceStatus(queue.state, sinks=SINKS, checks=checks, refusals=refusals)
        return
    with ExitStack() as held:
        local = held.enter_context(closing(open_queue(settings))) if COLLECTOR in roles else None
        checks = _checks(
            settings, roles, own or {}, lambda sink: read_account(settings.data_path, sink, Account).trouble
        )
        state = partial(_broker_state, settings, sinks, local)
        told = sinks or ((RELAY,) if COLLECTOR in roles else ())
        yield ServiceStatus(state, sinks=told, checks=checks, refusals=refusals)


def _trouble_of(report: SinkReport | None) -> str | None:
    return None if report is None else report.trouble


def _checks(
    settings: Settings, roles: tuple[str, ...], own: dict[str, Check], trouble_of: Callable[[str], str | None]
) -> dict[str, Check]:
    """The check of each role: its own, or whether a process with that role is running and its sink works."""

    def check(role: str) -> str | None:
        if not is_held(settings.data_path / _PRESENCES[role]):
            return "is not running"
        return trouble_of(_SINK_OF[role]) if role in _SINK_OF else None

    checks = {role: partial(check, role) for role in _PRESENCES} | own
    return {role: checks[role] for role in roles if role in checks}


def _broker_state(settings: Settings, sinks: tuple[str, ...], local: LocalQueue | None) -> QueueState:
    """The state of the local queue and of the sinks behind the broker, as one.

    A source's entries count as received as soon as the local queue or a sink of this service knows of them.
    """
    accounts = {sink: read_account(settings.data_path, sink, Account) for sink in sinks}
    state = QueueState(0, {}, 0, {}, {}, {}, 0) if local is None else local.state()
    received = {} if local is None else {local.source: state.received}
    for account in accounts.values():
        for source, known in account.sources.items():
            received[source] = max(received.get(source, 0), known.received)
    now_ns = time.time_ns()
    ages = {
        sink: 0.0 if account.oldest_ns is None else max(0.0, (now_ns - account.oldest_ns) / 1e9)
        for sink, account in accounts.items()
    }
    return QueueState(
        sum(received.values()),
        state.refused,
        state.last_sequence,
        state.sinks | {sink: _report_of(account) for sink, account in accounts.items()},
        state.lag_batches | {sink: account.lag_batches for sink, account in accounts.items()},
        state.lag_seconds | ages,
        state.bytes,
        {sink: is_held(settings.data_path / (sink + ASSIGNMENT_SUFFIX)) for sink in sinks},
        None if local is None else read_account(settings.data_path, RELAY, RelayAccount),
    )


def _report_of(account: Account) -> SinkReport:
    skipped: dict[str, int] = {}
    for source in account.sources.values():
        for reason, count in source.skipped.items():
            skipped[reason] = skipped.get(reason, 0) + count
    written = sum(source.written for source in account.sources.values())
    return SinkReport(0, 0, written, skipped, "", account.trouble, account.removed)
