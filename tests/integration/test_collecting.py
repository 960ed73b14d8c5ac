"""`GET /track`, `POST /event` and `POST /events` through a running collector, and what the queue holds of them."""

import random
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from footfall.durable.checksum import checksum_of
from footfall.entry import Entry, Event, Hit, decode_entries
from footfall.queue.base import Progress
from footfall.queue.local.file import FILE_NAME
from footfall.queue.local.store import LocalQueue
from footfall.queue.sink import SINKS
from harness import ANSWER_S, IS_TIMED, Footfall, eventually
from raw_http import chunk, exchange, get, parse_answers, read_to_end

CDN_PIXEL = "https://cdn.example/pixel.gif?from=footfall"
PROXIES = ["127.0.0.0/8", "10.0.0.0/8"]


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Footfall]:
    """`footfall run collector`, one for all tests: each takes a `site_id` of its own."""
    instance = Footfall(tmp_path_factory.mktemp("collector"))
    yield instance.start("run", "collector")
    instance.kill()


@pytest.fixture(scope="module")
def behind_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Footfall]:
    """A collector that trusts this machine to be a proxy, and has its image elsewhere."""
    instance = Footfall(
        tmp_path_factory.mktemp("behind_proxy"),
        FOOTFALL__COLLECTOR__TRUSTED_PROXIES=",".join(PROXIES),
        FOOTFALL__COLLECTOR__PIXEL_URL=CDN_PIXEL,
    )
    yield instance.start("run", "collector")
    instance.kill()


def recorded(footfall: Footfall, site_id: str | None = None) -> list[Entry]:
    """What the queue holds of a site, or all of it."""
    with closing(LocalQueue(footfall.data_dir / FILE_NAME, sinks=SINKS)) as queue:
        entries = [entry for batch in queue.read(0, max_bytes=1 << 40) for entry in decode_entries(batch.payload)]
    return [entry for entry in entries if site_id in {None, entry.site_id}]


def the_hit(footfall: Footfall, site_id: str) -> Hit:
    """The one hit of a site; nobody waits for its commit, so it may take a moment."""
    eventually(1, lambda: len(recorded(footfall, site_id)))
    [hit] = recorded(footfall, site_id)
    assert isinstance(hit, Hit)
    return hit


def the_event(footfall: Footfall, site_id: str) -> Event:
    """The one event of a site; it is there once it is acknowledged."""
    [event] = recorded(footfall, site_id)
    assert isinstance(event, Event)
    return event


def track(footfall: Footfall, query: str, **headers: str) -> httpx.Response:
    return httpx.get(f"{footfall.url}/track{query}", headers={"User-Agent": "Test/1"} | headers)


# The image.


def test_image_has_the_headers_of_the_contract_and_no_more(collector: Footfall) -> None:
    """Never cached, loadable from any site, and nothing that tells visitors apart, a cookie least of all."""
    response = track(collector, "?site_id=headers")

    assert 200 == response.status_code
    assert {
        "content-type": "image/gif",
        "content-length": str(len(response.content)),
        "cache-control": "no-store",
        "access-control-allow-origin": "*",
        "cross-origin-resource-policy": "cross-origin",
        "date": response.headers["date"],
    } == dict(response.headers)


def test_image_is_one_transparent_pixel(collector: Footfall) -> None:
    """Read by hand after the GIF89a specification: 1 by 1, and the one pixel has the transparent colour."""
    gif = track(collector, "?site_id=image").content

    assert len(gif) <= 43
    assert b"GIF89a" == gif[:6]
    width, height, flags = int.from_bytes(gif[6:8], "little"), int.from_bytes(gif[8:10], "little"), gif[10]
    assert (1, 1) == (width, height)
    assert flags & 0x80, "a global colour table follows"
    control = gif[13 + 3 * 2 ** ((flags & 7) + 1) :]
    assert b"\x21\xf9\x04" == control[:3], "a graphic control extension follows"
    assert control[3] & 1, "it gives a transparent colour"
    transparent = control[6]
    image = control[8:]
    assert b"\x2c\0\0\0\0\1\0\1\0\0" == image[:10], "an image at 0, 0, 1 by 1, without a table of its own"
    code_bits, length = image[10] + 1, image[11]
    codes = int.from_bytes(image[12 : 12 + length], "little")
    clear, pixel, end = (codes >> (code_bits * number) & (1 << code_bits) - 1 for number in range(3))
    assert (1 << image[10], transparent, (1 << image[10]) + 1) == (clear, pixel, end)
    assert b"\0\x3b" == image[12 + length :], "the block and the file end"


