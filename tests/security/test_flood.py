"""Floods from one address: whatever they send, and over however many connections, others are recorded."""

import selectors
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest

from harness import Footfall, read_answer
from raw_http import get, post

VISITS = 30
MIB = 1024 * 1024
OTHER = "127.0.0.2"

LONG_HIT = get(b"/track?site_id=flood", b"Referer: " + b"\xff" * 60_000)
LONG_EVENT = post(b'{"site_id":"flood","event_type":"e","props":{"a":"%b"}}' % (b"a" * 60_000))
SHORT_HITS = get(b"/track?site_id=flood") * 100


@contextmanager
def flood(port: int, connections: int, wire: bytes) -> Iterator[Callable[[], int]]:
    """Send `wire` on many connections of 127.0.0.1 at once, again and again; what is yielded tells the bytes so far."""
    sent: Counter[int] = Counter()
    over = threading.Event()
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for _ in range(connections):
            connection = stack.enter_context(closing(socket.create_connection(("127.0.0.1", port), timeout=60)))
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
        flooder = threading.Thread(target=_send, args=(selector, wire, sent, over))
        flooder.start()
        try:
            yield sent.total
        finally:
            over.set()
            flooder.join()


def _send(selector: selectors.BaseSelector, wire: bytes, sent: Counter[int], over: threading.Event) -> None:
    left = dict.fromkeys(selector.get_map(), b"")
    while not over.is_set():
        for key, ready in selector.select(0.1):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            try:
                if ready & selectors.EVENT_READ and not connection.recv(1 << 20):
                    selector.unregister(connection)
                elif ready & selectors.EVENT_WRITE:
                    data = left[key.fd] or wire
                    size = connection.send(data)
                    left[key.fd] = data[size:]
                    sent[key.fd] += size
            except ConnectionError:
                selector.unregister(connection)


def visit(port: int) -> None:
    """Hits and events of another address, one after the other, each on a connection of its own."""
    for number in range(VISITS):
        request = get(b"/track?site_id=visit&path=/%d" % number)
        if number % 2:
            request = post(b'{"site_id":"visit","event_type":"page_view","path":"/%d"}' % number)
        with socket.create_connection(("127.0.0.1", port), timeout=60, source_address=(OTHER, 0)) as visitor:
            visitor.sendall(request)
            assert read_answer(visitor).startswith((b"HTTP/1.1 200", b"HTTP/1.1 202"))


@pytest.mark.parametrize("connections", [1, 10, 1_000])
def test_a_flood_costs_nobody_else_a_hit(footfall: Footfall, connections: int) -> None:
    """Every hit and event of another address is recorded while one floods with short and long ones of its own."""
    footfall.start()
    with flood(footfall.port, connections, LONG_HIT + SHORT_HITS + LONG_EVENT):
        visit(footfall.port)
    footfall.settle(60)
    assert VISITS == footfall.stats("visit")["total_views"]
    assert footfall.ledger()["refused"].keys() <= {"flooding", "timed_out", "malformed"}


def test_a_flood_of_more_than_the_queue_holds_costs_nobody_else_a_hit(footfall: Footfall) -> None:
    """One connection with the longest headers of bytes that have to be escaped does not fill the queue for all."""
    footfall.set(FOOTFALL__QUEUE__MAX_BYTES=str(64 * MIB)).start()
    with flood(footfall.port, 1, LONG_HIT) as sent:
        visits = 0
        while sent() < 300 * MIB:
            visit(footfall.port)
            visits += VISITS
    footfall.settle(60)
    assert visits == footfall.stats("visit")["total_views"]
