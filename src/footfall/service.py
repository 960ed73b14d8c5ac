"""From settings and roles to a tree of processes that does the work: the architecture, as code.

    supervisor ─┬─ collector   hits and events into the queue; as many as collector.workers
                ├─ relay       the queue into a broker, if there is one; storage and database then read from the broker
                ├─ storage     the queue into the visits log
                ├─ database    processor: the queue into the database; reporting: figures out of the database
                └─ monitor     the state of a service that has no other port

With a collector, reports answer on its port, too: it hands requests to the database process over a Unix socket.
"""

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from footfall.collector.address import ClientAddress
from footfall.processes.data_dir import prepare, repair_queue
from footfall.processes.listeners import listen, listen_without_name
from footfall.processes.roles import COLLECTOR, PROCESSOR, REPORTING, STORAGE, monitor_port, validate
from footfall.queue.broker.relay import RELAY
from footfall.settings import Settings
from footfall.status.access import ReportAccess
from footfall.status.refusals import RefusalCounts
from footfall.supervisor import Child, Lifeline, Supervisor

_BACKGROUND: Final = 5
"""The niceness of all but collectors: an acknowledgement waits for the processor, a report can."""


def run(settings: Settings, roles: tuple[str, ...], *, on_ready: Callable[[], None]) -> int:
    """Run `roles` until told to stop; return the exit code.

    Raises:
        FootfallError: they can't be started; the text says what to change.
    """
    validate(settings, roles)
    prepare(settings, roles)
    supervisor = Supervisor(
        _children(settings, roles),
        on_ready=on_ready,
        on_damage=partial(repair_queue, settings, "A process could not read the queue."),
    )
    return supervisor.run()


def _children(settings: Settings, roles: tuple[str, ...]) -> list[Child]:
    """The processes. They are stopped in the order of their phases: collectors first, so that the sinks get all."""
    access = partial(
        ReportAccess,
        settings.reporting.token,
        address_of=ClientAddress(settings.collector.trusted_proxies).of,
        refusals=RefusalCounts(settings.collector.workers),
    )
    children = []
    reports_listener = reports_path = None
    if REPORTING in roles:
        if COLLECTOR in roles:
            reports_listener, reports_path = listen_without_name(settings.data_path)
        else:
            reports_listener = listen(settings.reporting.host, settings.reporting.port, "reporting.port")
    if COLLECTOR in roles:
        listener = listen(settings.collector.host, settings.collector.port, "collector.port")
        for number in range(settings.collector.workers):
            name = f"collector-{number + 1}" if settings.collector.workers > 1 else COLLECTOR
            collect = _in_module("collector", settings, roles, access(writer=number), listener, reports_path)
            children.append(Child(name, collect, phase=0))
        if settings.queue.is_broker:
            children.append(Child(RELAY, _in_module("relay", settings), phase=1, niceness=_BACKGROUND))
    if STORAGE in roles:
        children.append(Child(STORAGE, _in_module("storage", settings), phase=1, niceness=_BACKGROUND))
    if PROCESSOR in roles or REPORTING in roles:
        module = "clickhouse" if settings.database.is_clickhouse else "duckdb"
        # Behind a collector's port, the collector decides who may read: the connection ends there.
        own_access = access() if reports_path is None else None
        work = _in_module(module, settings, roles, own_access, reports_listener)
        children.append(Child("database", work, phase=1, niceness=_BACKGROUND))
    if (port := monitor_port(settings, roles)) is not None:
        listener = listen(settings.monitor.host, port, "monitor.port")
        children.append(Child("monitor", _in_module("monitor", settings, roles, access(), listener), phase=2))
    return children


def _in_module(name: str, *arguments: object) -> Callable[[Lifeline], None]:
    """The `run` of a module in `footfall.processes`, which is imported in the child that runs it and nowhere else."""

    def run_child(lifeline: Lifeline) -> None:
        module: Any = importlib.import_module(f"footfall.processes.{name}")
        module.run(lifeline, *arguments)

    return run_child
