"""Footfall's own protocol: `GET /track`, `POST /event` and `POST /events`."""

from collections.abc import Sequence
from functools import cache, partial
from typing import Final, Literal, NamedTuple
from urllib.parse import unquote_plus

import msgspec
from msgspec import UNSET, Struct, UnsetType

from footfall.collector.message import Request, Response
from footfall.collector.protocols.event_body import parse_event, read_events, split_events, unknown_fields
from footfall.collector.route import ANY_ORIGIN, Refused, Route
from footfall.collector.trust import TrustedSenders
from footfall.entry import MAX_HEADER_BYTES, Event, Hit
from footfall.problem import CONTENT_TYPE, FieldError, Problem
from footfall.settings import CollectorSettings

GIF: Final = bytes.fromhex(
    "474946383961"  # GIF89a
    "01000100 800000"  # 1 by 1, a table of two colours
    "000000 ffffff"
    "21f904 01000000 00"  # the first of them is transparent
    "2c00000000 01000100 00"
    "02 02 4401 00 3b"
)
"""The transparent 1 by 1 image, W3C GIF89a specification; 43 bytes, the fewest that all decoders take."""

MAX_EVENTS_BYTES: Final = 1024 * 1024
"""The body of a `POST /events`."""
JSON_TYPES: Final = (b"application/json", b"text/plain")
"""With the second one `navigator.sendBeacon` needs no preflight."""
NDJSON_TYPES: Final = (b"application/x-ndjson", b"application/ndjson", b"application/jsonl")

REFUSED_HEADER: Final = "x-footfall-refused"
"""On the image of a hit that was not recorded: what the ledger counts it as."""

_NOT_STORED = {**ANY_ORIGIN, "cache-control": "no-store"}
_ANY_SITE = {**ANY_ORIGIN, "cross-origin-resource-policy": "cross-origin", "cache-control": "no-store"}
_ACCEPTED = Response(202, b'{"status":"accepted"}', "application/json", _NOT_STORED)
_PREFETCHED = Response(202, b'{"status":"skipped","reason":"prefetch"}', "application/json", _NOT_STORED)
_HIT_PARAMETERS = {b"site_id", b"path", b"user_id"}


class _Options(NamedTuple):
    """What a client may ask for with an event.

    Attributes:
        is_strict: a field that is not known is refused.
        explains: the answer says which fields were ignored.
    """

    is_strict: bool
    explains: bool


class RefusedEvent(Struct, frozen=True):
    """An event that was not accepted: its place in the request, counted from 0, and the reason."""

    index: int
    detail: str
    errors: list[FieldError]


class Accepted(Struct, frozen=True):
    """The answer to `POST /event`; `ignored` has the fields that are not known, if the client asks (`explain=1`)."""

    status: Literal["accepted"]
    ignored: list[str] | UnsetType = UNSET


class ManyAccepted(Struct, frozen=True):
    """The answer to `POST /events`: how many events were accepted, and which were not; `ignored` as in `Accepted`."""

    status: Literal["accepted"]
    accepted: int
    refused: list[RefusedEvent]
    ignored: list[str] | UnsetType = UNSET


def routes(settings: CollectorSettings, trusted: TrustedSenders) -> list[Route]:
    """The three paths."""
    return [
        _image(settings),
        Route(
            path=b"/event",
            read=partial(_read_event, trusted),
            answer=_answer_event,
            refuse=_refuse,
            unrecorded=lambda _: _PREFETCHED,
            methods=(b"POST",),
            content_types=JSON_TYPES,
            max_body_bytes=settings.max_body_bytes,
        ),
        Route(
            path=b"/events",
            read=partial(_read_events, trusted, settings.max_body_bytes),
            answer=_answer_many,
            refuse=_refuse,
            unrecorded=lambda _: _PREFETCHED,
            methods=(b"POST",),
            content_types=JSON_TYPES + NDJSON_TYPES,
            max_body_bytes=MAX_EVENTS_BYTES,
            is_each_taken=True,
        ),
    ]


def _image(settings: CollectorSettings) -> Route:
    """Every request gets the image, for the page that embeds it must not break.

    Whoever looks for a hit that is missing finds the reason in a header of the image.
    """
    url = settings.pixel_url
    image = _image_with({}, url)
    refused = cache(lambda reason: _image_with({REFUSED_HEADER: reason}, url))
    return Route(
        path=b"/track",
        read=_read_hit,
        answer=image,
        refuse=lambda problem, _: refused(problem.reason),
        unrecorded=lambda _: image,
        methods=(b"GET",),
        max_body_bytes=settings.max_body_bytes,
        waits=False,
    )


