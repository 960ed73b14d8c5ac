"""What processor and reporting do with a database, whichever it is."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from msgspec import Struct

from footfall.database.reports import Reports
from footfall.processes.data_dir import DATABASE_PRESENCE, presence
from footfall.processes.feeds import open_feed
from footfall.processes.roles import PROCESSOR, REPORTING
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
        open_sink: opens the sink as the database is now.
        reports: reads it.
        is_exclusive: one processor at a time can write.
    """

    open_sink: Callable[[], Sink]
    reports: Reports
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
        roles: which roles this service has.
        access: who may read reports; None behind a collector, which has decided that.
        listener: where reports are asked for; None without the role.
        database: stays the caller's.

    Raises:
        FootfallError: the queue can't be opened, or going on would not be safe.
    """
    with presence(settings, DATABASE_PRESENCE), _processing(lifeline, settings, roles, database):
        lifeline.ready()
        if REPORTING in roles and listener is not None:
            checks = {REPORTING: database.reports.trouble}
            refusals = None if access is None else access.refusals
            with service_status(settings, roles, checks, refusals=refusals) as status:
                serve(lifeline, build_app(reports=database.reports, access=access, status=status), listener)
        lifeline.stop.wait()


@contextmanager
def _processing(lifeline: Lifeline, settings: Settings, roles: tuple[str, ...], database: Database) -> Iterator[None]:
    """The processor in a thread beside the block; if it fails, the process is told to stop, and fails with it."""
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
