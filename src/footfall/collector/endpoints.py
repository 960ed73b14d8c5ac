"""What each request to the collector means: the image, the events, and the way to everything else."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final
from urllib.parse import unquote_plus

import msgspec

from footfall.collector.address import ClientAddress
from footfall.collector.admission import Admission
from footfall.collector.http import Reply
from footfall.collector.intake import Intake, Outcome
from footfall.collector.message import Request, Response
from footfall.collector.reports import ReportRequests
from footfall.entry import (
    INVALID,
    MAX_EVENTS_BYTES,
    MAX_HEADER_BYTES,
    Hit,
    ManyAccepted,
    ManyEvents,
    RefusedEvent,
    parse_event,
)
from footfall.problem import CONTENT_TYPE, Problem
from footfall.rate_limit import RateLimiter, retry_after

GIF: Final = bytes.fromhex(
    "474946383961"  # GIF89a
    "01000100 800000"  # 1 by 1, a table of two colours
    "000000 ffffff"
    "21f904 01000000 00"  # the first of them is transparent
    "2c00000000 01000100 00"
    "02 02 4401 00 3b"
)
"""The transparent 1 by 1 image, W3C GIF89a specification; 43 bytes, the fewest that all decoders take."""

_PREFLIGHT_HEADERS = {
    "access-control-allow-origin": "*",
    "access-control-allow-headers": "content-type",
    "access-control-max-age": "86400",
}
_CORS = {"access-control-allow-origin": "*"}
_NOT_STORED = {**_CORS, "cache-control": "no-store"}
_ANY_SITE = {**_CORS, "cross-origin-resource-policy": "cross-origin", "cache-control": "no-store"}

_PIXEL = Response(200, GIF, "image/gif", _ANY_SITE)
_ACCEPTED = Response(202, b'{"status":"accepted"}', "application/json", _NOT_STORED)
_PREFETCHED = Response(202, b'{"status":"skipped","reason":"prefetch"}', "application/json", _NOT_STORED)
_PREFLIGHT_TRACK = Response(204, headers={**_PREFLIGHT_HEADERS, "access-control-allow-methods": "GET, HEAD, OPTIONS"})
_PREFLIGHT_EVENT = Response(204, headers={**_PREFLIGHT_HEADERS, "access-control-allow-methods": "POST, OPTIONS"})
_UNAVAILABLE = Response.of(Problem(503, "The event can't be taken at the moment; nothing of it was recorded."), _CORS)
_UNSUPPORTED = Response.of(Problem(415, "Send application/json, or text/plain holding JSON."), _CORS)

_JSON_TYPES = {b"application/json", b"text/plain"}
_NDJSON_TYPES = {b"application/x-ndjson", b"application/ndjson", b"application/jsonl"}
_HIT_PARAMETERS = {b"site_id", b"path", b"user_id"}
_RATE_LIMITED = "rate_limited"
_COLLECTING = {b"/track", b"/event", b"/events"}
_REFUSAL_REASONS = {
    400: "malformed",
    408: "timed_out",
    413: "too_large",
    431: "head_too_large",
    500: "error",
    501: "unsupported",
    503: "overloaded",
}


class Endpoints:
    """The collector's `Application`.

    Args:
        intake: takes what is accepted.
        addresses: tells whose request it is.
        reports: answers all other requests.
        max_body_bytes: per event.
        pixel_url: an image elsewhere that `/track` sends the browser to.
        admission: the rules for what is taken; None where there are none.
        limiter: how many hits and events an address may send; None where any number.
        clock: nanoseconds since 1970.
    """

    def __init__(
        self,
        intake: Intake,
        *,
        addresses: ClientAddress,
        reports: ReportRequests,
        max_body_bytes: int,
        pixel_url: str | None = None,
        admission: Admission | None = None,
        limiter: RateLimiter | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._intake = intake
        self.has_room = intake.has_room
        self.when_room = intake.when_room
        self._addresses = addresses
        self._reports = reports
        self._max_body_bytes = max_body_bytes
        self._pixel = _PIXEL if pixel_url is None else Response(302, headers={**_ANY_SITE, "location": pixel_url})
        self._admission = admission
        self._limiter = limiter
        self._clock = clock

    def max_body_bytes(self, path: bytes) -> int:
        if path == b"/events":
            return MAX_EVENTS_BYTES
        return self._max_body_bytes if path in _COLLECTING else max(self._max_body_bytes, self._reports.max_body_bytes)

    def handle(self, request: Request, reply: Reply) -> None:
        path = request.path
        if path == b"/track":
            self._track(request, reply)
        elif path in {b"/event", b"/events"}:
            self._post(request, reply)
        else:
            self._reports.answer(request, reply)

    def refuse(self, problem: Problem, path: bytes) -> Response:
        if path and path not in _COLLECTING:
            return Response.of(problem)
        self._intake.refuse(_REFUSAL_REASONS.get(problem.status, "malformed"))
        # Whatever is wrong with the request, the page that embeds the image must not break.
        return self._pixel if path == b"/track" else Response.of(problem, _CORS)

    def _track(self, request: Request, reply: Reply) -> None:
        if request.method == b"GET":
            headers = request.headers
            if _is_ahead_of_a_visit(headers):
                self._intake.refuse("prefetch")
                reply.send(self._pixel)
                return
            referrer = headers.get(b"referer", b"")
            user_agent = headers.get(b"user-agent", b"")
            forwarded = headers.get(b"x-forwarded-for")
            address = self._addresses.of(request.peer, forwarded)
            site_id = path = user_id = None
            if request.query:
                site_id, path, user_id = _hit_parameters(request.query)
            hit = Hit(
                self._clock(),
                address,
                referrer[:MAX_HEADER_BYTES],
                user_agent[:MAX_HEADER_BYTES],
                site_id,
                path,
                user_id,
            )
            if self._admission is not None and (reason := self._admission.reason_against(headers, hit)):
                reply.send(self._pixel)
                self._intake.refuse(reason)
                return
            if self._limiter is not None and self._wait_s(request, address, 1):
                reply.send(self._pixel)
                self._intake.refuse(_RATE_LIMITED)
                return
            sender = request.sender if forwarded is None else self._addresses.sender(request.peer, address, forwarded)
            size = len(referrer) + len(user_agent) + len(request.query)
            if self._intake.is_behind:
                self._intake.add_hit(hit, size, sender, partial(_serve, reply, self._pixel))
            else:
                reply.send(self._pixel)
                self._intake.add_hit(hit, size, sender)
        elif request.method == b"HEAD":
            reply.send(self._pixel)
        elif request.method == b"OPTIONS":
            reply.send(_PREFLIGHT_TRACK)
        else:
            reply.send(_not_allowed("GET, HEAD, OPTIONS"))

    def _post(self, request: Request, reply: Reply) -> None:
        if request.method == b"OPTIONS":
            reply.send(_PREFLIGHT_EVENT)
        elif request.method != b"POST":
            reply.send(_not_allowed("POST, OPTIONS"))
        elif _content_type(request) not in (_JSON_TYPES if request.path == b"/event" else _JSON_TYPES | _NDJSON_TYPES):
            self._intake.refuse("content_type")
            reply.send(_UNSUPPORTED)
        elif _is_ahead_of_a_visit(request.headers):
            self._intake.refuse("prefetch")
            reply.send(_PREFETCHED)
        else:
            try:
                self._take(request, reply)
            except Problem as problem:
                self._intake.refuse(_reason_of(problem))
                reply.send(Response.of(problem, _CORS))

    def _take(self, request: Request, reply: Reply) -> None:
        headers = request.headers
        admission = self._admission
        if admission is not None:
            admission.check_visitor(headers)
        body = request.body
        received_ns = self._clock()
        forwarded = headers.get(b"x-forwarded-for")
        address = self._addresses.of(request.peer, forwarded)
        sender = request.sender if forwarded is None else self._addresses.sender(request.peer, address, forwarded)
        user_agent = headers.get(b"user-agent", b"")
        if request.path == b"/event":
            if wait_s := self._wait_s(request, address, 1):
                self._intake.refuse(_RATE_LIMITED)
                reply.send(_too_many(wait_s))
                return
            event = parse_event(body, received_ns=received_ns, address=address, user_agent=user_agent)
            if admission is not None:
                admission.check_event(headers, event)
            self._intake.add_events((event,), len(body), sender, partial(_acknowledge, reply, _ACCEPTED))
            return
        many = ManyEvents(
            body,
            max_event_bytes=self._max_body_bytes,
            received_ns=received_ns,
            address=address,
            user_agent=user_agent,
            check=None if admission is None else partial(admission.check_event, headers),
        )
        for reason, count in many.reasons.items():
            self._intake.refuse(reason, count)
        if wait_s := self._wait_s(request, address, len(many.accepted)):
            self._intake.refuse(_RATE_LIMITED, len(many.accepted))
            reply.send(_too_many(wait_s))
        elif many.accepted:
            answer = _many_accepted(len(many.accepted), many.refused)
            self._intake.add_events(many.accepted, len(body), sender, partial(_acknowledge, reply, answer))
        else:
            reply.send(_none_accepted(many.refused))

    def _wait_s(self, request: Request, address: str | None, count: int) -> float:
        """How long an address has to wait before it may send more; 0 when it may send so many now.

        A proxy that is not trusted would be limited for all its visitors together, so it is not limited at all.
        """
        if self._limiter is None or self._addresses.is_unnamed_proxy(request.peer, request.headers):
            return 0.0
        return self._limiter.take(address, count)


def _serve(reply: Reply, image: Response, _outcome: Outcome) -> None:
    """Whatever became of the hit, the page that embeds the image must not break."""
    reply.send(image)


def _acknowledge(reply: Reply, accepted: Response, outcome: Outcome) -> None:
    if outcome is Outcome.UNKNOWN:
        reply.abort()
    else:
        reply.send(accepted if outcome is Outcome.COMMITTED else _UNAVAILABLE)


def _many_accepted(accepted: int, refused: list[RefusedEvent]) -> Response:
    content = msgspec.json.encode(ManyAccepted("accepted", accepted, refused))
    return Response(202, content, "application/json", _NOT_STORED)


def _none_accepted(refused: list[RefusedEvent]) -> Response:
    problem = Problem(422, "None of the events was accepted.")
    return Response(422, problem.body(refused=refused), CONTENT_TYPE, _CORS)


def _reason_of(problem: Problem) -> str:
    """What an event that was not taken is counted as."""
    if problem.reason is not None:
        return problem.reason
    return "not_json" if problem.status == 400 else _REFUSAL_REASONS.get(problem.status, INVALID)


def _too_many(wait_s: float) -> Response:
    problem = Problem(429, "This address sends too many events (collector.rate_limit_per_minute); try again later.")
    return Response.of(problem, {**_CORS, "retry-after": retry_after(wait_s)})


def _content_type(request: Request) -> bytes:
    return request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()


def _is_ahead_of_a_visit(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the browser loads a page that nobody has opened yet: a prefetch or a prerendering.

    `Sec-Purpose` is of the Fetch standard, `Purpose` of older Chrome and of Safari, `X-Moz` of older Firefox.
    """
    purpose = headers.get(b"sec-purpose") or headers.get(b"purpose") or headers.get(b"x-moz")
    return purpose is not None and purpose.strip().lower().startswith((b"prefetch", b"prerender"))


def _not_allowed(methods: str) -> Response:
    return Response.of(Problem(405, f"This path takes {methods}."), {**_CORS, "allow": methods})


def _hit_parameters(query: bytes) -> tuple[str | None, str | None, str | None]:
    """`site_id`, `path` and `user_id` of a query; an empty one is as good as none, of a repeated one the first."""
    found: dict[bytes, str] = {}
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if value and name in _HIT_PARAMETERS and name not in found:
            found[name] = unquote_plus(value.decode("utf-8", "replace"))
    return found.get(b"site_id"), found.get(b"path"), found.get(b"user_id")