def test_hit_holds_what_the_request_said(collector: Footfall) -> None:
    """Time, referrer, user agent and address are recorded as they came."""
    before = time.time_ns()
    track(collector, "?site_id=hit", Referer="https://blog.example/posts/1?draft=1#top")
    after = time.time_ns()

    hit = the_hit(collector, "hit")

    assert before <= hit.received_ns <= after
    assert (b"https://blog.example/posts/1?draft=1#top", b"Test/1", "127.0.0.1") == (
        hit.referrer,
        hit.user_agent,
        hit.address,
    )


def test_hit_without_headers_is_recorded(collector: Footfall) -> None:
    """A client that says nothing of itself is a hit, too."""
    exchange(collector.port, b"GET /track?site_id=bare HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")

    hit = the_hit(collector, "bare")

    assert (b"", b"", None, None) == (hit.referrer, hit.user_agent, hit.path, hit.user_id)


def test_hit_without_parameters_is_recorded(collector: Footfall) -> None:
    """The bare image of the contract; whose it is follows from the referrer later."""
    track(collector, "", **{"User-Agent": "Bare/1"})

    def bare() -> list[Entry]:
        return [entry for entry in recorded(collector) if entry.user_agent == b"Bare/1"]

    eventually(1, lambda: len(bare()))
    [hit] = bare()
    assert (None, None, None) == (hit.site_id, hit.path, hit.user_id)


def test_parameters_of_a_hit_are_taken(collector: Footfall) -> None:
    """Site, path and user, percent-decoded; others are ignored."""
    track(collector, f"?x=1&user_id=u%2B1&path={quote('/prix/été à 100%', safe='')}&site_id=parameters&site_id=second")

    hit = the_hit(collector, "parameters")

    assert ("/prix/été à 100%", "u+1") == (hit.path, hit.user_id)


def test_plus_is_a_space_and_empty_is_absent(collector: Footfall) -> None:
    """A query is read as forms write it."""
    track(collector, "?site_id=a+plus&path=&user_id=")

    hit = the_hit(collector, "a plus")

    assert (None, None) == (hit.path, hit.user_id)


def test_image_is_never_refused_for_its_query(collector: Footfall) -> None:
    """Whatever a page puts behind the question mark, the image comes, and what can be read is recorded."""
    queries = [
        "?",
        "??",
        "?&&=&",
        "?site_id",
        "?site_id=%",
        "?site_id=%zz%f",
        "?path=%ff%00%0d%0a",
        "?path=#",
        "?a=/:@",
    ]
    before = collector.ledger()["received"]

    assert [200] * len(queries) == [track(collector, query).status_code for query in queries]
    eventually(len(queries), lambda: collector.ledger()["received"] - before)


def test_parameters_that_are_not_utf8_are_recorded_as_far_as_they_go(collector: Footfall) -> None:
    """What can't be decoded is replaced, not dropped."""
    track(collector, "?site_id=garbled&path=%ffa%ed%a0%80b")

    hit = the_hit(collector, "garbled")

    assert hit.path is not None
    assert "ab" == hit.path.replace("\ufffd", "")


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_asking_about_the_image_is_no_hit(collector: Footfall, method: str) -> None:
    """HEAD and OPTIONS are answered and not recorded."""
    site_id = f"asking-{method}"
    assert httpx.request(method, f"{collector.url}/track?site_id={site_id}").is_success
    track(collector, "?site_id=" + site_id, **{"User-Agent": "After/1"})

    assert b"After/1" == the_hit(collector, site_id).user_agent


def test_head_has_the_headers_of_get(collector: Footfall) -> None:
    """RFC 9110: the same answer without its body."""
    with socket.create_connection(("127.0.0.1", collector.port), timeout=5) as connection:
        connection.sendall(get(b"/track", b"Connection: close", method=b"HEAD"))
        [answer] = parse_answers(read_to_end(connection), head_only=True)
    got = track(collector, "?site_id=head").headers

    assert 200 == answer.status
    assert {**dict(got), "connection": "close"} == answer.headers | {"date": got["date"]}


