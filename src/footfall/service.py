"""From settings and roles to a tree of processes that does the work; the architecture, as code.

    supervisor ─┬─ collector   as many as collector.workers: hits and events into the queue
                ├─ relay       the queue into a broker, where there is one; the two below then read from that
                ├─ storage     the queue into the visits log
                ├─ database    processor: the queue into the database; reporting: figures out of it
                └─ monitor     the state of a service that has no other port

With a collector, reports answer on its port, too: it hands them to the database process over a Unix socket.
"""

import errno
import importlib
import importlib.util
import os
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

from footfall.collector.address import ClientAddress
from footfall.durable.files import UntrustedFileError, make_directory
from footfall.errors import BadSettingError, BadUsageError, DamagedQueueError, FootfallError
from footfall.processes.listeners import listen, listen_without_name
from footfall.processes.parts import COLLECTOR, PROCESSOR, REPORTING, STORAGE, open_queue
from footfall.queue.broker import drivers
from footfall.queue.broker.relay import RELAY
from footfall.queue.local.repair import repair
from footfall.queue.local.store import FILE_NAME
from footfall.settings import Settings, is_loopback
from footfall.status.access import ReportAccess
from footfall.status.refusals import RefusalCounts
from footfall.supervisor import Child, Lifeline, Supervisor

_MIN_TOKEN_LENGTH = 16
"""Of `reporting.token`, where others than this machine can try."""


def run(settings: Settings, roles: tuple[str, ...], *, on_ready: Callable[[], None]) -> int:
    """Run `roles` until told to stop; return the exit code.

    Raises:
        FootfallError: they can't be started; the text says what to change.
    """
    _refuse_what_cannot_be(settings, roles)
    prepare(settings, roles)
    access = partial(
        ReportAccess,
        settings.reporting.token,
        address_of=ClientAddress(settings.collector.trusted_proxies).of,
        refusals=RefusalCounts(settings.collector.workers),
    )
    children = _children(settings, roles, access)
    repair_queue = partial(_repair_queue, settings, "A process could not read the queue.")
    return Supervisor(children, on_ready=on_ready, on_damage=repair_queue).run()


def prepare(settings: Settings, roles: tuple[str, ...] = (COLLECTOR,)) -> None:
    """Make `data_dir` and, for `roles` that use it, the queue in it; or mend the queue that is there.

    Raises:
        FootfallError: that can't be done.
    """
    path = settings.data_path
    try:
        make_directory(path)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    except UntrustedFileError as error:
        raise FootfallError(f"data_dir: {path.absolute()} can't be used: {error.strerror}") from None
    except OSError as error:
        raise FootfallError(f"data_dir: {path.absolute()} can't be written: {error.strerror}") from None
    if settings.queue.is_broker and COLLECTOR not in roles:
        return
    _repair_queue(settings)
    try:
        with closing(open_queue(settings)) as queue:
            queue.check()
    except DamagedQueueError as error:
        _repair_queue(settings, str(error))
        open_queue(settings).close()


def _repair_queue(settings: Settings, trouble: str | None = None) -> None:
    try:
        repair(settings.data_path / FILE_NAME, trouble)
    except OSError as error:
        raise FootfallError(f"the queue can't be mended: {error}. It is as it was (data_dir).") from error


def _children(settings: Settings, roles: tuple[str, ...], access: Callable[..., ReportAccess]) -> list[Child]:
    children = []
    reports_path = reports_listener = None
    if REPORTING in roles:
        if COLLECTOR in roles:
            reports_listener, reports_path = listen_without_name(settings.data_path)
        else:
            reports_listener = listen(settings.reporting.host, settings.reporting.port, "reporting.port")
    if COLLECTOR in roles:
        listener = listen(settings.collector.host, settings.collector.port, "collector.port")
        for number in range(settings.collector.workers):
            name = f"collector-{number + 1}" if settings.collector.workers > 1 else COLLECTOR
            run_collector = _in_module("collector", settings, roles, access(writer=number), listener, reports_path)
            children.append(Child(name, run_collector, phase=0))
        if settings.queue.is_broker:
            children.append(Child(RELAY, _in_module("relay", settings), phase=1))
    if STORAGE in roles:
        children.append(Child(STORAGE, _in_module("storage", settings), phase=1))
    if PROCESSOR in roles or REPORTING in roles:
        module = "clickhouse" if settings.database.is_clickhouse else "duckdb"
        # Behind a collector's port the collector decides: the connection ends there.
        own_access = access() if reports_path is None else None
        run_database = _in_module(module, settings, roles, own_access, reports_listener)
        children.append(Child("database", run_database, phase=1))
    monitor_port = _monitor_port(settings, roles)
    if monitor_port is not None:
        listener = listen(settings.monitor.host, monitor_port, "monitor.port")
        children.append(Child("monitor", _in_module("monitor", settings, roles, access(), listener), phase=2))
    return children


def _in_module(name: str, *arguments: object) -> Callable[[Lifeline], None]:
    """The `run` of a module in `footfall.processes`, imported in the child that runs it and nowhere else."""

    def run_child(lifeline: Lifeline) -> None:
        module: Any = importlib.import_module(f"footfall.processes.{name}")
        module.run(lifeline, *arguments)

    return run_child


def _monitor_port(settings: Settings, roles: tuple[str, ...]) -> int | None:
    """Where the state of this service is told, if it has no other port and one is wanted."""
    return None if COLLECTOR in roles or REPORTING in roles else settings.monitor.port


def _public_host(settings: Settings, roles: tuple[str, ...]) -> str:
    """Where this service answers about itself, and its reports."""
    if COLLECTOR in roles:
        return settings.collector.host
    return settings.reporting.host if REPORTING in roles else settings.monitor.host


def _refuse_what_cannot_be(settings: Settings, roles: tuple[str, ...]) -> None:
    # The same settings may be everywhere, and a driver only where it is used.
    if settings.queue.url is not None and roles != (REPORTING,):
        drivers.check_url(settings.queue.url)
    uses_database = PROCESSOR in roles or REPORTING in roles
    if uses_database and settings.database.is_clickhouse and importlib.util.find_spec("clickhouse_connect") is None:
        raise BadSettingError(
            "database.url: needs clickhouse_connect; install it with: pip install 'footfall[clickhouse]'"
        )
    if REPORTING not in roles and _monitor_port(settings, roles) is None:
        return
    if REPORTING in roles and PROCESSOR not in roles and not settings.database.is_clickhouse:
        raise BadUsageError(
            "DuckDB lets one process in only, so reporting and processor run together: footfall run processor reporting"
        )
    host, token = _public_host(settings, roles), settings.reporting.token
    if is_loopback(host):
        return
    if token is None:
        raise BadSettingError(
            f"reporting.token: reports would be open to everybody who can reach {host}. Set a long "
            "random one (FOOTFALL__REPORTING__TOKEN=…), or listen on 127.0.0.1."
        )
    if len(token) < _MIN_TOKEN_LENGTH:
        raise BadSettingError(
            f"reporting.token: everybody who can reach {host} can try tokens, and this one has fewer than "
            f"{_MIN_TOKEN_LENGTH} characters. Set a long random one, as `openssl rand -hex 24` prints, or listen on "
            "127.0.0.1."
        )
