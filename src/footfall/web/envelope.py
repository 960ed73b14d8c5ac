"""What surrounds every answer: access is checked before it, security headers are added, and an error is a problem."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from footfall.problem import CONTENT_TYPE, Problem
from footfall.status import login
from footfall.status.access import MAX_DELAYED, Refusal, ReportAccess
from footfall.status.local import Origin

RETRY_AFTER_S: Final = 10
"""When a client should try again after a 503."""

_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}

_logger = logging.getLogger(__name__)


class Envelope:
    """ASGI middleware.

    Args:
        app: makes the answers.
        access: decides who may ask; None behind a collector, which has decided already.
    """

    def __init__(self, app: ASGIApp, access: ReportAccess | None) -> None:
        self._app = app
        self._access = access
        self._delayed = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = None if self._access is None else _refusal(self._access, scope)
        if refusal is not None:
            await self._delay(refusal.delay_s)
            answer = (
                Response(refusal.page, refusal.problem.status, refusal.headers, login.CONTENT_TYPE)
                if refusal.page
                else _answer(refusal.problem, scope["path"], refusal.headers)
            )
            await answer(scope, receive, send_with_headers)
            return
        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            if has_started:
                raise
            _logger.exception("%s %r failed", scope["method"], scope["path"])
            problem = Problem(500, "Footfall failed to answer this request; its log says why.")
            await _answer(problem, scope["path"])(scope, receive, send_with_headers)

    async def _delay(self, seconds: float) -> None:
        if not seconds or self._delayed >= MAX_DELAYED:
            return
        self._delayed += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self._delayed -= 1


def on_problem(request: Request, error: Exception) -> Response:
    """Answer a request that an endpoint has refused."""
    assert isinstance(error, Problem)
    return _answer(error, request.scope["path"])


def on_http_exception(request: Request, error: Exception) -> Response:
    """Answer a request that the router has refused."""
    assert isinstance(error, HTTPException)
    path = request.scope["path"]  # not request.url, which is made from the Host header, too
    details = {
        404: f"There is nothing at {path}; /docs lists what there is.",
        405: f"{path} does not take {request.method}.",
    }
    problem = Problem(error.status_code, details.get(error.status_code, error.detail))
    return _answer(problem, path, error.headers)


def _refusal(access: ReportAccess, scope: Scope) -> Refusal | None:
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        headers[name] = b"%b, %b" % (headers[name], value) if name in headers else value
    return access.refusal(scope["path"], headers, Origin(scope["http_version"], scope["client"], scope["server"]))


def _answer(problem: Problem, path: str, headers: Mapping[str, str] | None = None) -> Response:
    response = Response(problem.body_for(path), problem.status, headers, media_type=CONTENT_TYPE)
    if problem.status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response
