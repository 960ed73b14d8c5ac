"""The process that has the database open: processor, reporting, or both, as DuckDB lets one process in only."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import duckdb
import uvicorn
import uvloop

from footfall.config import Settings
from footfall.consumer import Consumer
from footfall.errors import DamagedQueueError, UnreadableFileError
from footfall.filelock import FileLock
from footfall.gate import Gate
from footfall.observe import Observer
from footfall.processes.parts import DATABASE_LOCK, PROCESSOR, REPORTING, give_way, open_queue, role_checks
from footfall.reporting.api import build_app
from footfall.sinks.base import SINKS
from footfall.sinks.duckdb import DuckdbSink, open_mended, set_database_aside
from footfall.supervisor import Lifeline

_GRACE_S = 3
"""For a report that is being made when the stop comes."""


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
                    _report(lifeline, settings, roles, gate, listener, database)
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
    sink = DuckdbSink(database, checkpoint_bytes=settings.queue.max_bytes // 8)
    queue = open_queue(settings)
    failures: list[Exception] = []

    def work() -> None:
        try:
            Consumer(queue, sink).run(lifeline.stop)
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
        sink.close()
        queue.close()
    if failures:
        raise failures[0]


class _Server(uvicorn.Server):
    """Leaves the signals to the lifeline."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _report(
    lifeline: Lifeline,
    settings: Settings,
    roles: tuple[str, ...],
    gate: Gate,
    listener: socket.socket,
    database: duckdb.DuckDBPyConnection,
) -> None:
    queue = open_queue(settings)
    observer = Observer(queue.state, sinks=SINKS, checks=role_checks(settings, roles, queue))
    config = uvicorn.Config(
        build_app(database=database, gate=gate, observer=observer),
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = _Server(config)

    def stop() -> None:
        server.should_exit = True

    lifeline.on_stop(stop)
    uvloop.run(server.serve(sockets=[listener]))
    queue.close()