def test_hit_is_on_disk_within_10_ms_of_its_answer(collector: Footfall) -> None:
    """Nobody retries an image. How soon is asserted by `make test-timed` only, best of several."""
    delays = []
    with (
        closing(LocalQueue(collector.data_dir / FILE_NAME, sinks=SINKS)) as queue,
        httpx.Client(base_url=collector.url) as client,
    ):
        for _ in range(20):
            position = queue.last_sequence()
            client.get("/track?site_id=disk")
            answered = time.perf_counter()
            while not queue.read(position):
                assert time.perf_counter() - answered < ANSWER_S
            delays.append(time.perf_counter() - answered)

    assert min(delays) < 0.010 or not IS_TIMED


def test_image_elsewhere_is_redirected_to_and_the_hit_recorded(behind_proxy: Footfall) -> None:
    """With `collector.pixel_url` a CDN serves the image; nothing else changes."""
    response = track(behind_proxy, "?site_id=cdn")

    assert (302, CDN_PIXEL, b"") == (response.status_code, response.headers["location"], response.content)
    assert ("no-store", "*", "cross-origin") == (
        response.headers["cache-control"],
        response.headers["access-control-allow-origin"],
        response.headers["cross-origin-resource-policy"],
    )
    assert b"Test/1" == the_hit(behind_proxy, "cdn").user_agent


# Whose it is.


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        (["203.0.113.5"], "203.0.113.5"),
        (["2001:db8::1"], "2001:db8::1"),
        (["203.0.113.5:4711"], "203.0.113.5"),
        (["6.6.6.6, 203.0.113.5"], "203.0.113.5"),
        (["203.0.113.5, 10.1.1.1"], "203.0.113.5"),
        (["203.0.113.5", "10.1.1.1"], "203.0.113.5"),
        (["10.2.2.2, junk, 203.0.113.5"], "203.0.113.5"),
        (["junk"], None),
        (["203.0.113.5, unknown"], None),
        ([""], None),
        ([], "127.0.0.1"),
    ],
)
def test_trusted_proxy_tells_whose_hit_it_is(
    behind_proxy: Footfall, forwarded: list[str], expected: str | None
) -> None:
    """`X-Forwarded-For` is read from its end; where it says nothing that is an address, there is none."""
    site_id = f"proxied {forwarded}"
    lines = [f"X-Forwarded-For: {value}".encode() for value in forwarded]
    exchange(behind_proxy.port, get(f"/track?site_id={quote(site_id)}".encode(), *lines, b"Connection: close"))

    assert expected == the_hit(behind_proxy, site_id).address


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Client-IP", "True-Client-IP"])
def test_nobody_is_a_proxy_by_default(collector: Footfall, header: str) -> None:
    """A visitor can't choose an address."""
    track(collector, f"?site_id=direct-{header}", **{header: "203.0.113.5"})
    collector.post(site_id=f"direct-event-{header}")

    assert "127.0.0.1" == the_hit(collector, f"direct-{header}").address


def test_event_is_told_by_the_proxy_too(behind_proxy: Footfall) -> None:
    """Events and hits have their address from the same place."""
    httpx.post(
        behind_proxy.url + "/event",
        json={"site_id": "proxied-event", "event_type": "click"},
        headers={"X-Forwarded-For": "203.0.113.5"},
    )

    assert "203.0.113.5" == the_event(behind_proxy, "proxied-event").address


def test_trailer_is_no_header(behind_proxy: Footfall) -> None:
    """What comes after a chunked body (RFC 9110, section 6.5) can't name the visitor, nor anything else."""
    body = b'{"site_id": "trailer", "event_type": "click"}'
    head = get(
        b"/event",
        b"Content-Type: application/json",
        b"Transfer-Encoding: chunked",
        b"User-Agent: Test/1",
        b"X-Forwarded-For: 203.0.113.5",
        b"Connection: close",
        method=b"POST",
    )
    trailers = b"X-Forwarded-For: 6.6.6.6\r\nUser-Agent: Forged/1\r\n\r\n"

    [answer] = exchange(behind_proxy.port, head + chunk(body) + chunk(b"") + trailers)

    assert 202 == answer.status
    event = the_event(behind_proxy, "trailer")
    assert ("203.0.113.5", b"Test/1") == (event.address, event.user_agent)


# Events.


def test_accepted_event_has_the_answer_of_the_contract(collector: Footfall) -> None:
    """202, in JSON, readable by a page of any site, and no cookie."""
    response = collector.post(site_id="accepted")

    assert 202 == response.status_code
    assert {"status": "accepted"} == response.json()
    assert {
        "content-type": "application/json",
        "content-length": str(len(response.content)),
        "cache-control": "no-store",
        "access-control-allow-origin": "*",
        "date": response.headers["date"],
    } == dict(response.headers)


