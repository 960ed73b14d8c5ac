"""Requests made to confuse: each is answered in HTTP, counted, and leaves no traceback on the log."""

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from harness import Footfall
from raw_http import Answer, chunk, exchange, get, post

CLOSE = b"Connection: close"
JSON = b"Content-Type: application/json"
EVENT = b'{"site_id":"requests","event_type":"click"}'
UPGRADE = (b"Connection: Upgrade", b"Upgrade: h2c")


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Footfall]:
    """`footfall run collector`, one for all tests, whose log holds neither a traceback nor an error at their end."""
    instance = Footfall(tmp_path_factory.mktemp("collector"))
    instance.start("run", "collector")
    yield instance
    output = instance.output()
    instance.kill()
    assert "Traceback" not in output
    assert " ERROR " not in output


class Exchange:
    """What one or more requests on a connection led to.

    Attributes:
        answers: in the order they came, until the server closed.
        received: entries that the ledger gained.
        refused: refusals that the ledger gained, by reason.
    """

    def __init__(self, footfall: Footfall, *wires: bytes) -> None:
        before = _ledger(footfall)
        self.answers = exchange(footfall.port, b"".join(wires))
        after = _ledger(footfall)
        self.received = after["received"] - before["received"] - 1
        self.refused = dict(Counter(after["refused"]) - Counter(before["refused"]))

    def statuses(self) -> list[int]:
        return [answer.status for answer in self.answers]


def _ledger(footfall: Footfall) -> Any:
    """The ledger; the commit of one event of ours takes along everything that waits to be counted."""
    assert 202 == footfall.post().status_code
    return footfall.ledger()


def is_image(answer: Answer) -> bool:
    return (answer.status, answer.headers["content-type"], answer.body[:6]) == (200, "image/gif", b"GIF89a")


def bodyless(target: bytes, *lines: bytes) -> bytes:
    """A POST whose head says what `lines` do about its body."""
    return get(target, JSON, *lines, method=b"POST")


# Upgrades and tunnels.


@pytest.mark.parametrize("coding", [b"gzip", b"gzip, chunked", b"identity", b"chunked, gzip"], ids=bytes.decode)
@pytest.mark.parametrize("upgrade", [(), UPGRADE], ids=["plain", "upgrade"])
def test_image_is_served_whatever_the_transfer_coding(
    collector: Footfall, coding: bytes, upgrade: tuple[bytes, ...]
) -> None:
    """With or without an offer to upgrade, the page does not break and the refusal is counted."""
    seen = Exchange(collector, get(b"/track", b"Transfer-Encoding: " + coding, *upgrade))

    assert [True] == [is_image(answer) for answer in seen.answers]
    assert (0, 1) == (seen.received, sum(seen.refused.values()))


@pytest.mark.parametrize("target", [b"?", b"example.com:443", b"/track", b":", b"[::1]:1"], ids=bytes.decode)
def test_connect_is_refused_and_counted(collector: Footfall, target: bytes) -> None:
    """A request for a tunnel gets one answer, its connection closes, and what follows it is not read as a request."""
    seen = Exchange(collector, get(target, method=b"CONNECT"), get(b"/track?site_id=smuggled", CLOSE))

    assert seen.statuses() in ([501], [400])
    assert "close" == seen.answers[0].headers["connection"]
    assert (0, 1) == (seen.received, sum(seen.refused.values()))


@pytest.mark.parametrize("connection", [b"Upgrade, close", b"close, Upgrade", b"upgrade,close"], ids=bytes.decode)
@pytest.mark.parametrize(
    "wire",
    [
        get(b"/track?site_id=a", b"Upgrade: h2c", b"Connection: %b"),
        post(EVENT, b"Upgrade: h2c", b"Connection: %b"),
        bodyless(b"/track", b"Content-Length: 0", b"Upgrade: h2c", b"Connection: %b"),
        bodyless(b"/event", b"Content-Length: 0", b"Upgrade: h2c", b"Connection: %b"),
        bodyless(b"/event", b"Transfer-Encoding: chunked", b"Upgrade: h2c", b"Connection: %b") + chunk(b"") + b"\r\n",
    ],
    ids=["hit", "event", "empty hit", "empty event", "empty chunked event"],
)
def test_upgrade_that_is_to_close_is_answered_and_closed(collector: Footfall, wire: bytes, connection: bytes) -> None:
    """`Connection: Upgrade, close` is one request in HTTP/1.1 and the last one."""
    seen = Exchange(collector, wire.replace(b"Connection: %b", b"Connection: " + connection), get(b"/track"))

    assert 1 == len(seen.answers)
    assert "close" == seen.answers[0].headers["connection"]


