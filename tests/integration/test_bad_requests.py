"""What no well-behaved client sends: it is answered as the contract says, and harms nobody else."""

import json
import socket
import sqlite3
import struct
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from footfall.entry import Hit, decode_entries
from footfall.queue.local.file import FILE_NAME
from footfall.queue.local.store import LocalQueue
from footfall.queue.sink import SINKS
from harness import Footfall, eventually, read_answer
from raw_http import Answer, chunk, exchange, get, parse_answers, post, read_to_end

GOOD = {"site_id": "good", "event_type": "click"}
LIMIT = 65_536
CLOSE = b"Connection: close"


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Footfall]:
    """`footfall run collector`, one for all tests, that has met no error it does not know at their end."""
    instance = Footfall(tmp_path_factory.mktemp("collector"))
    instance.start("run", "collector")
    yield instance
    output = instance.output()
    instance.kill()
    assert "Traceback" not in output
    assert "restarting it" not in output


class Change:
    """What the ledger has gained: entries received, and requests refused by reason."""

    def __init__(self) -> None:
        self.received = 0
        self.refused: dict[str, int] = {}


@contextmanager
def changes(footfall: Footfall) -> Iterator[Change]:
    """What the ledger gains by what is done meanwhile."""
    change = Change()
    before = settled_ledger(footfall)
    yield change
    after = settled_ledger(footfall)
    change.received = after["received"] - before["received"] - 1
    change.refused = dict(Counter(after["refused"]) - Counter(before["refused"]))


def settled_ledger(footfall: Footfall) -> Any:
    """The ledger with all that has been sent: the commit of one more event takes along what waits for one."""
    assert 202 == send(footfall, event()).status_code
    return footfall.ledger()


def hits_of(footfall: Footfall, site_id: str) -> list[Hit]:
    """What the queue holds of a site, with all that has been sent."""
    settled_ledger(footfall)
    with closing(LocalQueue(footfall.data_dir / FILE_NAME, sinks=SINKS)) as queue:
        entries = [entry for batch in queue.read(0, max_bytes=1 << 40) for entry in decode_entries(batch.payload)]
    return [entry for entry in entries if entry.site_id == site_id and isinstance(entry, Hit)]


def send(footfall: Footfall, body: bytes, content_type: str = "application/json") -> httpx.Response:
    return httpx.post(footfall.url + "/event", content=body, headers={"Content-Type": content_type})


def event(**fields: object) -> bytes:
    return json.dumps({**GOOD, **fields}).encode()


def assert_is_image(answer: Answer) -> None:
    """The page that embeds it does not break."""
    assert (200, "image/gif", b"GIF89a") == (answer.status, answer.headers["content-type"], answer.body[:6])


def assert_is_problem(status: int, answer: Answer) -> None:
    """It explains itself, as RFC 9457 has it."""
    assert (status, "application/problem+json") == (answer.status, answer.headers["content-type"])
    assert status == json.loads(answer.body)["status"]


