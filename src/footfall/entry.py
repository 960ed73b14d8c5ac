"""Hits and events: what they are, what is checked, and the bytes they travel as.

A *hit* is a request for the image, recorded as it came; a line of an imported access log is one, too. An *event*
is what a page posted, checked field by field. Both are kept raw: what they mean (which site, which visitor, which
browser) is `enrich`'s matter, so that better rules can be applied to old batches.

Batch format: a MessagePack array of arrays; the first element of each is `"h"` (hit) or `"e"` (event), the rest
are the fields in the order they stand here. A new field is added at the end, with a default, so that any version
reads what an older one wrote.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from footfall.problem import FieldError, Problem, field_errors_of
from footfall.wording import reason_against_json

_Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Scalar = _Integer | float | str | bool | None

MAX_SITE_ID = 128
MAX_EVENT_TYPE = 64
MAX_PATH = 2_048
MAX_USER_ID = 128
MAX_REFERRER = 2_048
MAX_PROPS = 30
MAX_PROP_NAME = 128
MAX_PROP_TEXT = 65_536
MAX_EVENT_ID = 64
MAX_HEADER_BYTES = 8_192
"""What is kept of a hit's `Referer` and of its `User-Agent`, as much as nginx takes of a header by default."""
MAX_USER_AGENT_BYTES = 512
"""What is looked at of a user agent: real ones are shorter, and what a parser does must not be a stranger's choice."""
MAX_EVENTS = 1_000
"""In one `POST /events`."""
MAX_EXPLAINED = 20
"""Of those that are wrong, how many are told which fields are."""
MAX_EVENTS_BYTES = 1024 * 1024
"""The body of it."""
MAX_AHEAD = timedelta(hours=24)
"""How far in the future a client's clock may be before its timestamp is refused."""

INVALID = "invalid"
"""What the ledger counts an event as that is not what it should be."""
PAGE_VIEW = "page_view"
"""The `event_type` that counts as a view; every hit is one."""

