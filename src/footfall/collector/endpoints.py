"""The collector's application: takes the requests of its routes, and hands all others to the reports."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from footfall.collector import content
from footfall.collector.address import ClientAddress
from footfall.collector.admission import Admission
from footfall.collector.intake import Intake, Outcome
from footfall.collector.late import LateReplies
from footfall.collector.message import Request, Response
from footfall.collector.reply import Reply
from footfall.collector.reports import ReportRequests
from footfall.collector.route import ANY_ORIGIN, Refused, Route
from footfall.collector.static_file import StaticFile
from footfall.collector.trust import NotTrustedError
from footfall.entry import Entry
from footfall.problem import Problem
from footfall.rate_limit import RateLimiter

PREFETCH: Final = "prefetch"
"""The reason under which the ledger counts a request that a browser makes before its page is opened."""
RATE_LIMITED: Final = "rate_limited"

_LEAST_BODY_BYTES: Final = 65_536
"""On a path without a route: whoever misspells a path is told so, and not that the body is too long."""
_PREFLIGHT_AGE_S: Final = 86_400


class Endpoints:
    """The collector's `Application`.

    Args:
        intake: commits the entries.
        routes: which paths are collected.
        addresses: finds the visitor's address.
        reports: answers every request that has no route and is for none of the files.
        admission: the rules for what is taken, if there are any.
        limiter: limits how many entries an address may send.
        files: are served to everybody, and counted nowhere.
        clock: returns nanoseconds since 1970.
    """

    def __init__(
        self,
        intake: Intake,
        routes: Sequence[Route],
        *,
        addresses: ClientAddress,
        reports: ReportRequests,
        admission: Admission | None = None,
        limiter: RateLimiter | None = None,
        files: Sequence[StaticFile] = (),
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._intake = intake
        self.has_room = intake.has_room
        self.when_room = intake.when_room
        self._routes = {route.path: route for route in routes}
        self._files = {file.path: file for file in files}
        self._addresses = addresses
        self._reports = reports
        self._admission = admission
        self._limiter = limiter
        self._late_replies = LateReplies()
        self._has_rules = admission is not None or limiter is not None
        self._clock = clock

    def max_body_bytes(self, path: bytes) -> int:
        route = self._routes.get(path)
        return _LEAST_BODY_BYTES if route is None else route.max_body_bytes

    def streams_body(self, path: bytes) -> bool:
        return path not in self._routes and path not in self._files and self._reports.are_here

    def handle(self, request: Request, reply: Reply) -> None:
        route = self._routes.get(request.path)
        if route is None:
            file = self._files.get(request.path)
            if file is None:
                self._reports.answer(request, reply)
            else:
                reply.send(file.answer(request))
        elif request.method in route.methods:
            try:
                self._collect(route, request, reply)
            except NotTrustedError as problem:
                self._intake.refuse(problem.reason)
                response = _crossing(route, request.headers, route.refuse(problem, request))
                self._late_replies.send(response.extended(problem.headers), reply, problem.delay_s)
            except Problem as problem:
                self._intake.refuse(problem.reason)
                reply.send(_crossing(route, request.headers, route.refuse(problem, request)))
        elif request.method == b"OPTIONS":
            reply.send(_preflight(route, request.headers))
        elif request.method == b"HEAD" and b"GET" in route.methods:
            reply.send(_crossing(route, request.headers, route.unrecorded(request)))
        else:
            reply.send(_crossing(route, request.headers, _not_allowed(route)))

    def refuse(self, problem: Problem, path: bytes, headers: Mapping[bytes, bytes]) -> Response:
        route = self._routes.get(path)
        if route is None and path:
            return Response.of(problem)
        self._intake.refuse(problem.reason)
        return Response.of(problem) if route is None else _crossing(route, headers, route.refuse(problem, None))

    def _collect(self, route: Route, request: Request, reply: Reply) -> None:
        headers = request.headers
        if request.method == b"POST":
            _check_body(route, request)
        if (b"sec-purpose" in headers or b"purpose" in headers or b"x-moz" in headers) and _is_prefetch(headers):
            self._intake.refuse(PREFETCH)
            reply.send(_crossing(route, headers, route.unrecorded(request)))
            return
        forwarded = headers.get(b"x-forwarded-for")
        address = self._addresses.of(request.peer, forwarded)
        entries: Sequence[Any] = route.read(request, self._clock(), address)
        refused: Sequence[Refused] = ()
        if route.is_each_taken or self._has_rules:
            entries, refused = self._sift(route, request, address, entries)
        answer = route.answer
        if not isinstance(answer, Response):
            answer = answer(request, len(entries), refused)
        if route.with_credentials:
            answer = _crossing(route, headers, answer)
        if not entries:
            reply.send(answer)
            return
        sender = request.sender if forwarded is None else self._addresses.sender(request.peer, address, forwarded)
        size = len(request.target) + len(request.body)
        if route.waits:
            request.body = b""  # it need not wait as well
            self._intake.add_events(entries, size, sender, partial(_acknowledge, route, request, reply, answer))
            return
        [entry] = entries
        size += len(headers.get(b"referer", b"")) + len(headers.get(b"user-agent", b""))
        if self._intake.is_behind:
            self._intake.add_hit(entry, size, sender, partial(_serve, reply, answer))
        else:
            reply.send(answer)
            self._intake.add_hit(entry, size, sender)

    def _sift(
        self, route: Route, request: Request, address: str | None, read: Sequence[Entry | Problem]
    ) -> tuple[list[Entry], list[Refused]]:
        """Separate the entries that are taken from those that are refused, and count the latter."""
        admission = self._admission
        if admission is not None:
            admission.check_visitor(request.headers)
        entries: list[Entry] = []
        refused: list[Refused] = []
        for place, entry in enumerate(read):
            try:
                if isinstance(entry, Problem):
                    raise entry
                if admission is not None:
                    admission.check(request.headers, entry)
            except Problem as problem:
                if not route.is_each_taken:
                    raise
                self._intake.refuse(problem.reason)
                refused.append(Refused(place, problem))
            else:
                entries.append(entry)
        if self._limiter is not None and entries:
            self._limit(self._limiter, request, address, len(entries))
        return entries, refused

    def _limit(self, limiter: RateLimiter, request: Request, address: str | None, count: int) -> None:
        """Refuse what an address sends beyond its rate.

        A proxy that is not trusted is not limited: all its visitors would share one limit. Nor is a server that sends
        events for its visitors.
        """
        if request.is_trusted or self._addresses.is_unnamed_proxy(request.peer, request.headers):
            return
        if wait_s := limiter.take(address, count):
            detail = "This address sends too many events (collector.rate_limit_per_minute); try again later."
            self._intake.refuse(RATE_LIMITED, count - 1)  # whoever catches the problem counts the last one
            raise Problem(429, detail, reason=RATE_LIMITED, retry_after_s=wait_s)


def _serve(reply: Reply, answer: Response, _outcome: Outcome) -> None:
    """Send the same answer, whatever became of the entry."""
    reply.send(answer)


def _acknowledge(route: Route, request: Request, reply: Reply, answer: Response, outcome: Outcome) -> None:
    if outcome is Outcome.UNKNOWN:
        reply.abort()
    elif outcome is Outcome.REFUSED:
        problem = Problem(503, "The event can't be taken at the moment; nothing of it was recorded.")
        reply.send(_crossing(route, request.headers, route.refuse(problem, request)))
    else:
        reply.send(answer)


def _not_allowed(route: Route) -> Response:
    problem = Problem(405, f"This path takes {route.allowed}.")
    return Response.of(problem, {**_origin(route), "allow": route.allowed})


def _check_body(route: Route, request: Request) -> None:
    """Refuse a content type that the route does not take, and decode a compressed body."""
    headers = request.headers
    if route.content_types is not None:
        content_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if content_type not in route.content_types:
            raise Problem(415, f"Send {b' or '.join(route.content_types).decode()}.")
    if b"content-encoding" in headers:
        request.body = content.decode(request.body, headers[b"content-encoding"], route.max_body_bytes)


def _is_prefetch(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser prefetches or prerenders a page that nobody has opened yet.

    `Sec-Purpose` comes from the Fetch standard, `Purpose` from Safari and older versions of Chrome, `X-Moz` from older
    versions of Firefox.
    """
    purpose = headers.get(b"sec-purpose") or headers.get(b"purpose") or headers.get(b"x-moz")
    return purpose is not None and purpose.strip().lower().startswith((b"prefetch", b"prerender"))


# CORS, Fetch standard, section 3.3.


def _origin(route: Route) -> Mapping[str, str]:
    return {} if route.with_credentials else ANY_ORIGIN


def _crossing(route: Route, headers: Mapping[bytes, bytes], response: Response) -> Response:
    """The response with the origin of the page in it, if the route requires that."""
    if not route.with_credentials:
        return response
    lines = {"vary": "origin"}
    if b"origin" in headers:
        lines["access-control-allow-origin"] = headers[b"origin"].decode("latin-1")
        lines["access-control-allow-credentials"] = "true"
    return response.extended(lines)


def _preflight(route: Route, headers: Mapping[bytes, bytes]) -> Response:
    allow_headers = route.allow_headers
    if route.with_credentials:  # "*" would mean a header of this name here
        allow_headers = headers.get(b"access-control-request-headers", allow_headers.encode()).decode("latin-1")
    lines = {
        **_origin(route),
        "access-control-allow-headers": allow_headers,
        "access-control-max-age": str(_PREFLIGHT_AGE_S),
        "access-control-allow-methods": route.allowed,
    }
    return _crossing(route, headers, Response(204, headers=lines))
