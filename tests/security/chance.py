"""Requests by chance: some that are right, with what they must lead to, and some that are wrong in any place."""

import gzip
import itertools
from collections.abc import Sequence
from typing import Final, NamedTuple

from hypothesis import strategies as st

from raw_http import chunk, get, post

EVENT: Final = b'{"site_id":"fuzz","event_type":"click"}'
MAX_BODY_BYTES: Final = 4_096
"""What a collector that takes these requests must have set."""

_JSON: Final = b"Content-Type: application/json"
_UPGRADE: Final = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")


class Good(NamedTuple):
    """A request, the status it is answered with, and what it adds to the ledger."""

    wire: bytes
    status: int
    received: int = 0
    refused: int = 0


def _chunked(body: bytes, sizes: Sequence[int]) -> bytes:
    """A body in chunks of these sizes, the rest in one."""
    chunks = []
    for size in sizes:
        if body[:size]:
            chunks.append(chunk(body[:size]))
            body = body[size:]
    return b"".join(chunks) + (chunk(body) if body else b"") + b"0\r\n\r\n"


# Requests that are right.

_offers = st.sampled_from([(), (), _UPGRADE, (b"Upgrade: websocket", b"Connection: upgrade")])
_headers = st.lists(
    st.tuples(
        st.sampled_from([b"User-Agent", b"Referer", b"X-Forwarded-For", b"Cookie", b"Accept"]),
        st.lists(st.sampled_from([b"a", b"/", b"|", b"\\", b"\xff", b"\xc3\xa9", b",", b" b", b"\t"]), max_size=20),
    ),
    max_size=4,
).map(lambda fields: tuple(name + b": " + b"".join(value) for name, value in fields))
_lines = st.tuples(_offers, _headers).map(lambda parts: parts[0] + parts[1])

_SIMPLE: Final = [
    *[
        Good(get(b"/track" + query), 200, received=1)
        for query in (b"", b"?", b"?site_id=a&path=/x", b"?%ff=%&&=&site_id=%00", b"?user_id=" + b"a" * 200)
    ],
    Good(get(b"/track", method=b"HEAD"), 200),
    Good(get(b"/track", method=b"OPTIONS"), 204),
    Good(get(b"/event", method=b"OPTIONS"), 204),
    Good(get(b"/track", method=b"PUT"), 405),
    Good(get(b"/track", b"Sec-Purpose: prefetch;prerender"), 200, refused=1),
    Good(get(b"/healthz"), 200),
    Good(get(b"/nowhere"), 404),
    Good(get(b"/nowhere", method=b"DELETE"), 404),
]
_BODIES_OF_EVENT: Final = [(EVENT, 202), (b"{", 400), (b"", 400), (b"{}", 422), (b"[" * 3_000, 400), (b"\xff", 400)]


@st.composite
def _simple(draw: st.DrawFn) -> Good:
    """One without a body, with more header lines."""
    good = draw(st.sampled_from(_SIMPLE))
    lines = b"".join(line + b"\r\n" for line in draw(_lines))
    return good._replace(wire=good.wire[:-2] + lines + b"\r\n")


@st.composite
def _posted(draw: st.DrawFn) -> Good:
    """One with a body, of known length or in chunks."""
    if draw(st.booleans()):
        body, status = draw(st.sampled_from(_BODIES_OF_EVENT))
        target, received = b"/event", int(status == 202)
        refused = 1 - received
    else:
        received, wrong = draw(st.integers(0, 20)), draw(st.integers(0, 20))
        events = draw(st.permutations([EVENT] * received + [b"{}"] * wrong))
        body = b"[" + b",".join(events) + b"]" if draw(st.booleans()) else b"\n".join(events)
        target, status = b"/events", 202 if received else 422
        refused = wrong or int(not received)  # a body without an event is one refusal
    lines = draw(_lines)
    if draw(st.booleans()):
        body, lines = gzip.compress(body, mtime=0), (b"Content-Encoding: gzip", *lines)
    if draw(st.booleans()):
        head = get(target, _JSON, b"Transfer-Encoding: chunked", *lines, method=b"POST")
        wire = head + _chunked(body, draw(st.lists(st.integers(1, 50), max_size=5)))
    else:
        wire = post(body, *lines, target=target)
    return Good(wire, status, received, refused)


