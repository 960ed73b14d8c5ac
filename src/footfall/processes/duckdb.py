"""The process that has DuckDB's file open: processor, reporting, or both, for DuckDB lets one process in only."""

import socket
from contextlib import closing

from footfall.config import Settings
from footfall.errors import DamagedQueueError, UnreadableFileError
from footfall.gate import Gate
from footfall.processes.database import Database, work
from footfall.processes.parts import DATABASE_LOCK, give_way, lock
from footfall.reporting.api import LIMIT_S
from footfall.reporting.duckdb import DuckdbReports
from footfall.sinks.duckdb import DuckdbSink
from footfall.sinks.duckdb_file import open_mended, set_database_aside
from footfall.supervisor import Lifeline


def run(
    lifeline: Lifeline, settings: Settings, roles: tuple[str, ...], gate: Gate, listener: socket.socket | None
) -> None:
    """Do what `work` does.

    Raises:
        FootfallError: as `work`; or the database can't be opened, or another process has it.
    """
    give_way()
    with lock(settings, DATABASE_LOCK, purpose="the database"):
        try:
            with closing(open_mended(settings.database_path)) as connection:

                def open_sink() -> DuckdbSink:
                    return DuckdbSink(connection, checkpoint_bytes=settings.queue.max_bytes // 8)

                reports = DuckdbReports(connection, limit_s=LIMIT_S)
                work(lifeline, settings, roles, gate, listener, Database(open_sink, reports, is_alone=True))
        except DamagedQueueError:
            raise
        except UnreadableFileError as error:
            set_database_aside(settings.database_path, error)
            raise
