r"""Lines of an access log as Apache and nginx write them by default. Pure: bytes in, a `LogLine` out.

    192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET /about?x=1 HTTP/1.1" 200 512 "https://news.example/" "Mozilla/5.0"

That is Combined Log Format, Apache's `"%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\""`
(https://httpd.apache.org/docs/2.4/mod/mod_log_config.html) and nginx's built-in `combined`
(https://nginx.org/en/docs/http/ngx_http_log_module.html). Common Log Format ends with the size. Before either there may
be the virtual host, with its port or without, as in Debian's `vhost_combined`. Fields that a site has added at the end
are passed over. Quoted fields are escaped: Apache writes `\"`, `\\`, `\b`, `\n`, `\r`, `\t`, `\v` and `\xHH`, nginx
`\xHH` alone.
"""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Final

from msgspec import Struct

_QUOTED = rb'[^"\\]*(?:\\.[^"\\]*)*'

# A line, piece by piece, and what is wrong with one that ends or differs there. No two neighbouring repeats can match
# the same bytes, so that a long hostile line takes linear time.
_ADDRESS = rb"(?P<address>[0-9A-Fa-f:.]+(?:%[\w.-]+)?|[\w.-]+|unix:) "
_HOST_AND_ADDRESS = (
    (rb"(?:(?P<host>[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?) ", "no virtual host"),
    # A name or an address: else a user's name with a blank in it would be taken for the rest of a line without a host.
    (rb"(?=[^ ]*[.:])" + _ADDRESS, "no address"),
)
_REQUEST = (
    (rb"[^ ]+ [^\[]+\[", "no time"),
    (rb"(?P<minute>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d):(?P<second>\d\d) (?P<offset>[+-]\d{4})\] ", "no time"),
    (rb'"', "no request"),
    (rb"(?P<request>" + _QUOTED + rb')"', "no closing quote of the request"),
    (rb" (?P<status>\d{3}) ", "no status"),
    (rb"(?P<size>\d{1,19}|-)(?= |\Z)", "no size"),
)
_NO_HEADERS = ((rb'(?! ")', "a referrer that is not whole"),)
_HEADERS = (
    (rb' "', "no referrer"),
    (rb"(?P<referrer>" + _QUOTED + rb')"', "no closing quote of the referrer"),
    (rb' "', "no user agent"),
    (rb"(?P<user_agent>" + _QUOTED + rb')"', "no closing quote of the user agent"),
    (rb"(?= |\Z)", "no space after the user agent"),
)

_Pieces = tuple[tuple[bytes, str], ...]


class LogFormat:
    """What the lines of a log hold.

    Args:
        name: for a person.
        pieces: each a pattern, and what is wrong with a line that does not go on with it.

    Attributes:
        name: as above.
        line: matches a line.
        has_host: a line begins with the virtual host.
        has_headers: it has a referrer and a user agent.
    """

    def __init__(self, name: str, pieces: _Pieces) -> None:
        self.name = name
        self.line = re.compile(b"".join(piece for piece, _ in pieces), re.DOTALL)
        self.has_host = "host" in self.line.groupindex
        self.has_headers = "referrer" in self.line.groupindex
        self._reasons = [(re.compile(piece, re.DOTALL), reason) for piece, reason in pieces]

    def reason_against(self, line: bytes) -> str:
        """What is wrong with a line that does not match: the first piece that is not there."""
        if not line.strip():
            return "blank"
        position = 0
        for piece, reason in self._reasons:
            match = piece.match(line, position)
            if match is None:
                return reason
            position = match.end()
        raise AssertionError("every piece matches, so the line does")


_PLAIN: _Pieces = ((_ADDRESS, "no address"),)

COMBINED: Final = LogFormat("Combined Log Format", (*_PLAIN, *_REQUEST, *_HEADERS))
COMMON: Final = LogFormat("Common Log Format", (*_PLAIN, *_REQUEST, *_NO_HEADERS))
HOST_COMBINED: Final = LogFormat(
    "Combined Log Format behind a virtual host", (*_HOST_AND_ADDRESS, *_REQUEST, *_HEADERS)
)
HOST_COMMON: Final = LogFormat("Common Log Format behind a virtual host", (*_HOST_AND_ADDRESS, *_REQUEST, *_NO_HEADERS))

FORMATS: Final = (HOST_COMBINED, COMBINED, HOST_COMMON, COMMON)
"""Those that are understood. A line that fits several is one of the first: the others leave something out of it."""


def recognise(lines: Iterable[bytes]) -> LogFormat | None:
    """The format that most of `lines` have, or None where none of them has any."""
    counts = dict.fromkeys(FORMATS, 0)
    for line in lines:
        for log_format in FORMATS:
            if log_format.line.match(line.rstrip(b"\r\n")):
                counts[log_format] += 1
                break
    best = max(FORMATS, key=lambda log_format: counts[log_format])
    return best if counts[best] else None


_NO_ADDRESS = {b"-", b"unix:"}
"""`unix:` is what nginx writes for a client that came through a UNIX socket."""

_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110's token."""

_ORIGIN = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
"""What stands before the path in absolute-form, RFC 9112, section 3.2.2."""