# Bodies that are no event.


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"", 400, id="nothing"),
        pytest.param(b"site_id=a&event_type=b", 400, id="form"),
        pytest.param(b'{"site_id": "a", "event_type":', 400, id="cut"),
        pytest.param(b"NaN", 400, id="NaN"),
        pytest.param(b'{"site_id": "a", "event_type": "b", "props": {"n": NaN}}', 400, id="NaN in props"),
        pytest.param(b'{"site_id": "\xff", "event_type": "b"}', 400, id="invalid UTF-8"),
        pytest.param(b'{"site_id": "\\ud800", "event_type": "b"}', 400, id="lone surrogate"),
        pytest.param(b"[" * 10_000 + b"]" * 10_000, 400, id="10,000 deep"),
        pytest.param(b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 400, id="10,000 deep objects"),
        pytest.param(b"\0" * 1_000, 400, id="NULs"),
        pytest.param(b'[{"site_id": "a", "event_type": "b"}]', 422, id="array"),
        pytest.param(b"null", 422, id="null"),
        pytest.param(event(site_id=int("1" * 4_000)), 422, id="4,000 digits"),
        pytest.param(
            b'{"site_id": "a", "event_type": "b", "props": {"n": ' + b"1" * 5_000 + b"}}", 422, id="5,000 digits"
        ),
        pytest.param(event(props={str(number): number for number in range(31)}), 422, id="31 props"),
        pytest.param(event(props={"a": {"b": 1}}), 422, id="nested props"),
        pytest.param(event(timestamp="2025-11-12T09:00:00"), 422, id="no offset"),
        pytest.param(event(timestamp="yesterday"), 422, id="no date"),
        pytest.param(event(timestamp="9999-01-01T00:00:00Z"), 422, id="future"),
    ],
)
def test_body_that_is_no_event_is_explained(collector: Footfall, body: bytes, status: int) -> None:
    """400 or 422, as a problem that any page may read; the connection lives on, and nothing is recorded."""
    with (
        changes(collector) as change,
        httpx.Client(base_url=collector.url, headers={"Content-Type": "application/json"}) as client,
    ):
        response = client.post("/event", content=body)

    assert_is_problem(status, Answer(response.status_code, dict(response.headers), response.content))
    assert "*" == response.headers["access-control-allow-origin"]
    assert "set-cookie" not in response.headers
    assert (status == 422) == bool(response.json().get("errors"))
    assert "connection" not in response.headers
    assert (0, 1) == (change.received, sum(change.refused.values()))


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"{}", {"site_id", "event_type"}),
        (event(site_id=""), {"site_id"}),
        (event(event_type=None), {"event_type"}),
        (event(site_id="a" * 129, event_type="a" * 65), {"site_id", "event_type"}),
        (event(path="a" * 2_049, user_id="a" * 129, referrer="a" * 2_049), {"path", "user_id", "referrer"}),
    ],
)
def test_every_wrong_field_is_named(collector: Footfall, body: bytes, fields: set[str]) -> None:
    """The answer has each of them in `errors`, with what is expected."""
    errors = send(collector, body).json()["errors"]

    assert fields == {error["field"] for error in errors}
    assert all(error["detail"] for error in errors)


def test_refused_bodies_are_counted_by_reason(collector: Footfall) -> None:
    """The ledger tells what was turned away, and why."""
    with changes(collector) as change:
        send(collector, b"{")
        send(collector, b"{}")
        send(collector, b"{}")
        send(collector, b"{}", "image/gif")

    assert {"not_json": 1, "invalid": 2, "content_type": 1} == change.refused


def test_bad_events_do_not_harm_their_neighbours(collector: Footfall) -> None:
    """On one connection and in one commit, what is good is taken and what is bad is not."""
    bodies = [event(), b"{", event(), b"{}", event(props={"a": []}), event()]

    with changes(collector) as change:
        answers = exchange(collector.port, *map(post, bodies[:-1]), post(bodies[-1], CLOSE))

    assert [202, 400, 202, 422, 422, 202] == [answer.status for answer in answers]
    assert 3 == change.received


# Bodies that are too long.


def test_body_of_exactly_the_limit_is_taken(collector: Footfall) -> None:
    """The limit itself is allowed."""
    assert 202 == send(collector, event().ljust(LIMIT)).status_code


@pytest.mark.parametrize("length", [LIMIT + 1, 1 << 40, (1 << 64) - 1])
def test_body_beyond_the_limit_is_refused_before_it_is_sent(collector: Footfall, length: int) -> None:
    """Its announced length is enough; nobody has to send it, and nobody waits for it."""
    head = get(b"/event", b"Content-Type: application/json", b"Content-Length: %d" % length, method=b"POST")

    with changes(collector) as change:
        [answer] = exchange(collector.port, head)

    assert_is_problem(413, answer)
    assert ("*", "close") == (answer.headers["access-control-allow-origin"], answer.headers["connection"])
    assert {"too_large": 1} == change.refused


def test_body_beyond_the_limit_is_answered_though_it_is_sent(collector: Footfall) -> None:
    """A client that sends all before it reads gets to see the answer, not a reset."""
    response = send(collector, event().ljust(LIMIT * 4))

    assert 413 == response.status_code
    assert "65536" in response.json()["detail"]