def test_event_holds_what_was_posted(collector: Footfall) -> None:
    """Every field, the user agent, the address and the time of receipt, and it is there with the answer."""
    before = time.time_ns()
    response = httpx.post(
        collector.url + "/event",
        json={
            "site_id": "posted",
            "event_type": "purchase",
            "path": "/été",
            "user_id": "u|1",
            "timestamp": "2025-11-12T10:30:00.5+01:00",
            "referrer": "https://news.example/",
            "props": {"plan": "free", "count": 3, "new": True, "coupon": None, "price": 9.5},
        },
        headers={"User-Agent": "Test/1"},
    )
    assert 202 == response.status_code

    event = the_event(collector, "posted")

    assert before <= event.received_ns <= time.time_ns()
    assert (
        Event(
            event.received_ns,
            "127.0.0.1",
            b"Test/1",
            "posted",
            "purchase",
            "/été",
            "u|1",
            1_762_939_800_500_000,
            "https://news.example/",
            {"plan": "free", "count": 3, "new": True, "coupon": None, "price": 9.5},
        )
        == event
    )


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON ;charset=UTF-8",
        "text/plain",
        "text/plain;charset=UTF-8",
    ],
)
def test_content_types_that_browsers_send_are_taken(collector: Footfall, content_type: str) -> None:
    """`fetch` and `navigator.sendBeacon` both work, whatever parameters the type has."""
    response = httpx.post(
        collector.url + "/event",
        content=b'{"site_id": "a", "event_type": "click"}',
        headers={"Content-Type": content_type},
    )

    assert 202 == response.status_code


def test_chunked_event_is_taken(collector: Footfall) -> None:
    """A body in pieces is the body whole."""
    body = b'{"site_id": "chunked", "event_type": "click"}'
    head = get(
        b"/event",
        b"Content-Type: application/json",
        b"Transfer-Encoding: chunked",
        b"Connection: close",
        method=b"POST",
    )

    [answer] = exchange(
        collector.port, head, *(chunk(body[place : place + 1]) for place in range(len(body))), b"0\r\n\r\n"
    )

    assert 202 == answer.status
    assert "click" == the_event(collector, "chunked").event_type


@pytest.mark.parametrize(
    ("path", "methods"), [("/track", "GET, HEAD, OPTIONS"), ("/event", "POST, OPTIONS"), ("/events", "POST, OPTIONS")]
)
def test_preflight_is_answered(collector: Footfall, path: str, methods: str) -> None:
    """A page of any site may send JSON, and need not ask again for a day; credentials are not wanted."""
    response = httpx.options(
        collector.url + path,
        headers={
            "Origin": "https://blog.example",
            "Access-Control-Request-Method": methods.partition(",")[0],
            "Access-Control-Request-Headers": "content-type",
        },
    )

    assert response.is_success
    assert ("*", methods, "content-type", "86400") == tuple(
        response.headers[f"access-control-{name}"]
        for name in ("allow-origin", "allow-methods", "allow-headers", "max-age")
    )
    assert "access-control-allow-credentials" not in response.headers
    assert "set-cookie" not in response.headers


def test_events_that_come_together_are_each_recorded_once(collector: Footfall) -> None:
    """Many clients share commits; every acknowledgement stands for one event, and each client's are in order."""
    numbers = [f"{number:02}" for number in range(40)]
    acknowledged: list[tuple[str, str]] = []

    def send(name: str) -> None:
        with httpx.Client(base_url=collector.url) as client:
            for number in numbers:
                event = {"site_id": "together", "event_type": number, "path": name}
                if client.post("/event", json=event).status_code == httpx.codes.ACCEPTED:
                    acknowledged.append((name, number))

    threads = [threading.Thread(target=send, args=(name,)) for name in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [(name, number) for name in "abcdef" for number in numbers] == sorted(acknowledged)
    events = [event for event in recorded(collector, "together") if isinstance(event, Event)]
    for name in "abcdef":
        assert numbers == [event.event_type for event in events if event.path == name]


def test_many_events_at_once_are_taken(collector: Footfall) -> None:
    """`POST /events` takes what is right, names what is not, and answers when it is in the queue."""
    response = httpx.post(
        collector.url + "/events",
        content=b'{"site_id": "many", "event_type": "a"}\n{"site_id": ""}\n{"site_id": "many", "event_type": "b"}\n',
        headers={"Content-Type": "application/x-ndjson"},
    )

    assert 202 == response.status_code
    answer = response.json()
    assert ("accepted", 2, [1]) == (answer["status"], answer["accepted"], [one["index"] for one in answer["refused"]])
    assert ["a", "b"] == [entry.event_type for entry in recorded(collector, "many") if isinstance(entry, Event)]


# A queue that is full.


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Footfall]:
    """A collector with the smallest queue, filled until it refuses; `acknowledged` events are in it."""
    instance = Footfall(tmp_path, FOOTFALL__QUEUE__MAX_BYTES=str(1024 * 1024))
    instance.start("run", "collector")
    yield instance
    instance.kill()


