"""The API of reports on a port of its own, for tests."""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

import duckdb
import httpx
import uvicorn

from footfall.database.duckdb.contents import DuckdbContents
from footfall.database.duckdb.reader import DuckdbReports
from footfall.queue.local.reader import QueueState
from footfall.sites import SiteSettings
from footfall.status.access import ReportAccess
from footfall.status.service import ServiceStatus
from footfall.web.api import build_app

TOKEN = "open-sesame"
STATE = QueueState(
    received=3,
    refused={"invalid": 1},
    last_sequence=1,
    sinks={},
    lag_batches={"visit_log": 1, "database": 1},
    lag_seconds={"visit_log": 0.5, "database": 0.5},
    bytes=4096,
)
REPORTING_PATHS = [
    "/stats?site_id=site",
    "/export?site_id=site",
    "/api/v1/sites",
    "/api/v1/stats/aggregate?site_id=site",
    "/ledger",
    "/metrics",
    "/healthz",
    "/readyz",
    "/docs",
    "/openapi.json",
    "/",
]


def read_state() -> QueueState:
    return STATE


def fail() -> NoReturn:
    raise RuntimeError("the secret reason")


def service_status() -> ServiceStatus:
    return ServiceStatus(read_state, sinks=("visit_log", "database"), checks={"reporting": lambda: None})


@contextmanager
def serving(
    database: duckdb.DuckDBPyConnection,
    *,
    token: str | None = None,
    status: ServiceStatus = service_status(),  # noqa: B008 - it keeps nothing
    limit_s: float = 30.0,
    sites: Mapping[str, SiteSettings] | None = None,
    time_zone: str = "UTC",
) -> Iterator[httpx.Client]:
    """A client of the real API on a port of its own."""
    reports = DuckdbReports(database, limit_s=limit_s)
    app = build_app(
        reports=reports,
        contents=DuckdbContents(database),
        access=ReportAccess(token),
        status=status,
        wait_s=limit_s,
        sites=sites,
        time_zone=time_zone,
        token=token,
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        with httpx.Client(
            base_url=f"http://localhost:{listener.getsockname()[1]}", timeout=30, trust_env=False
        ) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


def faults(response: httpx.Response) -> dict[str, str]:
    """The fields a problem names, checked to be a problem as documented."""
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert response.status_code == problem["status"]
    return {fault["field"]: fault["detail"] for fault in problem.get("errors", [])}
