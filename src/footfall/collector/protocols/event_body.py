"""An event as a JSON object: its fields, how they are checked, and the errors that name the wrong ones."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from footfall.entry import (
    MAX_ENGAGED_MS,
    MAX_EVENT_ID,
    MAX_EVENT_TYPE,
    MAX_HOST,
    MAX_LANGUAGE,
    MAX_PATH,
    MAX_PROP_NAME,
    MAX_PROP_TEXT,
    MAX_PROPS,
    MAX_REFERRER,
    MAX_SCREEN_WIDTH,
    MAX_SITE_ID,
    MAX_USER_AGENT_BYTES,
    MAX_USER_ID,
    PAGE_VIEW,
    Event,
    Integer,
)
from footfall.problem import INVALID, FieldError, Problem, field_errors_of
from footfall.referrer import host_of
from footfall.wording import reason_against_json

MAX_EVENTS: Final = 1_000
"""In one body."""
MAX_EXPLAINED: Final = 20
"""How many wrong events of one request are told which fields are wrong, which takes 0.1 ms each."""
MAX_AHEAD: Final = timedelta(hours=24)
"""How far in the future a client's clock may be before its timestamp is refused."""

NOT_JSON: Final = "not_json"
"""The reason under which the ledger counts a body that is not JSON."""