@pytest.mark.parametrize(("length", "status"), [(LIMIT, 202), (LIMIT + 1, 413)])
def test_limit_holds_for_chunked_bodies(collector: Footfall, length: int, status: int) -> None:
    """A body of unknown length is measured as it comes."""
    body = event().ljust(length)
    head = get(b"/event", b"Content-Type: application/json", b"Transfer-Encoding: chunked", CLOSE, method=b"POST")
    chunks = [chunk(body[place : place + 10_000]) for place in range(0, length, 10_000)]

    [answer] = exchange(collector.port, head, *chunks, b"0\r\n\r\n")

    assert status == answer.status


@pytest.mark.parametrize(
    ("start", "endless"),
    [(b"", chunk(b" " * 10_000)), (b"0\r\n", b"X: %b\r\n" % (b"a" * 10_000))],
    ids=["body", "trailers"],
)
def test_endless_body_is_not_read_for_ever(collector: Footfall, start: bytes, endless: bytes) -> None:
    """Whoever goes on sending is cut off soon, and others are served meanwhile."""
    head = get(b"/event", b"Content-Type: application/json", b"Transfer-Encoding: chunked", method=b"POST") + start

    assert sent_until_cut_off(collector, head, endless) < 32 * 1024 * 1024
    assert 202 == send(collector, event()).status_code


def test_endless_head_is_not_read_for_ever(collector: Footfall) -> None:
    """The same for headers."""
    head = b"GET /track HTTP/1.1\r\nHost: localhost\r\n"

    assert sent_until_cut_off(collector, head, b"X-Header: %b\r\n" % (b"a" * 10_000)) < 32 * 1024 * 1024
    assert_is_image(exchange(collector.port, get(b"/track", CLOSE))[0])


def sent_until_cut_off(footfall: Footfall, start: bytes, endless: bytes) -> int:
    """Send until the server has enough; how many bytes it took, a limit for a server that never has."""
    sent = 0
    with socket.create_connection(("127.0.0.1", footfall.port), timeout=5) as connection, suppress(ConnectionError):
        connection.sendall(start)
        while sent < 64 * 1024 * 1024:
            connection.sendall(endless)
            sent += len(endless)
    return sent


# Types, paths and methods.