def test_many_upgrades_on_one_connection_are_each_answered(collector: Footfall) -> None:
    """With a body or without, pipelined, in one piece."""
    wires = [post(EVENT, *UPGRADE), get(b"/track?site_id=a", *UPGRADE)] * 100

    seen = Exchange(collector, *wires, get(b"/healthz", CLOSE))

    assert [202, 200] * 100 + [200] == seen.statuses()
    assert (200, {}) == (seen.received, seen.refused)


# Lengths and codings of a body.


@pytest.mark.parametrize("value", [b"%d ", b"%d\t", b" \t%d \t "], ids=repr)
def test_blanks_around_a_length_are_not_of_it(collector: Footfall, value: bytes) -> None:
    """RFC 9110, section 5.5: white space around a field's value is not part of it."""
    seen = Exchange(collector, bodyless(b"/event", b"Content-Length: " + value % len(EVENT), CLOSE) + EVENT)

    assert ([202], 1) == (seen.statuses(), seen.received)


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"deflate,chunked", b"foo, chunked"], ids=bytes.decode)
def test_transfer_coding_that_is_not_understood_is_refused(collector: Footfall, coding: bytes) -> None:
    """501 (RFC 9112, section 6.1), counted: its body would be recorded as if it were the event."""
    body = chunk(EVENT) + chunk(b"") + b"\r\n"

    seen = Exchange(collector, bodyless(b"/event", b"Transfer-Encoding: " + coding) + body)

    assert ([501], 0, {"unsupported": 1}) == (seen.statuses(), seen.received, seen.refused)
    assert "Content-Encoding" in json.loads(seen.answers[0].body)["detail"]


# Hosts.


def test_event_without_a_host_is_refused(collector: Footfall) -> None:
    """400 (RFC 9112, section 3.2), and counted."""
    seen = Exchange(collector, post(EVENT, CLOSE).replace(b"Host: localhost\r\n", b""))

    assert ([400], 0, {"malformed": 1}) == (seen.statuses(), seen.received, seen.refused)


@pytest.mark.parametrize("hosts", [(b"a", b"b"), (b"a", b"a"), (b"", b"a")], ids=repr)
def test_event_with_two_hosts_is_refused(collector: Footfall, hosts: tuple[bytes, bytes]) -> None:
    """400, though they may say the same: another server may read the other one."""
    lines = b"".join(b"Host: %b\r\n" % host for host in hosts)

    seen = Exchange(collector, post(EVENT, CLOSE).replace(b"Host: localhost\r\n", lines))

    assert ([400], 0, {"malformed": 1}) == (seen.statuses(), seen.received, seen.refused)


@pytest.mark.parametrize("host", [b"a b", b"a/b", b"a@b", b"a:b", b"[::1", b"\xff", b"a\\b"], ids=repr)
def test_event_with_a_host_that_is_none_is_refused(collector: Footfall, host: bytes) -> None:
    """400: neither a name nor an address, with a port or without."""
    seen = Exchange(collector, post(EVENT, CLOSE).replace(b"localhost", host))

    assert ([400], 0, {"malformed": 1}) == (seen.statuses(), seen.received, seen.refused)


@pytest.mark.parametrize("host", [b"", b"a_b.example:8000", b"[::1]:80", b"127.0.0.1", b"xn--bcher-kva.example:"])
def test_event_with_any_right_host_is_taken(collector: Footfall, host: bytes) -> None:
    """An empty one, too, where a target has no authority."""
    assert [202] == Exchange(collector, post(EVENT, CLOSE).replace(b"localhost", host)).statuses()


@pytest.mark.parametrize("lines", [b"", b"Host: a\r\nHost: b\r\n"], ids=["none", "two"])
def test_image_is_served_whatever_the_host(collector: Footfall, lines: bytes) -> None:
    """The page does not break; nothing is recorded, and that is counted."""
    seen = Exchange(collector, get(b"/track", CLOSE).replace(b"Host: localhost\r\n", lines))

    assert [True] == [is_image(answer) for answer in seen.answers]
    assert (0, {"malformed": 1}) == (seen.received, seen.refused)


