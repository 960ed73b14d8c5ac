"""The reporting API: figures, the state of the service, and the documentation, over HTTP."""

import asyncio
import logging
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from footfall.database.reports import Reports
from footfall.problem import Problem
from footfall.status.access import ReportAccess
from footfall.status.service import PATHS as STATUS_PATHS
from footfall.status.service import ServiceStatus
from footfall.web import docs, openapi
from footfall.web.envelope import Envelope, on_http_exception, on_problem
from footfall.web.stats import StatsAnswer, parse_query

MAX_REPORTS: Final = 4
"""Reports that are made at the same time; each may use every core."""
LIMIT_S: Final = 15.0
"""How long a request may wait until others are done, and how long its queries may take after that."""

_KEPT = {"Cache-Control": "public, max-age=86400"}

_logger = logging.getLogger(__name__)


def build_app(
    *, reports: Reports, access: ReportAccess | None, status: ServiceStatus, wait_s: float = LIMIT_S
) -> Starlette:
    """The API with everything.

    Args:
        reports: reads the figures.
        access: decides who may ask; None behind a collector, which has decided already.
        status: answers for the state of the service.
        wait_s: how many seconds a request may wait until others are done.

    Raises:
        FileNotFoundError: the files of `/docs` are not installed.
    """
    desk = _Desk(reports, wait_s)
    return _app([Route("/stats", desk.stats), *_status_routes(status), *_documentation()], access)


def build_monitor(*, access: ReportAccess, status: ServiceStatus) -> Starlette:
    """The API of a service without reports: its state alone."""
    return _app(_status_routes(status), access)


def _status_routes(status: ServiceStatus) -> list[Route]:
    async def tell(request: Request) -> Response:
        answer = await run_in_threadpool(status.answer, request.scope["path"])
        return Response(answer.body, answer.status, media_type=answer.content_type)

    return [Route(path, tell) for path in sorted(STATUS_PATHS)]


def _app(routes: list[Route], access: ReportAccess | None) -> Starlette:
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Envelope, access=access)],
        exception_handlers={Problem: on_problem, HTTPException: on_http_exception},
    )
    app.router.redirect_slashes = False
    return app


class _Desk:
    """Makes reports in threads, a few at a time, so that the event loop stays free for other requests."""

    def __init__(self, reports: Reports, wait_s: float) -> None:
        self._reports = reports
        self._wait_s = wait_s
        self._slots = asyncio.Semaphore(MAX_REPORTS)

    async def stats(self, request: Request) -> Response:
        query = parse_query(request.query_params.multi_items())
        try:
            async with asyncio.timeout(self._wait_s):
                await self._slots.acquire()
        except TimeoutError:
            raise Problem(503, "Too many reports are being made. Try again later.") from None
        try:
            stats = await run_in_threadpool(
                self._reports.stats, query.site_id, first=query.first_day, last=query.last_day, limit=query.limit
            )
        except TimeoutError:
            raise Problem(503, "The report took too long. Ask for fewer days, or try again later.") from None
        except OSError as error:
            _logger.warning("a report can't be made: %s", error)
            raise Problem(503, "The database can't be reached. Try again later.") from None
        finally:
            self._slots.release()
        return _json(msgspec.json.encode(StatsAnswer.of(query, stats)))


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _documentation() -> list[Route]:
    """Answers that never change. A Starlette response is an ASGI application, so each is its own endpoint."""
    folder = docs.asset_folder()
    page_headers = {"Content-Security-Policy": docs.CONTENT_SECURITY_POLICY}
    answers = {
        "/": RedirectResponse("/docs", 302),
        "/openapi.json": _json(msgspec.json.encode(openapi.document())),
        "/docs": Response(docs.PAGE, headers=page_headers, media_type="text/html"),
        "/docs/init.js": Response(docs.INIT_SCRIPT, headers=_KEPT, media_type="text/javascript"),
    }
    for name, media_type in docs.ASSETS.items():
        answers[f"/docs/{name}"] = Response((folder / name).read_bytes(), headers=_KEPT, media_type=media_type)
    return [Route(path, answer, methods=["GET"]) for path, answer in answers.items()]
