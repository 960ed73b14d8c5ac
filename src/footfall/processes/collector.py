"""The collector's process."""

import asyncio
import socket
from functools import partial
from pathlib import Path

import msgspec
import uvloop

from footfall.collector.address import ClientAddress
from footfall.collector.admission import admission_of
from footfall.collector.endpoints import Endpoints
from footfall.collector.forward import Forwarder
from footfall.collector.intake import Intake
from footfall.collector.protocols import routes
from footfall.collector.reports import ReportRequests
from footfall.collector.server import Server
from footfall.collector.tracker import tracker
from footfall.collector.trust import TrustedSenders
from footfall.processes.data_dir import open_queue
from footfall.processes.file_limit import raise_file_limit
from footfall.processes.roles import COLLECTOR, REPORTING
from footfall.processes.service_status import service_status
from footfall.rate_limit import RateLimiter
from footfall.settings import Settings
from footfall.status.access import ReportAccess
from footfall.status.readiness import READY, Check, Readiness
from footfall.supervisor import Lifeline

_DRAIN_S = 5.0
_ANSWER_S = 2.0
"""For the reporting process to say how it is."""
_MAX_CONNECTIONS = 20_000
"""Beyond it an idle or a slow one is closed for each new one."""


def run(
    lifeline: Lifeline,
    settings: Settings,
    roles: tuple[str, ...],
    access: ReportAccess,
    listener: socket.socket,
    reports: Path | None,
) -> None:
    """Collect until told to stop.

    Args:
        lifeline: to the supervisor.
        settings: all of them.
        roles: which roles this service has, for `/readyz`.
        access: who may read the state of this service.
        listener: where hits arrive.
        reports: the socket of the reporting process of this service, if there is one.

    Raises:
        FootfallError: the queue can't be opened.
    """
    uvloop.run(_collect(lifeline, settings, roles, access, listener, reports))


async def _collect(
    lifeline: Lifeline,
    settings: Settings,
    roles: tuple[str, ...],
    access: ReportAccess,
    listener: socket.socket,
    reports: Path | None,
) -> None:
    stop = asyncio.Event()
    failures: list[Exception] = []

    def stop_failed(error: Exception) -> None:
        failures.append(error)
        stop.set()

    loop = asyncio.get_running_loop()

    def stop_soon() -> None:
        loop.call_soon_threadsafe(stop.set)

    lifeline.on_stop(stop_soon)
    intake = Intake(open_queue(settings), on_failed=stop_failed)
    checks: dict[str, Check] = {COLLECTOR: lambda: intake.trouble}
    if reports is not None and settings.database.is_clickhouse:  # DuckDB's file is there as long as its process
        checks[REPORTING] = partial(_trouble_of_reports, reports)
    with service_status(settings, roles, checks, refusals=access.refusals) as status:
        endpoints = Endpoints(
            intake,
            routes(settings.collector, TrustedSenders(access)),
            addresses=ClientAddress(settings.collector.trusted_proxies),
            reports=ReportRequests(access, status, None if reports is None else Forwarder(str(reports))),
            admission=admission_of(settings, access.has_token),
            limiter=_limiter(settings.collector.rate_limit_per_minute),
            files=[tracker()],
        )
        server = Server(endpoints, max_connections=raise_file_limit(_MAX_CONNECTIONS))
        await server.start(listener)
        lifeline.ready()
        await stop.wait()
        if not failures:
            await server.drain(_DRAIN_S)
            await intake.close()
    if failures:
        raise failures[0]


def _limiter(per_minute: int | None) -> RateLimiter | None:
    """An address may send what it has for a minute all at once."""
    return None if per_minute is None else RateLimiter(per_minute / 60, burst=per_minute)


def _trouble_of_reports(path: Path) -> str | None:
    """What the process that makes reports says of its role."""
    question = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ANSWER_S)
            connection.connect(str(path))
            connection.sendall(question)
            with connection.makefile("rb") as file:
                _, _, body = file.read().partition(b"\r\n\r\n")
        said = msgspec.json.decode(body, type=Readiness).roles.get(REPORTING, READY)
    except (OSError, msgspec.DecodeError):
        return "does not answer"
    return None if said == READY else said
