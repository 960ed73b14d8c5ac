r"""One line of the visits log: what it says, and how.

    2022-12-19T14:16:49.9605280Z|https://google.com|SomeUserAgent 1.2.3|192.168.1.1

Time of the visit (ISO 8601, UTC, seven decimals), referrer, user agent, IP address, in UTF-8. A referrer or user agent
that is missing or empty is `null`, and so is an address that was left out (`footfall.visit_log.redaction`). So that no
value can forge a field or a line, these are escaped:

- `|`, `\` and control characters (U+0000 to U+001F, U+007F to U+009F) as `\xHH`,
- the line separators U+2028 and U+2029 as `\uHHHH`,
- a byte that is not UTF-8 as `\udcHH`, the surrogate that `surrogateescape` (PEP 383) makes of it,
- a value whose text is `null` as `\x6eull`.

Hex digits are lower case. Every line splits on `|` into exactly four fields, and reading gives back the bytes sent. A
referrer or user agent takes at most `MAX_FIELD_BYTES` of a line, escapes included: of a longer one, the end is cut off,
never within a character or an escape, so that reading gives back the beginning of what was sent.
"""

import re
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from msgspec import Struct

MAX_FIELD_BYTES: Final = 8_192
"""What one header may bring into a line, as much as nginx takes of one by default."""

_MISSING = "null"
_ESCAPED_MISSING = r"\x6eull"
_UNSAFE = re.compile(r"[|\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ESCAPES = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    for code in (*range(0x20), *range(0x7F, 0xA0), ord("|"), ord("\\"), 0x2028, 0x2029)
}
_CUT_ESCAPE = re.compile(rb"\\(?:x[0-9a-f]?|u[0-9a-f]{0,3})?$")
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4}))?")
_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})\.([0-9]{7})Z")

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - all is UTC here, and the text must not get an offset
_SECOND = timedelta(seconds=1)

_CACHED_VALUES = 2_048
_CACHED_BYTES = 512
"""Longer values than this are rare, and would let a visitor fill the memory."""


class VisitLine(Struct, frozen=True):
    """What a line says.

    Attributes:
        received_ns: nanoseconds since 1970, a multiple of 100.
        referrer: the header's bytes; empty when there was none.
        user_agent: the same.
        address: the visitor's IP address, or the network that it is of; None where it was left out.
    """

    received_ns: int
    referrer: bytes
    user_agent: bytes
    address: str | None


def format_line(received_ns: int, referrer: bytes, user_agent: bytes, address: str | None) -> str:
    """Put a visit as a line, without a line break; of `received_ns`, what is below 100 ns is cut off.

    Args:
        received_ns: nanoseconds since 1970.
        referrer: the header's bytes; empty where there was none.
        user_agent: the same.
        address: the visitor's; None where it is left out.

    Raises:
        ValueError: the time is outside the years 1 to 9999, or the address is empty.
    """
    if address == "":
        raise ValueError("a visit without an address has no line")
    second, fraction = divmod(received_ns // 100, 10_000_000)
    return (
        f"{_format_second(second)}.{fraction:07d}Z"
        f"|{_format_header(referrer)}|{_format_header(user_agent)}|{_MISSING if address is None else _escape(address)}"
    )


def parse_line(line: str) -> VisitLine:
    """Read a line, given without its line break.

    Raises:
        ValueError: it is not a line of the visits log; the text says why.
    """
    fields = line.split("|")
    if len(fields) != 4:
        raise ValueError(f"a line has 4 fields, this one has {len(fields)}")
    time, referrer, user_agent, address = fields
    return VisitLine(
        _parse_time(time),
        _parse_header("referrer", referrer),
        _parse_header("user agent", user_agent),
        None if address == _MISSING else _unescape("address", address),
    )


@lru_cache(maxsize=_CACHED_VALUES)
def _format_second(second: int) -> str:
    try:
        return (_EPOCH + timedelta(seconds=second)).isoformat()
    except OverflowError:
        raise ValueError("the time is outside the years 1 to 9999") from None


def _format_header(value: bytes) -> str:
    if len(value) > _CACHED_BYTES:
        return _escape_header(value)
    return _escape_known_header(value)


def _escape_header(value: bytes) -> str:
    if not value:
        return _MISSING
    # No escape makes a value shorter, so what is past the bound now would be cut off in any case.
    text = _escape(value[:MAX_FIELD_BYTES].decode(errors="surrogateescape"))
    return text if len(text) <= MAX_FIELD_BYTES // 4 else _cut(text)


def _cut(text: str) -> str:
    """At most `MAX_FIELD_BYTES` of an escaped text, without half a character or half an escape at its end."""
    encoded = text.encode()
    if len(encoded) <= MAX_FIELD_BYTES:
        return text
    return _CUT_ESCAPE.sub(b"", encoded[:MAX_FIELD_BYTES]).decode(errors="ignore")


_escape_known_header = lru_cache(maxsize=_CACHED_VALUES)(_escape_header)
"""The same few referrers and user agents make most of the traffic."""


def _escape(text: str) -> str:
    """At the speed of C: a stranger chooses how much there is to escape."""
    if _UNSAFE.search(text):
        # What is left to `backslashreplace` is surrogates, of which it makes what the format says.
        return text.translate(_ESCAPES).encode(errors="backslashreplace").decode()
    return _ESCAPED_MISSING if text == _MISSING else text


def _parse_time(text: str) -> int:
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"the time is not like 2022-12-19T14:16:49.9605280Z: {text!a}")
    try:
        moment = datetime.fromisoformat(match[1])
    except ValueError as error:
        raise ValueError(f"the time {text} does not exist: {error}") from None
    return (moment - _EPOCH) // _SECOND * 1_000_000_000 + int(match[2]) * 100


def _parse_header(name: str, field: str) -> bytes:
    if field == _MISSING:
        return b""
    try:
        return _unescape(name, field).encode(errors="surrogateescape")
    except UnicodeEncodeError as error:
        raise ValueError(f"the {name} holds an escape that stands for no byte: {error.object[error.start]!a}") from None


def _unescape(name: str, field: str) -> str:
    def character(match: re.Match[str]) -> str:
        digits = match[1] or match[2]
        if digits is None:
            raise ValueError(f"the {name} holds a backslash that is not part of an escape: {field!a}")
        return chr(int(digits, 16))

    if not field:
        raise ValueError(f"the {name} is empty, where a missing one is {_MISSING}")
    if bare := _UNSAFE.search(field.replace("\\", "")):
        raise ValueError(f"the {name} holds a character that is never written as such: {bare[0]!a}")
    return _ESCAPE.sub(character, field)