@pytest.mark.parametrize(
    "content_type",
    [None, "", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data", "text/html", "json", ";"],
)
def test_other_content_types_are_refused(collector: Footfall, content_type: str | None) -> None:
    """415 says what to send; so no form of another site can post an event unasked."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    response = httpx.post(collector.url + "/event", content=event(), headers=headers)

    assert_is_problem(415, Answer(response.status_code, dict(response.headers), response.content))
    assert "application/json" in response.json()["detail"]
    assert "*" == response.headers["access-control-allow-origin"]


@pytest.mark.parametrize(
    "path", ["/", "/tracks", "/track/", "/TRACK", "//track", "/event/", "/stats", "/%74rack", "/é"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_unknown_path_is_not_found(collector: Footfall, path: str, method: str) -> None:
    """404, whatever is asked of it, and with a body or without: who misspells a path is not told something else."""
    response = httpx.request(method, collector.url + path, content=event() if method == "POST" else None)

    assert_is_problem(404, Answer(response.status_code, dict(response.headers), response.content))


ALLOWED = {
    "/track": "GET, HEAD, OPTIONS",
    "/event": "POST, OPTIONS",
    "/events": "POST, OPTIONS",
    "/healthz": "GET, HEAD",
}
WRONG = [
    (method, path)
    for path, allowed in ALLOWED.items()
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND")
    if method not in allowed.split(", ")
]


@pytest.mark.parametrize(("method", "path"), WRONG)
@pytest.mark.parametrize("body", [None, b"{}"], ids=["no body", "a body"])
def test_wrong_method_is_told_the_right_ones(collector: Footfall, method: str, path: str, body: bytes | None) -> None:
    """405 with `Allow`, with a body or without, and nothing is recorded."""
    with changes(collector) as change:
        response = httpx.request(method, collector.url + path, content=body)

    assert_is_problem(405, Answer(response.status_code, dict(response.headers), response.content))
    assert ALLOWED[path] == response.headers["allow"]
    assert 0 == change.received


# Header values.


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"a|b||", id="pipes"),
        pytest.param(b"a\\b\\x7c", id="backslashes"),
        pytest.param("a\u2028b\u2029c\x85d".encode(), id="line separators"),
        pytest.param(b"null", id="null"),
        pytest.param(b"\xff\xfe\x80", id="not UTF-8"),
        pytest.param(b"\xed\xa0\x80", id="surrogate"),
        pytest.param(b"a\tb", id="tab"),
        pytest.param(b"<script>alert(1)</script>' OR 1=1 --", id="injections"),
        pytest.param(b"\\r\\n${jndi:ldap://example/a}%0d%0a", id="escaped line breaks"),
        pytest.param(b"a" * 8_192, id="8 kB"),
        pytest.param(b"", id="empty"),
    ],
)
def test_header_is_recorded_as_it_was_sent(collector: Footfall, value: bytes, request: pytest.FixtureRequest) -> None:
    """Whatever bytes HTTP allows in a value, the image is served and the hit holds them."""
    site_id = f"header {request.node.callspec.id}"
    target = f"/track?site_id={quote(site_id)}".encode()

    [answer] = exchange(collector.port, get(target, b"User-Agent: " + value, b"Referer: " + value, CLOSE))

    assert_is_image(answer)
    assert [(value, value)] == [(hit.user_agent, hit.referrer) for hit in hits_of(collector, site_id)]


def test_of_a_long_header_the_beginning_is_recorded(collector: Footfall) -> None:
    """As much as fits in a line of the visits log; what is longer breaks no page, and is no reason to lose the hit."""
    value = b"a" * 8_192 + b"b" * 50_000

    [answer] = exchange(collector.port, get(b"/track?site_id=long", b"Referer: " + value, CLOSE))

    assert_is_image(answer)
    assert [value[:8_192]] == [hit.referrer for hit in hits_of(collector, "long")]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"a\0b", id="NUL"),
        pytest.param(b"a\rb", id="CR"),
        pytest.param(b"a\nb: c", id="LF"),
        pytest.param(b"a\r\n b", id="folded"),
        pytest.param(b"\x01", id="control"),
        pytest.param(b"\x7f", id="DEL"),
    ],
)
def test_header_that_http_forbids_breaks_no_page(collector: Footfall, value: bytes) -> None:
    """The image is served, the connection closes, and the refusal is counted; nothing is recorded."""
    with changes(collector) as change:
        [answer] = exchange(collector.port, get(b"/track?site_id=forbidden", b"User-Agent: " + value))

    assert_is_image(answer)
    assert "close" == answer.headers["connection"]
    assert (0, {"malformed": 1}) == (change.received, change.refused)


def test_header_cannot_be_made_two_by_encoding(collector: Footfall) -> None:
    """What splits a header is CR LF alone: the rest of the line is a header of its own, and not recorded."""
    exchange(collector.port, get(b"/track?site_id=split", b"User-Agent: real\r\nX-Other: forged", CLOSE))

    assert [b"real"] == [hit.user_agent for hit in hits_of(collector, "split")]


def test_repeated_header_is_one_list(collector: Footfall) -> None:
    """RFC 9110, section 5.3."""
    exchange(collector.port, get(b"/track?site_id=repeated", b"User-Agent: one", b"USER-AGENT: two", CLOSE))

    assert [b"one, two"] == [hit.user_agent for hit in hits_of(collector, "repeated")]


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(b"/track?path=/caf\xe9", id="raw byte"),
        pytest.param(b"/track?path=/\xc3\xa9", id="raw UTF-8"),
        pytest.param(b"/track?path=a b", id="space"),
        pytest.param(b"/track?path=\0", id="NUL"),
        pytest.param(b"/track?path=\x7f\x01", id="control"),
        pytest.param(b'/track?path=<>"{}|\\^`', id="unwise"),
        pytest.param(b"/track?path=/a#b", id="fragment"),
        pytest.param(b"/track?" + b"a" * 60_000, id="60 kB"),
        pytest.param(b"/track?" + b"a" * 200_000, id="200 kB"),
        pytest.param(b"/track?path=/\xe9 HTTP/1.1\r\nX: y", id="raw byte and more"),
    ],
)
def test_target_breaks_no_page(collector: Footfall, target: bytes) -> None:
    """Whatever a page's script made of the address, the image is served."""
    [answer] = exchange(collector.port, get(target, CLOSE))

    assert_is_image(answer)


@pytest.mark.parametrize("place", [12, 20], ids=["query", "value"])
def test_target_that_is_cut_by_tcp_breaks_no_page(collector: Footfall, place: int) -> None:
    """Where a packet ends says nothing of the request."""
    wire = get(b"/track?path=/caf\xe9", CLOSE)
    with socket.create_connection(("127.0.0.1", collector.port), timeout=5) as connection:
        connection.sendall(wire[:place])
        time.sleep(0.05)  # so that the pieces arrive as such
        connection.sendall(wire[place:])
        [answer] = parse_answers(read_to_end(connection))

    assert_is_image(answer)


def test_target_behind_another_request_breaks_no_page(collector: Footfall) -> None:
    """It is the second request of its connection that is refused, and it gets its image."""
    _, answer = exchange(collector.port, get(b"/healthz") + get(b"/track?path=/caf\xe9", CLOSE))

    assert_is_image(answer)


def test_address_in_absolute_form_is_understood(collector: Footfall) -> None:
    """RFC 9112, section 3.2.2: a server must take it, though only proxies are sent it."""
    [answer] = exchange(collector.port, get(b"http://localhost/track?site_id=absolute", CLOSE))

    assert_is_image(answer)
    assert 1 == len(hits_of(collector, "absolute"))


# Heads that are too long.


def test_head_of_200_kb_is_refused(collector: Footfall) -> None:
    """431 for an event, the image for a hit; counted both times."""
    lines = [b"X-Header-%d: %b" % (number, b"a" * 1_000) for number in range(200)]

    with changes(collector) as change:
        [event_answer] = exchange(collector.port, post(event(), *lines))
        [image] = exchange(collector.port, get(b"/track", *lines))

    assert_is_problem(431, event_answer)
    assert_is_image(image)
    assert {"head_too_large": 2} == change.refused


@pytest.mark.parametrize("pieces", [1, 20], ids=["at once", "in pieces"])
def test_head_of_40_kb_is_taken(collector: Footfall, pieces: int) -> None:
    """A limit is what it is said to be, however TCP cuts what is below it."""
    site_id = f"long head {pieces}"
    wire = get(
        f"/track?site_id={quote(site_id)}".encode(),
        *[b"X-%d: %b" % (number, b"a" * 2_000) for number in range(20)],
        CLOSE,
    )
    size = len(wire) // pieces + 1
    with socket.create_connection(("127.0.0.1", collector.port), timeout=5) as connection:
        for place in range(0, len(wire), size):
            connection.sendall(wire[place : place + size])
            time.sleep(0.005)  # so that the pieces arrive as such
        [answer] = parse_answers(read_to_end(connection))

    assert_is_image(answer)
    assert 1 == len(hits_of(collector, site_id))


# Messages that are ambiguous, or none.


@pytest.mark.parametrize(
    "lines",
    [
        (b"Content-Length: 40", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Content-Length: 40"),
        (b"Content-Length: 40", b"Content-Length: 41"),
        (b"Content-Length: 40, 41",),
        (b"Content-Length: -1",),
        (b"Content-Length: +40",),
        (b"Content-Length: 0x28",),
        (b"Content-Length: 4 0",),
        (b"Content-Length: \xb2",),
        (b"Content-Length: forty",),
        (b"Content-Length: %d" % 10**30,),
        (b"Content-Length:",),
        (b"Transfer-Encoding: chunked, identity",),
        (b"Transfer-Encoding: gzip",),
        (b"Content-Length : 40",),
        (b" Content-Length: 40",),
        (b"Content Length: 40",),
        (b": 40",),
        (b"no colon",),
    ],
    ids=lambda lines: " and ".join(map(ascii, lines)),
)
def test_ambiguous_message_is_refused(collector: Footfall, lines: tuple[bytes, ...]) -> None:
    """400 and the end of the connection: what follows can't be taken for another request (RFC 9112, section 6)."""
    smuggled = get(b"/track?site_id=smuggled")
    wire = get(b"/event", b"Content-Type: application/json", *lines, method=b"POST") + event().ljust(40) + smuggled

    answers = exchange(collector.port, wire)

    assert [400] == [answer.status for answer in answers]
    assert_is_problem(400, answers[0])
    assert [] == hits_of(collector, "smuggled")


def test_ambiguous_request_for_the_image_gets_it(collector: Footfall) -> None:
    """The page does not break, the connection closes."""
    [answer] = exchange(collector.port, get(b"/track", b"Content-Length: 5", b"Transfer-Encoding: chunked"))

    assert_is_image(answer)


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)), id="TLS"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 100, id="HTTP/2"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="SSH"),
        pytest.param(b"\0" * 1_000, id="NULs"),
        pytest.param(b"hello\r\n\r\n", id="words"),
        pytest.param(b"GET\r\n\r\n", id="no target"),
        pytest.param(b"GET /track HTTP/1.1 extra\r\n\r\n", id="four words"),
        pytest.param(b"GET /stats HTTP/3.7\r\nHost: a\r\n\r\n", id="HTTP/3.7"),
        pytest.param(b"get /stats HTTP/1.1\r\nHost: a\r\n\r\n", id="method in lower case"),
    ],
)
def test_what_is_no_http_is_refused(collector: Footfall, wire: bytes) -> None:
    """One answer, then the connection closes."""
    [answer] = exchange(collector.port, wire)

    assert answer.status in {200, 400, 505}
    assert "close" == answer.headers["connection"]
    assert 202 == send(collector, event()).status_code