_PropName = Annotated[str, Meta(max_length=MAX_PROP_NAME)]
_PropValue = Integer | float | Annotated[str, Meta(max_length=MAX_PROP_TEXT)] | bool | None
"""A `Scalar` within the limits of a request; batches of an older version may hold longer ones."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_YEAR_ONE = datetime(1, 1, 1, tzinfo=UTC) - _EPOCH


class EventBody(Struct, frozen=True):
    """The JSON body of `POST /event`; a field that is not here is ignored."""

    site_id: Annotated[
        str,
        Meta(min_length=1, max_length=MAX_SITE_ID, description="Which site it happened on.", examples=["my-blog"]),
    ]
    event_type: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=MAX_EVENT_TYPE,
            description="`page_view` is what counts as a view.",
            examples=[PAGE_VIEW],
        ),
    ]
    path: Annotated[str, Meta(max_length=MAX_PATH, description="The page.", examples=["/pricing"])] | None = None
    user_id: (
        Annotated[
            str,
            Meta(
                max_length=MAX_USER_ID,
                description="Who; without it a visitor is told apart by a hash that lasts one day.",
                examples=["user-42"],
            ),
        ]
        | None
    ) = None
    timestamp: (
        Annotated[
            str,
            Meta(
                description="When, ISO 8601 with an offset or `Z`; the time of receipt without it.",
                examples=["2025-11-12T09:30:00Z"],
            ),
        ]
        | None
    ) = None
    referrer: (
        Annotated[
            str,
            Meta(
                max_length=MAX_REFERRER,
                description="The page that led here.",
                examples=["https://news.example/"],
            ),
        ]
        | None
    ) = None
    props: (
        Annotated[
            dict[_PropName, _PropValue],
            Meta(max_length=MAX_PROPS, description="Anything else, scalars only.", examples=[{"plan": "free"}]),
        ]
        | None
    ) = None
    event_id: (
        Annotated[
            str,
            Meta(
                max_length=MAX_EVENT_ID,
                description="Unguessable. One that is sent again within 24 hours for the same site counts once.",
                examples=["0b8bbe0e-5b58-4a55-9d0c-1c9f8d7a2f43"],
            ),
        ]
        | None
    ) = None
    screen_width: (
        Annotated[
            int,
            Meta(ge=0, le=MAX_SCREEN_WIDTH, description="Of the visitor's screen, in CSS pixels.", examples=[1920]),
        ]
        | None
    ) = None
    language: (
        Annotated[
            str, Meta(max_length=MAX_LANGUAGE, description="Of the visitor's browser, BCP 47.", examples=["pt-BR"])
        ]
        | None
    ) = None
    scroll_depth: (
        Annotated[int, Meta(ge=0, le=100, description="How much of the page was seen, in percent.", examples=[80])]
        | None
    ) = None
    engaged_ms: (
        Annotated[
            int,
            Meta(ge=0, le=MAX_ENGAGED_MS, description="How long the page was in use, milliseconds.", examples=[12_500]),
        ]
        | None
    ) = None
    interactive: (
        Annotated[
            bool,
            Meta(description="`false` if the visitor did nothing, so that the visit may still be a bounce."),
        ]
        | None
    ) = None


_UNEXPLAINED = f"The event was not accepted. Only the first {MAX_EXPLAINED} are told why."
_decode_body = msgspec.json.Decoder(EventBody).decode
_decode_any = msgspec.json.Decoder().decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
# A list would be read to its end, half a million numbers perhaps; this is given up at the first element too many.
_Array = msgspec.defstruct(
    "_Array",
    [(f"event_{index}", msgspec.Raw, msgspec.Raw()) for index in range(MAX_EVENTS)],
    array_like=True,
    forbid_unknown_fields=True,
)
_decode_array = msgspec.json.Decoder(_Array).decode
_LINE = re.compile(rb"\S[^\n]*")


def parse_event(
    body: bytes,
    *,
    received_ns: int,
    address: str | None,
    user_agent: bytes,
    origin: bytes = b"",
    explains: bool = True,
) -> Event:
    """Check the body of a `POST /event` against the contract.

    Raises:
        Problem: 400 when it is not JSON, 422 with every field that is missing or wrong, unless it `explains` nothing.
    """
    try:
        fields = _decode_body(body)
    except msgspec.ValidationError:
        if not explains:
            raise Problem(422, _UNEXPLAINED) from None
        raise Problem(422, "The event was not accepted.", _field_errors_of_body(body, received_ns)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _not_json(error, body) from None
    occurred_us = None if fields.timestamp is None else _parse_timestamp(fields.timestamp, received_ns)
    return Event(
        received_ns,
        address,
        user_agent[:MAX_USER_AGENT_BYTES],
        fields.site_id,
        fields.event_type,
        fields.path or None,
        fields.user_id or None,
        occurred_us,
        fields.referrer or None,
        fields.props or None,
        fields.event_id or None,
        host_of(origin)[:MAX_HOST] or None,
        fields.screen_width,
        fields.language or None,
        fields.scroll_depth,
        fields.engaged_ms,
        fields.interactive,
    )


def read_events(
    body: bytes,
    *,
    max_event_bytes: int,
    received_ns: int,
    address: str | None,
    user_agent: bytes,
    origin: bytes = b"",
) -> Iterator[Event | Problem]:
    """The events of a body with many, each checked on its own, or what is wrong with it.

    Args:
        body: a JSON array, or one JSON object a line (NDJSON).
        max_event_bytes: how long each of them may be.
        received_ns: when it came, nanoseconds since 1970.
        address: whose it is.
        user_agent: as it was sent.
        origin: the header `Origin`, which browsers send.

    Raises:
        Problem: 400 when the array is not JSON, 413 when there are more than `MAX_EVENTS`, 422 when there is none.
    """
    explained = 0
    for event_body in _split_events(body):
        if len(event_body) > max_event_bytes:
            yield Problem(413, f"The event is longer than {max_event_bytes} bytes.", reason=INVALID)
            continue
        try:
            event = parse_event(
                event_body,
                received_ns=received_ns,
                address=address,
                user_agent=user_agent,
                origin=origin,
                explains=explained < MAX_EXPLAINED,
            )
        except Problem as problem:
            explained += 1
            problem.reason = INVALID
            yield problem
        else:
            yield event


def _split_events(body: bytes) -> list[bytes]:
    if body.lstrip().startswith(b"["):
        try:
            bodies = [bytes(raw) for raw in msgspec.structs.astuple(_decode_array(body)) if raw]
        except msgspec.ValidationError:
            raise _too_many() from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _not_json(error, body) from None
    else:
        bodies = [line[0] for line in islice(_LINE.finditer(body), MAX_EVENTS + 1)]
        if len(bodies) > MAX_EVENTS:
            raise _too_many()
    if not bodies:
        raise Problem(422, "There is no event in the body.")
    return bodies


def _too_many() -> Problem:
    return Problem(413, f"There are more than {MAX_EVENTS} events; send fewer at once.")


def _parse_timestamp(text: str, received_ns: int) -> int:
    """Microseconds since 1970 of an ISO 8601 text with an offset."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _timestamp_problem("is not an ISO 8601 date and time") from None
    if moment.tzinfo is None:
        raise _timestamp_problem("needs an offset, as in 2025-11-12T09:30:00Z or 2025-11-12T10:30:00+01:00")
    age = moment - _EPOCH
    if age < _YEAR_ONE:
        raise _timestamp_problem("is before the year 1")
    if age > timedelta(microseconds=received_ns // 1_000) + MAX_AHEAD:
        raise _timestamp_problem("is more than 24 hours in the future")
    return age // _MICROSECOND


def _timestamp_problem(detail: str) -> Problem:
    return Problem(422, "The event was not accepted.", [FieldError("timestamp", detail)])


def _field_errors_of_body(body: bytes, received_ns: int) -> list[FieldError]:
    """Every field that is wrong: the fast decoder stops at the first.

    Each is read by itself, so that a number which fits no type at all is blamed on the field that holds it.
    """
    try:
        fields = _decode_fields(body)
        field_errors = field_errors_of(fields, EventBody, msgspec.json.decode)
    except msgspec.ValidationError:
        return _errors_of_no_object(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _not_json(error, body) from None
    if "timestamp" in fields and all(error.field != "timestamp" for error in field_errors):
        timestamp = msgspec.json.decode(fields["timestamp"], type=str | None)
        try:
            if timestamp is not None:
                _parse_timestamp(timestamp, received_ns)
        except Problem as problem:
            field_errors += problem.field_errors
    return field_errors or [FieldError("", "a field is given twice, and is wrong once")]


def _errors_of_no_object(body: bytes) -> list[FieldError]:
    """The decoder says so at the first byte; whether it is JSON at all shows at the last."""
    try:
        _decode_any(body)
    except msgspec.ValidationError:
        pass  # a number too large for anything, and JSON for all that
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _not_json(error, body) from None
    return [FieldError("", "the body must be a JSON object")]


def _not_json(error: Exception, body: bytes) -> Problem:
    return Problem(400, f"The body is not JSON: {reason_against_json(error, body)}.", reason=NOT_JSON)