def _image_with(headers: dict[str, str], url: str | None) -> Response:
    if url is None:
        return Response(200, GIF, "image/gif", _ANY_SITE | headers)
    return Response(302, headers={**_ANY_SITE, "location": url, **headers})


def _read_hit(request: Request, received_ns: int, address: str | None) -> tuple[Hit]:
    headers = request.headers
    referrer = headers.get(b"referer", b"")[:MAX_HEADER_BYTES]
    user_agent = headers.get(b"user-agent", b"")[:MAX_HEADER_BYTES]
    site_id = path = user_id = None
    if request.query:
        site_id, path, user_id = _hit_parameters(request.query)
    return (Hit(received_ns, address, referrer, user_agent, site_id, path, user_id),)


def _read_event(trusted: TrustedSenders, request: Request, received_ns: int, address: str | None) -> tuple[Event]:
    event = parse_event(
        request.body,
        received_ns=received_ns,
        address=address,
        user_agent=request.headers.get(b"user-agent", b""),
        origin=request.headers.get(b"origin", b""),
        vouch=partial(trusted.check, request, address),
        is_strict=bool(request.query) and _options(request.query).is_strict,
    )
    return (event,)


def _answer_event(request: Request, _accepted: int, _refused: Sequence[Refused]) -> Response:
    if not request.query or not _options(request.query).explains:
        return _ACCEPTED
    return _accept(Accepted("accepted", unknown_fields(request.body)))


def _read_events(
    trusted: TrustedSenders, max_event_bytes: int, request: Request, received_ns: int, address: str | None
) -> list[Event | Problem]:
    events = read_events(
        request.body,
        max_event_bytes=max_event_bytes,
        received_ns=received_ns,
        address=address,
        user_agent=request.headers.get(b"user-agent", b""),
        origin=request.headers.get(b"origin", b""),
        vouch=partial(trusted.check, request, address),
        is_strict=_options(request.query).is_strict,
    )
    return list(events)


def _answer_many(request: Request, accepted: int, refused: Sequence[Refused]) -> Response:
    said = [RefusedEvent(place, problem.detail, problem.field_errors) for place, problem in refused]
    if accepted:
        ignored = _ignored(request.body, refused) if _options(request.query).explains else UNSET
        return _accept(ManyAccepted("accepted", accepted, said, ignored))
    problem = Problem(422, "None of the events was accepted.")
    return Response(422, problem.body(refused=said), CONTENT_TYPE, ANY_ORIGIN)


def _ignored(body: bytes, refused: Sequence[Refused]) -> list[str]:
    """The unknown fields of the events that were accepted, each name once."""
    refused_places = {place for place, _ in refused}
    names: dict[str, None] = {}
    for place, event_body in enumerate(split_events(body)):
        if place not in refused_places:
            names.update(dict.fromkeys(unknown_fields(event_body)))
    return list(names)


def _accept(answer: Accepted | ManyAccepted) -> Response:
    return Response(202, msgspec.json.encode(answer), "application/json", _NOT_STORED)


def _refuse(problem: Problem, _request: Request | None) -> Response:
    return Response.of(problem, ANY_ORIGIN)


def _hit_parameters(query: bytes) -> tuple[str | None, str | None, str | None]:
    """`site_id`, `path` and `user_id` of a query. An empty one is ignored; of a repeated one the first counts."""
    found: dict[bytes, str] = {}
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if value and name in _HIT_PARAMETERS and name not in found:
            found[name] = unquote_plus(value.decode("utf-8", "replace"))
    return found.get(b"site_id"), found.get(b"path"), found.get(b"user_id")


def _options(query: bytes) -> _Options:
    """What the query of a request for `/event` or `/events` asks for; anything else in it is ignored.

    Raises:
        Problem: 422 when a value is neither 1 nor 0.
    """
    given: dict[bytes, bytes] = {}
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        given.setdefault(name, value)
    wrong = [name for name in (b"strict", b"explain") if given.get(name, b"0") not in {b"0", b"1"}]
    if wrong:
        raise Problem(422, "Nothing was accepted.", [FieldError(name.decode(), "must be 1 or 0") for name in wrong])
    return _Options(given.get(b"strict") == b"1", given.get(b"explain") == b"1")
