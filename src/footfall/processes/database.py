"""The process that has the database open: processor, reporting, or both, as DuckDB lets one process in only."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import duckdb

from footfall.config import Settings
from footfall.consumer import take_turns
from footfall.errors import DamagedQueueError, UnreadableFileError
from footfall.filelock import FileLock
from footfall.gate import Gate
from footfall.processes.parts import DATABASE_LOCK, PROCESSOR, REPORTING, give_way, observer, open_feed
from footfall.processes.web import serve
from footfall.reporting.api import build_app
from footfall.sinks.base import DATABASE
from footfall.sinks.duckdb import DuckdbSink, open_mended, set_database_aside
from footfall.supervisor import Lifeline


def run(
    lifeline: Lifeline, settings: Settings, roles: tuple[str, ...], gate: Gate, listener: socket.socket | None
) -> None:
    """Process and report until told to stop.

    Args:
        lifeline: to the supervisor.
        settings: all of them.
        roles: which roles this service has.
        gate: who may read reports.
        listener: where reports are asked for; None without the role.

    Raises:
        FootfallError: the database can't be opened, or another process has it.
    """
    give_way()
    with FileLock(settings.data_path / DATABASE_LOCK, purpose="the database"):
        try:
            with (
                closing(open_mended(settings.database_path)) as database,
                _processing(lifeline, settings, roles, database),
            ):
                lifeline.ready()
                if REPORTING in roles and listener is not None:
                    app = build_app(database=database, gate=gate, observer=observer(settings, roles))
                    serve(lifeline, app, listener)
                lifeline.stop.wait()
        except DamagedQueueError:
            raise
        except UnreadableFileError as error:
            set_database_aside(settings.database_path, error)
            raise


@contextmanager
def _processing(
    lifeline: Lifeline, settings: Settings, roles: tuple[str, ...], database: duckdb.DuckDBPyConnection
) -> Iterator[None]:
    """The processor in a thread beside the block; if it fails, the process is told to stop, and fails with it."""
    if PROCESSOR not in roles:
        yield
        return
    feed = open_feed(settings, DATABASE, is_alone=True)
    failures: list[Exception] = []

    def open_sink() -> DuckdbSink:
        return DuckdbSink(database, checkpoint_bytes=settings.queue.max_bytes // 8)

    def work() -> None:
        try:
            take_turns(feed, open_sink, lifeline.stop, on_turn=lambda: None)
        except Exception as error:  # noqa: BLE001 - raised again below, in the main thread
            failures.append(error)
            lifeline.stop_now()

    thread = threading.Thread(target=work, name=PROCESSOR)
    thread.start()
    try:
        yield
    finally:
        lifeline.stop.set()
        thread.join()
        feed.close()
    if failures:
        raise failures[0]