def test_http_1_0_needs_no_host(collector: Footfall) -> None:
    """It does not know the header."""
    assert 1 == Exchange(collector, b"GET /track HTTP/1.0\r\n\r\n").received


# What a browser loads before anybody wants it.


@pytest.mark.parametrize(
    "header",
    [
        ("Sec-Purpose", "prefetch"),
        ("Sec-Purpose", "prefetch;prerender"),
        ("Sec-Purpose", "prefetch;anonymous-client-ip"),
        ("Purpose", "prefetch"),
        ("X-Moz", "prefetch"),
    ],
    ids="{0[0]}: {0[1]}".format,
)
def test_prefetch_is_no_view(collector: Footfall, header: tuple[str, str]) -> None:
    """The image is served, an event gets a 2xx that says so; neither is recorded, both are counted."""
    line = f"{header[0]}: {header[1]}".encode()

    seen = Exchange(collector, get(b"/track?site_id=a", line), post(EVENT, line, CLOSE))

    assert is_image(seen.answers[0])
    assert (202, {"status": "skipped", "reason": "prefetch"}) == (
        seen.answers[1].status,
        json.loads(seen.answers[1].body),
    )
    assert (0, {"prefetch": 2}) == (seen.received, seen.refused)


@pytest.mark.parametrize("line", [b"Sec-Purpose:", b"Purpose: reading", b"X-Moz: 1"], ids=bytes.decode)
def test_other_purposes_are_views(collector: Footfall, line: bytes) -> None:
    """Only what the headers are known to say counts."""
    assert 1 == Exchange(collector, get(b"/track?site_id=a", line, CLOSE)).received


# Answers that a browser must not take for something else.


@pytest.mark.parametrize("path", ["/ledger", "/metrics", "/healthz", "/readyz", "/nowhere"])
def test_answers_tell_a_browser_not_to_sniff(collector: Footfall, path: str) -> None:
    """`X-Content-Type-Options: nosniff`, as the reports have it."""
    assert "nosniff" == httpx.get(collector.url + path).headers["x-content-type-options"]


# Compressed bodies.


def compressed(body: bytes, *lines: bytes, target: bytes = b"/event", coding: bytes = b"gzip") -> bytes:
    return post(gzip.compress(body, mtime=0), b"Content-Encoding: " + coding, *lines, target=target)


def test_compressed_bodies_are_taken(collector: Footfall) -> None:
    """One event or many, of known length or in chunks, offered an upgrade or not."""
    many = b"\n".join([EVENT] * 50)
    chunks = bodyless(b"/event", b"Content-Encoding: gzip", b"Transfer-Encoding: chunked", *UPGRADE)
    chunks += b"".join(chunk(part) for part in (gzip.compress(EVENT)[:10], gzip.compress(EVENT)[10:], b"")) + b"\r\n"

    wires = [compressed(EVENT, coding=b"x-gzip"), chunks, compressed(many, CLOSE, target=b"/events")]
    seen = Exchange(collector, *wires)

    assert ([202, 202, 202], 52, {}) == (seen.statuses(), seen.received, seen.refused)


@pytest.mark.parametrize(
    ("wire", "status", "reason"),
    [
        (compressed(EVENT.ljust(65_537), CLOSE), 413, "too_large"),
        (compressed(b" " * 50_000_000, CLOSE), 413, "too_large"),
        (compressed(b" " * 1_048_577, CLOSE, target=b"/events"), 413, "too_large"),
        (compressed(EVENT, CLOSE, coding=b"br"), 415, "content_encoding"),
        (post(EVENT, b"Content-Encoding: gzip", CLOSE), 400, "content_encoding"),
        (post(gzip.compress(EVENT, mtime=0)[:-3], b"Content-Encoding: gzip", CLOSE), 400, "content_encoding"),
        (compressed(b"{", CLOSE), 400, "not_json"),
    ],
    ids=["one more", "a bomb", "many", "another coding", "not gzip", "cut off", "not JSON"],
)
def test_compressed_bodies_are_bounded_by_what_they_hold(
    collector: Footfall, wire: bytes, status: int, reason: str
) -> None:
    """What is refused says why, and is counted by its reason."""
    seen = Exchange(collector, wire)

    assert ([status], 0, {reason: 1}) == (seen.statuses(), seen.received, seen.refused)
    assert json.loads(seen.answers[0].body)["detail"]
