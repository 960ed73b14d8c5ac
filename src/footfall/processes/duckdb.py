"""The process that has DuckDB's file open: processor, reporting or both. DuckDB lets only one process open it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import duckdb

from footfall.database.duckdb.contents import DuckdbContents
from footfall.database.duckdb.contents_socket import ContentsServer
from footfall.database.duckdb.days import RolledDays
from footfall.database.duckdb.file import open_repaired, quarantine_database
from footfall.database.duckdb.reader import DuckdbReports
from footfall.database.duckdb.roll_up import RollUp
from footfall.database.duckdb.writer import DuckdbSink
from footfall.database.erasure import FILE_NAME, ErasureFile
from footfall.database.geo import nowhere, open_places
from footfall.errors import DamagedQueueError, UnreadableFileError
from footfall.processes.data_dir import DATABASE_LOCK, lock
from footfall.processes.database import Database, work
from footfall.processes.roles import PROCESSOR
from footfall.settings import Settings
from footfall.status.access import ReportAccess
from footfall.supervisor import Lifeline
from footfall.web.api import LIMIT_S


def run(
    lifeline: Lifeline,
    settings: Settings,
    roles: tuple[str, ...],
    access: ReportAccess | None,
    listener: socket.socket | None,
) -> None:
    """Process and report until told to stop; a database that can't be read is quarantined for the next start.

    Raises:
        FootfallError: as `work` raises; or the database can't be opened, or another process has it open.
    """
    find_place = open_places(settings.geo.database) if PROCESSOR in roles else nowhere
    with lock(settings, DATABASE_LOCK, purpose="the database"):
        try:
            with (
                closing(_open(settings)) as connection,
                closing(ContentsServer(settings.data_path, connection, settings.database_path)),
            ):
                days = RolledDays(connection)

                def open_sink() -> DuckdbSink:
                    return DuckdbSink(
                        connection,
                        days=days,
                        settings=settings.database,
                        find_place=find_place,
                        checkpoint_bytes=settings.queue.max_bytes // 8,
                        erasures=ErasureFile(settings.data_path / FILE_NAME),
                    )

                reports = DuckdbReports(connection, limit_s=LIMIT_S)
                database = Database(open_sink, reports, DuckdbContents(connection), is_exclusive=True)
                with _rolling_up(RollUp(connection, days), lifeline.stop):
                    work(lifeline, settings, roles, access, listener, database)
        except DamagedQueueError:
            raise
        except UnreadableFileError as error:
            quarantine_database(settings.database_path, error)
            raise


def _open(settings: Settings) -> duckdb.DuckDBPyConnection:
    return open_repaired(settings.database_path, memory_limit_mb=settings.database.memory_limit_mb)


@contextmanager
def _rolling_up(roll_up: RollUp, stop: threading.Event) -> Iterator[None]:
    """Roll days up in a thread during the block."""
    thread = threading.Thread(target=roll_up.run, args=(stop,), name="roll-up")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
