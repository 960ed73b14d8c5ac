"""Logging in and out: `POST /session`, from the login page and from the system page."""

import asyncio
import hmac
import logging
import time
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from footfall.problem import Problem
from footfall.status import login, session
from footfall.status.access import DELAY_S, MAX_DELAYED

MAX_BODY_BYTES: Final = 4_096
_LOGGED_EVERY_S: Final = 60

_log = logging.getLogger(__name__)


def route(token: str | None) -> Route:
    """Where a browser sends the token. Who may try, and how often, is for `ReportAccess` to say.

    Args:
        token: `reporting.token`; None if it is not set.
    """
    delayed = 0
    log_from = 0.0

    async def begin_or_end(request: Request) -> Response:
        nonlocal delayed, log_from
        given = dict(parse_qsl(await _body(request)))
        if "logout" in given:
            return RedirectResponse("/", 303, {"Set-Cookie": session.end()})
        if token is None:
            return RedirectResponse("/", 303)
        if hmac.compare_digest(given.get("token", "").encode(), token.encode()):
            cookie = session.cookie(token.encode(), is_secure=_is_secure(request))
            return RedirectResponse(_page_before(request), 303, {"Set-Cookie": cookie})
        if time.monotonic() >= log_from:
            _log.warning("a wrong token for reports was given on the login page")
            log_from = time.monotonic() + _LOGGED_EVERY_S
        if delayed < MAX_DELAYED:
            delayed += 1
            try:
                await asyncio.sleep(DELAY_S)
            finally:
                delayed -= 1
        return Response(login.page(was_wrong=True), 401, login.HEADERS, login.CONTENT_TYPE)

    return Route(login.PATH, begin_or_end, methods=["POST"])


def _is_secure(request: Request) -> bool:
    """Whether the browser speaks TLS, as a proxy says. Who forges this changes nothing but his own cookie."""
    return request.headers.get("x-forwarded-proto", "").lower() == "https"


def _page_before(request: Request) -> str:
    """The path of the page where the form stood, which the browser names; else the first page."""
    before = urlsplit(request.headers.get("referer", ""))
    is_page = before.path.startswith("/") and not before.path.startswith(("//", "/\\")) and before.path != login.PATH
    return (before.path + (f"?{before.query}" if before.query else "")) if is_page else "/"


async def _body(request: Request) -> str:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise Problem(413, f"The form is larger than {MAX_BODY_BYTES} bytes.")
    return body.decode("latin-1")