@pytest.mark.parametrize(
    "wire", [b"", b"GET /tr", b"GET /track HTTP/1.1\r\nHost: a", post(event(site_id="half"))[:-5]], ids=ascii
)
def test_client_that_goes_away_leaves_nothing(collector: Footfall, wire: bytes) -> None:
    """Half a request is none."""
    with socket.create_connection(("127.0.0.1", collector.port), timeout=5) as connection:
        connection.sendall(wire)
        connection.shutdown(socket.SHUT_WR)
        assert b"" == read_to_end(connection)

    assert 202 == send(collector, event()).status_code


def test_client_that_goes_away_before_its_answer_is_recorded(collector: Footfall) -> None:
    """A beacon is sent while its page is being left."""
    with socket.create_connection(("127.0.0.1", collector.port), timeout=5) as connection:
        connection.sendall(get(b"/track?site_id=gone"))

    eventually(1, lambda: len(hits_of(collector, "gone")))


def test_client_that_resets_during_its_commit_does_not_harm_its_neighbours(collector: Footfall) -> None:
    """Whoever shares a commit with it, or waits for the next, is answered all the same."""
    address = ("127.0.0.1", collector.port)
    with (
        closing(sqlite3.connect(collector.data_dir / FILE_NAME, isolation_level=None)) as lock,
        socket.create_connection(address, timeout=5) as first,
        socket.create_connection(address, timeout=5) as neighbour,
    ):
        lock.execute("BEGIN IMMEDIATE")  # so that the commits wait until all is as it should be
        first.sendall(post(event()))
        time.sleep(0.1)
        neighbour.sendall(post(event()))
        first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        first.close()
        time.sleep(0.1)
        lock.execute("ROLLBACK")
        [answer] = parse_answers(read_answer(neighbour))

    assert 202 == answer.status


