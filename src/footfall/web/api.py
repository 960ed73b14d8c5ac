"""The reporting API: figures, the state of the process, and the documentation, over HTTP."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from footfall.database.reports import Reports
from footfall.problem import CONTENT_TYPE, Problem
from footfall.status.access import MAX_DELAYED, Refusal, ReportAccess
from footfall.status.local import Origin
from footfall.status.service import PATHS as OBSERVED
from footfall.status.service import ServiceStatus
from footfall.web import docs, openapi
from footfall.web.stats import StatsAnswer, parse_query

MAX_REPORTS: Final = 4
"""How many reports are made at the same time; each may take every core."""
LIMIT_S: Final = 15.0
"""How long a request waits for its turn, and how long each query for it may take (DuckDB makes two)."""
RETRY_AFTER_S: Final = 10

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
_KEPT = {"Cache-Control": "public, max-age=86400"}

_logger = logging.getLogger(__name__)


def build_app(
    *, reports: Reports, access: ReportAccess | None, status: ServiceStatus, wait_s: float = LIMIT_S
) -> Starlette:
    """Put the API together.

    Args:
        reports: answers for the figures.
        access: who may ask; None behind a collector, which has decided that.
        status: answers for the state of this process.
        wait_s: how many seconds a request may wait for its turn.

    Raises:
        FileNotFoundError: the files of `/docs` are not installed.
    """
    desk = _Desk(reports, wait_s)
    return _app([Route("/stats", desk.stats), *_status_routes(status), *_documentation()], access)


def build_monitor(*, access: ReportAccess, status: ServiceStatus) -> Starlette:
    """What is left where there are no reports: the state of the service."""
    return _app(_status_routes(status), access)


def _status_routes(status: ServiceStatus) -> list[Route]:
    async def observe(request: Request) -> Response:
        answer = await run_in_threadpool(status.answer, request.scope["path"])
        return Response(answer.body, answer.status, media_type=answer.content_type)

    return [Route(path, observe) for path in sorted(OBSERVED)]


def _app(routes: list[Route], access: ReportAccess | None) -> Starlette:
    app = Starlette(
        routes=routes,
        middleware=[Middleware(_Envelope, access=access)],
        exception_handlers={Problem: _on_problem, HTTPException: _on_http_exception},
    )
    app.router.redirect_slashes = False
    return app


class _Desk:
    """Makes reports in threads, a few at a time, so that the event loop and the other cores stay free."""

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


class _Envelope:
    """Around every answer: who may ask before it, the security headers on it, a problem where there would be none."""

    def __init__(self, app: ASGIApp, access: ReportAccess | None) -> None:
        self._app = app
        self._access = access
        self._delayed = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = None if self._access is None else _refusal(self._access, scope)
        if refusal is not None:
            await self._delay(refusal.delay_s)
            await _answer(refusal.problem, refusal.headers)(scope, receive, send_with_headers)
            return
        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            if started:
                raise
            _logger.exception("%s %r failed", scope["method"], scope["path"])
            problem = Problem(500, "Footfall failed to answer this; its log says why.")
            await _answer(problem)(scope, receive, send_with_headers)

    async def _delay(self, seconds: float) -> None:
        if not seconds or self._delayed >= MAX_DELAYED:
            return
        self._delayed += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self._delayed -= 1


def _refusal(access: ReportAccess, scope: Scope) -> Refusal | None:
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        headers[name] = b"%b, %b" % (headers[name], value) if name in headers else value
    return access.refusal(scope["path"], headers, Origin(scope["http_version"], scope["client"], scope["server"]))


def _answer(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    response = Response(problem.body(), problem.status, headers, media_type=CONTENT_TYPE)
    if problem.status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def _on_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return _answer(error)


def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"]  # what ReportAccess saw; request.url is made from the Host header, too
    details = {
        404: f"There is nothing at {path}; /docs lists what there is.",
        405: f"{path} does not take {request.method}.",
    }
    response = _answer(Problem(error.status_code, details.get(error.status_code, error.detail)))
    response.headers.update(error.headers or {})
    return response


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _documentation() -> list[Route]:
    """What never changes while the process lives; a response is an ASGI application, so it is its own endpoint."""
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
