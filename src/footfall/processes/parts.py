"""What more than one process is built from."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from typing import Final

from footfall.durable.files import check_directory
from footfall.durable.lock import FileLock, Presence, is_held
from footfall.errors import FootfallError
from footfall.queue.account import Account, RelayAccount, read_account
from footfall.queue.base import Feed, Publisher, SinkReport
from footfall.queue.broker import drivers
from footfall.queue.broker.feed import ASSIGNMENT_SUFFIX, BrokerFeed
from footfall.queue.broker.relay import RELAY
from footfall.queue.local.feed import LocalFeed
from footfall.queue.local.store import FILE_NAME, LocalQueue, QueueState
from footfall.queue.sink import DATABASE, SINKS, VISIT_LOG
from footfall.settings import Settings
from footfall.status.refusals import RefusalCounts
from footfall.status.service import Check, ServiceStatus

COLLECTOR: Final = "collector"
STORAGE: Final = "storage"
PROCESSOR: Final = "processor"
REPORTING: Final = "reporting"
ROLES: Final = (COLLECTOR, STORAGE, PROCESSOR, REPORTING)

_NICENESS = 5
DATABASE_LOCK: Final = "database.lock"
RELAY_LOCK: Final = "relay.lock"
STORAGE_PRESENCE: Final = "storage.presence"
DATABASE_PRESENCE: Final = "database.presence"
"""Held by each process with the role, while it works or stands by."""
_PRESENCES: Final = {STORAGE: STORAGE_PRESENCE, PROCESSOR: DATABASE_PRESENCE, REPORTING: DATABASE_PRESENCE}
_SINK_OF = {STORAGE: VISIT_LOG, PROCESSOR: DATABASE}


def lock(settings: Settings, name: str, *, purpose: str) -> FileLock:
    """A lock in `data_dir`.

    Raises:
        AlreadyInUseError: as `FileLock`.
        FootfallError: its file can't be made or opened: somebody else's, perhaps.
    """
    with _naming_data_dir():
        with suppress(FileNotFoundError):
            check_directory(settings.data_path)
        return FileLock(settings.data_path / name, purpose=purpose)


def presence(settings: Settings, name: str) -> Presence:
    """A presence in `data_dir`.

    Raises:
        FootfallError: as `lock`.
    """
    with _naming_data_dir():
        return Presence(settings.data_path / name)


@contextmanager
def _naming_data_dir() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FootfallError(f"{error.filename} can't be used: {error.strerror} (data_dir).") from error


def open_queue(settings: Settings, *, share: float = 1.0, is_synced: bool = True) -> LocalQueue:
    """A new connection to the queue.

    Args:
        settings: where the queue is, and what it may take.
        share: how much of `queue.max_bytes` may be filled through it.
        is_synced: a commit waits for the disk, where `queue.durability` says so.

    Raises:
        FootfallError: it can't be opened.
    """
    path = settings.data_path / FILE_NAME
    try:
        return LocalQueue(
            path,
            sinks=(RELAY,) if settings.queue.is_broker else SINKS,
            durability=settings.queue.durability if is_synced else "memory",
            max_bytes=int(settings.queue.max_bytes * share),
            margin_hours=settings.queue.margin_hours,
        )
    except OSError as error:
        raise FootfallError(f"the queue can't be opened: {error} (data_dir)") from error


def open_feed(settings: Settings, sink: str, *, is_exclusive: bool) -> Feed:
    """What the consumer of a sink reads; `is_exclusive`: one consumer gets all of a broker's messages.

    Raises:
        FootfallError: it can't be opened.
    """
    url = settings.queue.url
    if url is None:
        # A report may be lost, and would keep collectors waiting for as long as it was being synced.
        return LocalFeed(open_queue(settings, is_synced=False), sink)
    subscription = drivers.open_subscription(url, f"footfall-{sink}", is_exclusive=is_exclusive)
    return BrokerFeed(subscription, sink, accounts=settings.data_path)


def open_publisher(settings: Settings) -> Publisher:
    """The way into the broker.

    Raises:
        FootfallError: it can't be opened.
    """
    assert settings.queue.url is not None
    return drivers.open_publisher(settings.queue.url)


def give_way() -> None:
    """Let a collector go first when the processor is short: an acknowledgement waits for it, a report can."""
    os.nice(_NICENESS)


@contextmanager
def service_status(
    settings: Settings,
    roles: tuple[str, ...],
    own: dict[str, Check] | None = None,
    *,
    refusals: RefusalCounts | None = None,
) -> Iterator[ServiceStatus]:
    """Who answers for the state of a service with those roles, in one process of it.

    Args:
        settings: all of them.
        roles: of the service.
        own: checks of the roles that this process has; the others are looked at from here.
        refusals: of reports, where this process counts them.

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
    """For each of `roles` its own check; of one that another process has, is it there, and does its sink get on?"""

    def check(role: str) -> str | None:
        if not is_held(settings.data_path / _PRESENCES[role]):
            return "is not running"
        return trouble_of(_SINK_OF[role]) if role in _SINK_OF else None

    checks = {role: partial(check, role) for role in _PRESENCES} | own
    return {role: checks[role] for role in roles if role in checks}


def _broker_state(settings: Settings, sinks: tuple[str, ...], local: LocalQueue | None) -> QueueState:
    """What came in here and what the broker brought, as one account.

    A source's entries count as received as soon as anybody here knows of them: the queue of this machine, or a sink.
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
    return SinkReport(0, 0, written, skipped, "", account.trouble)