# Corners of HTTP that are right.


def test_pipelined_requests_are_answered_in_order(collector: Footfall) -> None:
    """Whether an answer is ready at once or after a commit."""
    wires = [
        post(event()),
        get(b"/track"),
        get(b"/healthz"),
        post(b"{"),
        get(b"/nowhere"),
        post(event()),
        get(b"/track", method=b"OPTIONS"),
        get(b"/healthz"),
        get(b"/track"),
    ]

    answers = exchange(collector.port, b"".join(wires * 20) + get(b"/nowhere", CLOSE))

    assert [202, 200, 200, 400, 404, 202, 204, 200, 200] * 20 + [404] == [answer.status for answer in answers]
    assert ["image/gif", "application/json"] * 20 == [
        answers[place].headers["content-type"] for number in range(20) for place in (number * 9 + 1, number * 9 + 2)
    ]


def test_http_1_0_is_answered_and_closed(collector: Footfall) -> None:
    """An old client waits for the end of the connection."""
    [answer] = exchange(collector.port, b"GET /track?site_id=old HTTP/1.0\r\n\r\n")

    assert_is_image(answer)
    assert 1 == len(hits_of(collector, "old"))


def test_http_1_0_is_closed_though_it_asks_to_go_on(collector: Footfall) -> None:
    """Nothing tells it that the connection stays open, so it would wait for the end until that is idle for too long."""
    [answer] = exchange(collector.port, b"GET /track?site_id=kept HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")

    assert_is_image(answer)
    assert "close" == answer.headers["connection"]


