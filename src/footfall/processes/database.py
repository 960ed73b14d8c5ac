"""The work of processor and reporting, with either database."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from msgspec import Struct

from footfall.database.contents import Contents
from footfall.database.reports import Reports
from footfall.processes.data_dir import DATABASE_PRESENCE, presence
from footfall.processes.feeds import open_feed
from footfall.processes.roles import COLLECTOR, PROCESSOR, REPORTING
from footfall.processes.service_status import service_status
from footfall.processes.web import serve
from footfall.queue.broker.tracing import open_tracing
from footfall.queue.consumer import consume
from footfall.queue.sink import DATABASE, Sink
from footfall.settings import Settings
from footfall.status.access import ReportAccess
from footfall.supervisor import Lifeline
from footfall.web.api import build_app


class Database(Struct, frozen=True):
    """An open database.

    Attributes:
        open_sink: opens the sink that writes to it.
        reports: reads figures from it.
        contents: reads events from it.
        is_exclusive: only one processor at a time can write to it.
    """

    open_sink: Callable[[], Sink]
    reports: Reports
    contents: Contents
    is_exclusive: bool


def work(
    lifeline: Lifeline,
    settings: Settings,
    roles: tuple[str, ...],
    access: ReportAccess | None,
    listener: socket.socket | None,
    database: Database,
) -> None:
    """Process and report until told to stop.

    Args:
        lifeline: to the supervisor.
        settings: all of them.
        roles: all roles of this service.
        access: who may read reports; None behind a collector, which has decided that.
        listener: where requests for reports arrive; None without the role.
        database: the caller closes it.

    Raises:
        FootfallError: the queue can't be opened, or it would not be safe to go on.
    """
    with presence(settings, DATABASE_PRESENCE), _processing(lifeline, settings, roles, database):
        lifeline.ready()
        if REPORTING in roles and listener is not None:
            checks = {REPORTING: database.reports.trouble}
            refusals = None if access is None else access.refusals
            with service_status(settings, roles, checks, refusals=refusals) as status:
                app = build_app(
                    reports=database.reports,
                    contents=database.contents,
                    access=access,
                    status=status,
                    sites=settings.sites,
                    time_zone=settings.reporting.time_zone,
                    public_url=settings.collector.public_url,
                    collector_url=None if COLLECTOR in roles else settings.collector.browsers_url,
                    token=settings.reporting.token,
                )
                serve(lifeline, app, listener)
        lifeline.stop.wait()


@contextmanager
def _processing(lifeline: Lifeline, settings: Settings, roles: tuple[str, ...], database: Database) -> Iterator[None]:
    """Run the processor in a thread during the block. If it fails, it stops the process, which then fails like it."""
    if PROCESSOR not in roles:
        yield
        return
    tracing = open_tracing(settings.queue.url, DATABASE)
    feed = open_feed(settings, DATABASE, is_exclusive=database.is_exclusive)
    failures: list[Exception] = []

    def process() -> None:
        try:
            consume(feed, database.open_sink, lifeline.stop, on_assigned=lambda: None, tracing=tracing)
        except Exception as error:  # noqa: BLE001 - raised again below, in the main thread
            failures.append(error)
            lifeline.stop_now()

    thread = threading.Thread(target=process, name=PROCESSOR)
    thread.start()
    try:
        yield
    finally:
        lifeline.stop.set()
        thread.join()
        feed.close()
        tracing.close()
    if failures:
        raise failures[0]