good_requests = st.one_of(_simple(), _posted())

# Requests that are wrong in some place: each part is drawn from what is right, mostly, and what is not.

_METHODS: Final = [b"GET", b"POST"] * 5 + b"HEAD OPTIONS PUT CONNECT PRI TRACE get G DESCRIBE SOURCE".split() + [b""]
_TARGETS: Final = [b"/track", b"/event", b"/events"] * 4 + [
    *b"/track?site_id=a /healthz /readyz /ledger /metrics /nowhere * ? // /% a:1 http:// http://? /\xff /a#b".split(),
    b"http://localhost/track",
    b"/track\0",
    b"",
]
_VERSIONS: Final = [b"HTTP/1.1"] * 12 + [*b"HTTP/1.0 HTTP/0.9 HTTP/2.0 HTTP/1.2 HTTP RTSP/1.0 ICE/1.0".split(), b""]
_HOSTS: Final = [b"Host: localhost"] * 6 + [
    b"",
    b"Host:",
    b"Host: a b",
    b"Host : a",
    b"Host: a\r\nHost: b",
]
_CONNECTIONS: Final = [
    b"",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection:",
    b"Connection: Upgrade\r\nUpgrade: h2c",
    b"Connection: Upgrade, close\r\nUpgrade: h2c",
    b"Connection: Upgrade, keep-alive\r\nUpgrade: websocket",
    b"Connection: Upgrade",
    b"Upgrade: h2c",
    b"Connection: Upgrade\r\nUpgrade:",
]
_CHUNKED: Final = b"Transfer-Encoding: chunked\r\n\r\n"
_FRAMINGS: Final = [
    b"\r\n",
    b"Content-Length: 39\r\n\r\n" + EVENT,
    b"Content-Length: 39 \r\n\r\n" + EVENT,
    b"Content-Length: 0\r\n\r\n",
    b"Content-Length: 5\r\n\r\n" + EVENT,
    b"Content-Length: 3, 3\r\n\r\n{}",
    b"Content-Encoding: gzip\r\n" + _CHUNKED + chunk(gzip.compress(EVENT, mtime=0)) + b"0\r\n\r\n",
    b"Content-Encoding: gzip\r\n" + _CHUNKED + chunk(gzip.compress(b" " * 100_000, mtime=0)) + b"0\r\n\r\n",
    b"Content-Length: -1\r\n\r\n",
    b"Content-Length:\r\n\r\n",
    b"Content-Length: 4097\r\n\r\n" + b" " * 4_097,
    b"Content-Length: 99999999999999999999\r\n\r\n",
    b"Content-Length: 39\r\n" + _CHUNKED + chunk(EVENT) + b"0\r\n\r\n",
    _CHUNKED + chunk(EVENT) + b"0\r\n\r\n",
    _CHUNKED + chunk(b"[" + EVENT + b",") + chunk(EVENT + b"]") + b"0\r\n\r\n",
    _CHUNKED + chunk(EVENT),
    _CHUNKED + b"0\r\n\r\n",
    _CHUNKED + b"27;a=b\r\n" + EVENT + b"\r\n0\r\nHost: b\r\nX: y\r\n\r\n",
    _CHUNKED + b"-1\r\n",
    _CHUNKED + b"ffffffffffffffffff\r\n",
    _CHUNKED + b"27\n" + EVENT + b"\n0\n\n",
    _CHUNKED + b"1001\r\n" + b" " * 4_097 + b"\r\n0\r\n\r\n",
    b"Transfer-Encoding: gzip\r\n\r\n" + EVENT,
    b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunk(EVENT) + b"0\r\n\r\n",
    b"Transfer-Encoding: chunked, gzip\r\n\r\n" + chunk(EVENT) + b"0\r\n\r\n",
    b"Transfer-Encoding: chunked \r\n\r\n" + chunk(EVENT) + b"0\r\n\r\n",
    b"Transfer-Encoding: \x0bchunked\r\n\r\n" + chunk(EVENT) + b"0\r\n\r\n",
    b"Transfer-Encoding:\r\n\r\n" + EVENT,
    b"Transfer-Encoding: identity\r\nContent-Length: 39\r\n\r\n" + EVENT,
]
_ODD: Final = [
    b"Expect: 100-continue",
    b"Expect: 200-ok",
    b"TE: trailers",
    b"Trailer: Host",
    b"Content-Encoding: gzip",
    b"Content-Encoding: br",
    b"Content-Type: text/plain",
    b"Content-Type: ;",
    b"Sec-Purpose: prefetch",
    b"Origin: null",
    b"Origin: https://a.example",
    b"Referer: " + b"\xff" * 300,
    b"User-Agent: \x01",
    b"X-Forwarded-For: ,",
    b" folded: a",
    b"\tfolded",
    b":",
    b": a",
    b"no colon",
    b"a\0b: c",
    b"a: b\rc",
    b"a: b\nc: d",
    b"a:" + b"b" * 5_000,
    b"a:\r\n" * 300,
]