_PATH_END = re.compile(rb"[?#]")

_ESCAPE = re.compile(rb'\\(?:x([0-9A-Fa-f]{2})|(["\\bnrtv]))')
_SHORT_ESCAPES = {b'"': b'"', b"\\": b"\\", b"b": b"\b", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}

# Not strptime's names: those change with the locale.
_MONTHS = {
    name: number
    for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), start=1)
}  # fmt: skip
_YEARS = range(1970, 2262)
"""Their nanoseconds fit into 64 bits, and there was no web before."""


class MalformedLineError(ValueError):
    """A line is not what the format says; `reason` is one of a small, fixed set of texts."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LogLine(Struct, frozen=True, gc=False):
    """One request.

    Attributes:
        address: of the client, as it was written: an IP address, or a host name where Apache looks names up.
        time_ns: nanoseconds since 1970, UTC; a log is exact to the second.
        method: `GET`.
        target: what was asked for, raw, with its query.
        protocol: `HTTP/1.1`; None for HTTP/0.9, which names none.
        status: of the answer.
        size: bytes of the answer's body; None where the log says `-`.
        referrer: as it was sent, unescaped; empty where the log says `-`, or has none.
        user_agent: likewise.
        host: the virtual host, in lower case and without a port; empty where the log has none.
        text: what the line is known by: all that the format names. Without the size at the end of a line, of which a
            log that is being written may have a part only.
    """

    address: str | None
    time_ns: int
    method: str
    target: bytes
    protocol: str | None
    status: int
    size: int | None
    referrer: bytes
    user_agent: bytes
    host: str = ""
    text: bytes = b""

    @property
    def path(self) -> str:
        """The target without query, fragment, scheme and host; percent-encoding as it came."""
        path = self.target
        if not path.startswith(b"/") and (origin := _ORIGIN.match(path)):
            path = path[origin.end() :]
        if end := _PATH_END.search(path):
            path = path[: end.start()]
        return path.decode(errors="replace") or "/"


def parse_line(line: bytes, log_format: LogFormat = COMBINED) -> LogLine:
    r"""Read one line, with or without its line end.

    Raises:
        MalformedLineError: it is blank, torn or something else, or its request field holds no request: `-` for a
            connection that timed out, `\x16\x03\x01` for TLS on a plain port.
    """
    line = line.rstrip(b"\r\n")
    match = log_format.line.match(line)
    if match is None:
        raise MalformedLineError(log_format.reason_against(line))
    address, minute, second, offset, request, status, size = match.group(
        "address", "minute", "second", "offset", "request", "status", "size"
    )
    referrer, user_agent = match.group("referrer", "user_agent") if log_format.has_headers else (b"-", b"-")
    method, target, protocol = _parse_request(request)
    return LogLine(
        None if address in _NO_ADDRESS else address.decode(),
        _nanoseconds(minute, int(second), offset),
        method,
        target,
        protocol,
        int(status),
        None if size == b"-" else int(size),
        _header_value(referrer),
        _header_value(user_agent),
        match["host"].decode().strip("[]").lower() if log_format.has_host else "",
        line[: match.end("user_agent" if log_format.has_headers else "status")],
    )


def _parse_request(request: bytes) -> tuple[str, bytes, str | None]:
    """Method, target and protocol. A target may hold spaces: some clients send them, and servers log what was sent."""
    method, _, rest = request.partition(b" ")
    target, _, last = rest.rpartition(b" ")
    protocol: str | None = None
    if last.startswith(b"HTTP/"):
        protocol = last.decode(errors="replace")
    elif rest.startswith(b"/") or _ORIGIN.match(rest):
        target = rest
    else:
        target = b""
    if not target or not _METHOD.fullmatch(method):
        raise MalformedLineError("no request")
    return method.decode(), _unescape(target), protocol


def _nanoseconds(minute: bytes, second: int, offset: bytes) -> int:
    if second > 60:  # a leap second is the 60th
        raise MalformedLineError("no such time")
    return (_minute_s(minute, offset) + second) * 1_000_000_000


@lru_cache(maxsize=1_024)
def _minute_s(minute: bytes, offset: bytes) -> int:
    """Seconds since 1970 of the beginning of `17/May/2015:10:05`; most lines share their minute with the one before."""
    day, month, rest = minute.split(b"/")
    year, hour, minutes = (int(number) for number in rest.split(b":"))
    if month not in _MONTHS or year not in _YEARS:
        raise MalformedLineError("no such time")
    ahead = timedelta(hours=int(offset[:3]), minutes=int(offset[:1] + offset[3:]))
    try:
        moment = datetime(year, _MONTHS[month], int(day), hour, minutes, tzinfo=timezone(ahead))
    except ValueError:
        raise MalformedLineError("no such time") from None
    return int(moment.timestamp())


def _header_value(field: bytes) -> bytes:
    return b"" if field == b"-" else _unescape(field)


def _unescape(field: bytes) -> bytes:
    return _ESCAPE.sub(_unescaped, field) if b"\\" in field else field


def _unescaped(escape: re.Match[bytes]) -> bytes:
    code, short = escape.groups()
    return _SHORT_ESCAPES[short] if code is None else bytes((int(code, 16),))
