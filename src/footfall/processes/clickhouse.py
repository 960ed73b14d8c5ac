"""The process that works with ClickHouse: processor, reporting or both. There may be many such processes."""

import logging
import socket
import threading
from contextlib import ExitStack, closing

from footfall.database.clickhouse.contents import ClickhouseContents
from footfall.database.clickhouse.open import open_clickhouse
from footfall.database.clickhouse.reader import ClickhouseReports
from footfall.database.clickhouse.server import ClickhouseDatabase
from footfall.database.clickhouse.writer import ClickhouseSink
from footfall.database.geo import nowhere, open_places
from footfall.processes.data_dir import DATABASE_LOCK, lock
from footfall.processes.database import Database, work
from footfall.processes.roles import PROCESSOR
from footfall.queue.consumer import RETRY_S
from footfall.settings import Settings
from footfall.status.access import ReportAccess
from footfall.supervisor import Lifeline
from footfall.web.api import LIMIT_S

_log = logging.getLogger(__name__)


def run(
    lifeline: Lifeline,
    settings: Settings,
    roles: tuple[str, ...],
    access: ReportAccess | None,
    listener: socket.socket | None,
) -> None:
    """Wait for the server, then process and report until told to stop; the queue keeps what arrives meanwhile.

    Raises:
        FootfallError: as `work` raises; or the server refuses us, or another processor uses this `data_dir`.
    """
    assert settings.database.url is not None
    with ExitStack() as held:
        if PROCESSOR in roles:
            held.enter_context(lock(settings, DATABASE_LOCK, purpose="this processor's data_dir"))
        database = _wait_for(settings.database.url, lifeline.stop)
        if database is None:
            return
        held.enter_context(closing(database))
        is_exclusive = not settings.queue.is_broker
        find_place = open_places(settings.geo.database) if PROCESSOR in roles else nowhere

        def open_sink() -> ClickhouseSink:
            return ClickhouseSink(
                database,
                is_exclusive=is_exclusive,
                settings=settings.database,
                find_place=find_place,
            )

        reports = ClickhouseReports(database, limit_s=LIMIT_S)
        contents = ClickhouseContents(database)
        work(lifeline, settings, roles, access, listener, Database(open_sink, reports, contents, is_exclusive))


def _wait_for(url: str, stop: threading.Event) -> ClickhouseDatabase | None:
    """Connect as soon as the server answers; None if `stop` is set first."""
    is_told = False
    while not stop.is_set():
        try:
            return open_clickhouse(url)
        except OSError as error:
            if not is_told:
                _log.warning("waiting for the database, retrying every %g s: %s", RETRY_S, error)
            is_told = True
            stop.wait(RETRY_S)
    return None