_PropName = Annotated[str, Meta(max_length=MAX_PROP_NAME)]
_PropValue = _Integer | float | Annotated[str, Meta(max_length=MAX_PROP_TEXT)] | bool | None
"""A `Scalar`, as far as one is taken: what an older version took is still read."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_YEAR_ONE = datetime(1, 1, 1, tzinfo=UTC) - _EPOCH


class Hit(Struct, frozen=True, array_like=True, tag="h", gc=False):
    """One request for the image, or one line of an imported log.

    Header values are the bytes that were sent, up to `MAX_HEADER_BYTES`: no encoding is promised by HTTP, and the
    visits log gives back exactly what came. `site_id`, `path` and `user_id` are what the query said, or None.

    `host` is the host of the page that was viewed, for a line of an imported log: there the referrer is the page that
    led to it. It is empty where the log does not tell. For the image it is None: there the referrer is the page itself.
    """

    received_ns: int
    address: str | None
    referrer: bytes
    user_agent: bytes
    site_id: str | None = None
    path: str | None = None
    user_id: str | None = None
    host: str | None = None


class Event(Struct, frozen=True, array_like=True, tag="e"):
    """One accepted `POST /event`.

    Of the user agent it has what is looked at: each of the many in one request has its own, which could else be 64 KiB.
    `occurred_us` is the client's timestamp, microseconds since 1970, or None where it sent none.
    """

    received_ns: int
    address: str | None
    user_agent: bytes
    site_id: str
    event_type: str
    path: str | None = None
    user_id: str | None = None
    occurred_us: int | None = None
    referrer: str | None = None
    props: dict[str, Scalar] | None = None
    event_id: str | None = None


Entry = Hit | Event
"""What a batch is made of."""


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
                description="Chosen by the client: sent again within 24 hours for the same site, it counts once.",
                examples=["01JCQ3W9"],
            ),
        ]
        | None
    ) = None


_UNEXPLAINED = Problem(422, f"The event was not accepted. Only the first {MAX_EXPLAINED} are told why.")
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
_encoder = msgspec.msgpack.Encoder()
_decode_entries = msgspec.msgpack.Decoder(list[Entry]).decode
_decode_raws = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


def parse_event(
    body: bytes, *, received_ns: int, address: str | None, user_agent: bytes, explains: bool = True
) -> Event:
    """Check the body of a `POST /event` against the contract.

    Raises:
        Problem: 400 when it is not JSON, 422 with every field that is missing or wrong, unless it `explains` nothing.
    """
    try:
        fields = _decode_body(body)
    except msgspec.ValidationError:
        if not explains:
            raise _UNEXPLAINED from None
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
    )


class RefusedEvent(Struct, frozen=True):
    """One of many events that was not accepted: its place, counted from 0, and why."""

    index: int
    detail: str
    errors: list[FieldError]


class ManyAccepted(Struct, frozen=True):
    """The answer to `POST /events`: how many were accepted, and which were not."""

    status: Literal["accepted"]
    accepted: int
    refused: list[RefusedEvent]


class ManyEvents:
    """The events of a `POST /events`, each checked on its own.

    Args:
        body: a JSON array, or one JSON object a line (NDJSON).
        max_event_bytes: how long each of them may be.
        received_ns: when it came, nanoseconds since 1970.
        address: whose it is.
        user_agent: as it was sent.
        check: raises a `Problem` for an event that is not to be taken; None where any is.

    Attributes:
        accepted: those that are events.
        refused: those that are not. The fields of the first `MAX_EXPLAINED` are named: that takes 0.1 ms each, which a
            thousand of them would take from everybody else.
        reasons: how many of those there are, by what the ledger counts them as.

    Raises:
        Problem: 400 when the array is not JSON, 413 when there are more than `MAX_EVENTS`, 422 when there is none.
    """

    def __init__(
        self,
        body: bytes,
        *,
        max_event_bytes: int,
        received_ns: int,
        address: str | None,
        user_agent: bytes,
        check: Callable[[Event], None] | None = None,
    ) -> None:
        self.accepted: list[Event] = []
        self.refused: list[RefusedEvent] = []
        self.reasons: Counter[str] = Counter()
        for index, event_body in enumerate(_split_events(body)):
            try:
                if len(event_body) > max_event_bytes:
                    raise Problem(413, f"The event is longer than {max_event_bytes} bytes.")  # noqa: TRY301
                event = parse_event(
                    event_body,
                    received_ns=received_ns,
                    address=address,
                    user_agent=user_agent,
                    explains=len(self.refused) < MAX_EXPLAINED,
                )
                if check is not None:
                    check(event)
            except Problem as problem:
                self.refused.append(RefusedEvent(index, problem.detail, problem.field_errors))
                self.reasons[problem.reason or INVALID] += 1
            else:
                self.accepted.append(event)


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


def encode_entries(entries: Sequence[Entry]) -> bytes:
    return _encoder.encode(entries)


def decode_entries(payload: bytes) -> list[Entry]:
    """Read a batch's payload.

    Raises:
        msgspec.DecodeError: it is not what `encode_entries` wrote.
    """
    return _decode_entries(payload)


def join_entries(payloads: Sequence[bytes]) -> bytes:
    """One payload with the entries of several that `encode_entries` wrote; none is decoded."""
    count = 0
    bodies = []
    for payload in payloads:
        # The head of a MessagePack array: its length in the first byte, or in two or four bytes after it.
        head = {0xDC: 3, 0xDD: 5}.get(payload[0], 1)
        count += payload[0] & 0x0F if head == 1 else int.from_bytes(payload[1:head])
        bodies.append(payload[head:])
    return b"".join([b"\xdd", count.to_bytes(4), *bodies])


def drop_entries(payload: bytes, count: int) -> bytes:
    """A payload without its first entries; none is decoded.

    Raises:
        msgspec.DecodeError: it is not what `encode_entries` wrote.
    """
    return _encoder.encode(_decode_raws(payload)[count:])


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
    return Problem(400, f"The body is not JSON: {reason_against_json(error, body)}.")