@st.composite
def _of_parts(draw: st.DrawFn) -> bytes:
    """A request put together from parts that are right or wrong by themselves."""
    words = b" ".join(draw(st.sampled_from(part)) for part in (_METHODS, _TARGETS, _VERSIONS))
    lines = [words, draw(st.sampled_from(_HOSTS)), draw(st.sampled_from(_CONNECTIONS))]
    lines += [_JSON, *draw(st.lists(st.sampled_from(_ODD), max_size=2))]
    framing = draw(st.sampled_from(_FRAMINGS))
    return b"".join(line + b"\r\n" for line in lines if line) + framing


_broken_bytes = st.one_of(
    st.just(b""),
    st.binary(max_size=4),
    st.sampled_from([b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b",", b"\r\n\r\n", b"0\r\n\r\n", b"\x80", b"HTTP/1.1"]),
    st.sampled_from([*_HOSTS, *_CONNECTIONS, *_ODD]).map(lambda line: b"\r\n" + line + b"\r\n"),
)


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    """A request of which a few bytes were taken away, doubled, put in or changed."""
    wire = bytearray(draw(st.one_of(good_requests.map(lambda good: good.wire), _of_parts())))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(wire)))
        stop = start + draw(st.integers(0, 12))
        wire[start:stop] = wire[start:stop] * 2 if draw(st.booleans()) else draw(_broken_bytes)
    return bytes(wire)


_bad_requests = st.one_of(_of_parts(), _of_parts(), _mutated(), st.binary(max_size=40))


# Conversations.


@st.composite
def _cut(draw: st.DrawFn, wire: bytes) -> list[bytes]:
    """In one piece, in single bytes, or cut in a few places."""
    how = draw(st.sampled_from(["whole", "bytes", "places"]))
    if how == "whole":
        return [wire]
    if how == "bytes":
        return [wire[place : place + 1] for place in range(len(wire))]
    places = sorted({0, *draw(st.lists(st.integers(0, len(wire)), max_size=8)), len(wire)})
    return [wire[start:stop] for start, stop in itertools.pairwise(places)]


@st.composite
def good_conversations(draw: st.DrawFn) -> tuple[list[Good], list[bytes]]:
    """Requests that are right, on one connection, and how they are cut."""
    requests = draw(st.lists(good_requests, min_size=1, max_size=12))
    return requests, draw(_cut(b"".join(request.wire for request in requests)))


@st.composite
def bad_conversations(draw: st.DrawFn) -> list[bytes]:
    """Requests of which one or more are wrong, on one connection, and how they are cut."""
    before = draw(st.lists(good_requests, max_size=2))
    bad = draw(st.lists(_bad_requests, min_size=1, max_size=3))
    return draw(_cut(b"".join([request.wire for request in before] + bad)))