def fill(footfall: Footfall) -> int:
    """Post until the queue takes no more; how many it took. One was refused."""
    chance = random.Random(0)
    for taken in range(1_000):
        response = footfall.post(site_id="full", props={"filling": chance.randbytes(20_000).hex()})
        if response.status_code != httpx.codes.ACCEPTED:
            assert 503 == response.status_code
            return taken
    raise AssertionError("the queue has no limit")


def make_room(footfall: Footfall) -> None:
    """Do as sinks that have passed everything."""
    with closing(LocalQueue(footfall.data_dir / FILE_NAME, sinks=SINKS, max_bytes=0)) as queue:
        last = queue.last_sequence()
        for sink in SINKS:
            queue.report(sink, Progress(last, last))
        while queue.trim():
            pass


def test_full_queue_refuses_and_counts_and_loses_nothing(full: Footfall) -> None:
    """An event gets 503 and when to try again, the image still comes, and what was acknowledged is there."""
    acknowledged = fill(full)

    refused = full.post(site_id="full")
    image = track(full, "?site_id=full")

    assert 503 == refused.status_code
    assert int(refused.headers["retry-after"]) > 0
    assert ("application/problem+json", 503) == (refused.headers["content-type"], refused.json()["status"])
    assert "*" == refused.headers["access-control-allow-origin"]
    assert (200, "image/gif") == (image.status_code, image.headers["content-type"])
    eventually(3, lambda: sum(full.ledger()["refused"].values()))
    assert acknowledged == full.ledger()["received"] == len(recorded(full, "full"))


def test_refusals_of_a_full_queue_are_counted_once(full: Footfall) -> None:
    """The count stands still when nothing is sent, however long the queue is full."""
    fill(full)
    eventually(1, lambda: sum(full.ledger()["refused"].values()))

    # Long enough for the collector to look twice whether there is room again.
    deadline = time.monotonic() + 2.5
    while time.monotonic() < deadline:
        assert 1 == sum(full.ledger()["refused"].values())
        time.sleep(0.1)


def test_readiness_tells_of_a_full_queue_and_of_room_again(full: Footfall) -> None:
    """`/readyz` names the collector while it refuses, and is well again without anybody sending anything."""
    fill(full)

    response = httpx.get(full.url + "/readyz")
    assert 503 == response.status_code
    assert "queue.max_bytes" in response.json()["roles"]["collector"]
    eventually(1, lambda: sum(full.ledger()["refused"].values()))  # so it has looked for room, in vain, and must again

    make_room(full)
    eventually(200, lambda: httpx.get(full.url + "/readyz").status_code)
    assert 202 == full.post(site_id="room").status_code
    track(full, "?site_id=room-image")
    assert b"Test/1" == the_hit(full, "room-image").user_agent


def set_last_sequence(queue_path: Path, number: int) -> None:
    """As if the queue had given out that one last."""
    with closing(sqlite3.connect(queue_path)) as queue, queue:
        totals = queue.execute("SELECT source, received, end_bytes FROM totals").fetchone()
        queue.execute("UPDATE totals SET last_sequence = ?, seal = ?", (number, checksum_of(*totals, number)))


def test_error_that_nobody_foresaw_in_a_commit_ends_the_process(footfall: Footfall) -> None:
    """It is in the log, and the next process goes on; one that stayed would take hits and commit none."""
    footfall.start("run", "collector")
    assert 202 == footfall.post().status_code
    set_last_sequence(footfall.data_dir / FILE_NAME, 2**63 - 1)  # there is none behind it

    with pytest.raises(httpx.HTTPError):
        footfall.post()
    set_last_sequence(footfall.data_dir / FILE_NAME, time.time_ns() // 1_000)

    eventually(1, lambda: footfall.output().count("collector ended with exit code 70; restarting it"))
    assert "OverflowError" in footfall.output()
    assert 202 == footfall.post().status_code
    assert 2 == footfall.ledger()["received"]