def test_http_1_0_is_not_told_to_go_on(collector: Footfall) -> None:
    """It knows of no answer before the answer (RFC 9110, section 10.1.1)."""
    request = post(event(), b"Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0")

    assert [202] == [answer.status for answer in exchange(collector.port, request)]


@pytest.mark.parametrize("target", [b"/track", b"/event", b"/stats"])
def test_head_is_refused_without_a_body(collector: Footfall, target: bytes) -> None:
    """Of a request that says that it is too long, too."""
    request = get(target, b"Content-Length: 99999999", method=b"HEAD")

    with socket.create_connection(("127.0.0.1", collector.port), timeout=5) as connection:
        connection.sendall(request)
        [answer] = parse_answers(read_to_end(connection), head_only=True)

    assert {b"/track": 200}.get(target, 413) == answer.status


def test_http_0_9_is_refused(collector: Footfall) -> None:
    """It has no headers to answer with; a hit in it still gets its image."""
    [answer] = exchange(collector.port, b"GET /nowhere\r\n\r\n")

    assert 505 == answer.status


def test_line_breaks_before_a_request_are_skipped(collector: Footfall) -> None:
    """RFC 9112, section 2.2: old clients end a body with one too many."""
    answers = exchange(collector.port, post(event()) + b"\r\n" + get(b"/track", CLOSE))

    assert [202, 200] == [answer.status for answer in answers]


def test_client_that_asks_before_it_sends_is_told_to_go_on(collector: Footfall) -> None:
    """`Expect: 100-continue` is answered before the body comes."""
    wire = post(event(), b"Expect: 100-continue", CLOSE)
    head, body = wire[: -len(event())], event()
    with socket.create_connection(("127.0.0.1", collector.port), timeout=5) as connection:
        connection.sendall(head)
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == connection.recv(1_000)
        connection.sendall(body)
        [answer] = parse_answers(read_to_end(connection))

    assert 202 == answer.status


def test_client_that_asks_before_it_sends_too_much_is_told_not_to(collector: Footfall) -> None:
    """It is spared the sending."""
    head = get(
        b"/event",
        b"Content-Type: application/json",
        b"Content-Length: 1000000",
        b"Expect: 100-continue",
        method=b"POST",
    )

    assert [413] == [answer.status for answer in exchange(collector.port, head)]


UPGRADE = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")


def test_upgrade_is_not_taken_up(collector: Footfall) -> None:
    """A client that offers HTTP/2 is answered in HTTP/1.1 (RFC 9110, section 7.8), and so is its next request."""
    answers = exchange(collector.port, get(b"/track?site_id=upgrade", *UPGRADE) + get(b"/healthz", CLOSE))

    assert [200, 200] == [answer.status for answer in answers]
    assert_is_image(answers[0])
    assert 1 == len(hits_of(collector, "upgrade"))


def test_body_of_a_request_that_offers_an_upgrade_is_its_own(collector: Footfall) -> None:
    """It is the event, and never another request; `curl --http2 -d` sends just that."""
    smuggled = get(b"/track?site_id=smuggled-by-upgrade", CLOSE)

    answers = exchange(collector.port, post(event(), *UPGRADE) + get(b"/healthz", CLOSE))
    assert [202, 200] == [answer.status for answer in answers]

    answers = exchange(collector.port, post(smuggled, *UPGRADE) + get(b"/healthz", CLOSE))
    assert [400, 200] == [answer.status for answer in answers]
    assert [] == hits_of(collector, "smuggled-by-upgrade")


def test_many_idle_connections_keep_nobody_out(collector: Footfall) -> None:
    """Connections that send nothing cost others nothing."""
    idle = [socket.create_connection(("127.0.0.1", collector.port), timeout=5) for _ in range(200)]
    try:
        assert 202 == send(collector, event()).status_code
    finally:
        for connection in idle:
            connection.close()
