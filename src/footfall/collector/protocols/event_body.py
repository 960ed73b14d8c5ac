"""An event as a JSON object: how its fields are checked, and the errors that name the wrong ones."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

import msgspec

from footfall.collector.address import parse_address
from footfall.collector.protocols.event_fields import FIELDS, EventBody
from footfall.collector.trust import NotTrustedError
from footfall.entry import (
    MAX_HOST,
    MAX_USER_AGENT_BYTES,
    Event,
)
from footfall.problem import INVALID, FieldError, Problem, field_errors_of, unknown_field_errors
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

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_YEAR_ONE = datetime(1, 1, 1, tzinfo=UTC) - _EPOCH

_NOT_ACCEPTED: Final = "The event was not accepted."
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
    vouch: Callable[[], None],
    origin: bytes = b"",
    is_strict: bool = False,
    explains: bool = True,
) -> Event:
    """Check the body of a `POST /event` against the contract.

    Args:
        body: the JSON text.
        received_ns: when it came, nanoseconds since 1970.
        address: whose it is, unless it says so itself.
        user_agent: as it was sent, unless it says so itself.
        vouch: called if the event is sent for a visitor. It raises a `NotTrustedError` if the sender must not do that.
        origin: the header `Origin`, which browsers send.
        is_strict: whether a field that is not known is refused.
        explains: whether to say which fields are wrong.

    Raises:
        Problem: 400 when it is not JSON, 422 with every field that is missing or wrong, or what `vouch` raises.
    """
    try:
        fields = _decode_body(body)
        is_accepted = not (is_strict and unknown_fields(body))
    except msgspec.ValidationError:
        is_accepted = False
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _not_json(error, body) from None
    if not is_accepted:
        if not explains:
            raise Problem(422, _UNEXPLAINED)
        raise Problem(422, _NOT_ACCEPTED, _field_errors_of_body(body, received_ns, is_strict=is_strict))
    if fields.ip is not None or fields.user_agent is not None:
        # Of the sender itself nothing is recorded then: what is not given of the visitor is not known.
        vouch()
        address = None if fields.ip is None else _parse_ip(fields.ip)
        user_agent = (fields.user_agent or "").encode()
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
    vouch: Callable[[], None],
    origin: bytes = b"",
    is_strict: bool = False,
) -> Iterator[Event | Problem]:
    """The events of a body with many, each checked on its own, or what is wrong with it.

    Args:
        body: a JSON array, or one JSON object a line (NDJSON).
        max_event_bytes: how long each of them may be.
        received_ns: when it came, nanoseconds since 1970.
        address: whose it is.
        user_agent: as it was sent.
        vouch: as in `parse_event`; what it raises refuses all of them.
        origin: the header `Origin`, which browsers send.
        is_strict: as in `parse_event`.

    Raises:
        Problem: 400 when the array is not JSON, 413 when there are more than `MAX_EVENTS`, 422 when there is none.
        NotTrustedError: what `vouch` raises.
    """
    explained = 0
    for event_body in split_events(body):
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
                vouch=vouch,
                is_strict=is_strict,
                explains=explained < MAX_EXPLAINED,
            )
        except NotTrustedError:
            raise
        except Problem as problem:
            explained += 1
            problem.reason = INVALID
            yield problem
        else:
            yield event


def split_events(body: bytes) -> list[bytes]:
    """The bodies of many events, one by one; raises as `read_events`."""
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
    return Problem(422, _NOT_ACCEPTED, [FieldError("timestamp", detail)])


def _parse_ip(text: str) -> str:
    address = parse_address(text)
    if address is None:
        detail = "must be one IPv4 or IPv6 address, as in 203.0.113.7 or 2001:db8::7; leave it out if it is not known"
        raise Problem(422, _NOT_ACCEPTED, [FieldError("ip", detail)])
    return address


def unknown_fields(body: bytes) -> list[str]:
    """The names of the fields that `parse_event` ignores in a body, in their order.

    Raises:
        Problem: 400 when such a name is not UTF-8.
    """
    try:
        return [name for name in _decode_fields(body) if name not in FIELDS]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _not_json(error, body) from None


def _field_errors_of_body(body: bytes, received_ns: int, *, is_strict: bool) -> list[FieldError]:
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
    if is_strict:
        field_errors += unknown_field_errors(fields, FIELDS)
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
