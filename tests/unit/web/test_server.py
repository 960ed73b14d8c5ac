"""The server of reports and of a service's state: clients that are slow or greedy."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
import uvloop
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from footfall.web import server
from harness import eventually
from raw_http import exchange, get, parse_answers, read_to_end

HEAD_S = 0.1
CONNECTIONS = 20


waiting: list[tuple[str, int]] = []
"""Who waits for an answer that does not come."""


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """`ok`; to `/later` only when a head would be late, to `/never` not at all."""
    if scope["path"] == "/never":
        waiting.append(scope["client"])
        await asyncio.Event().wait()
    if scope["path"] == "/later":
        await asyncio.sleep(3 * HEAD_S)
    await Response("ok")(scope, receive, send)


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Where a server listens."""
    monkeypatch.setattr(server, "_GRACE_S", 0)
    listener = socket.create_server(("127.0.0.1", 0))
    running = server.Server(answer, max_connections=CONNECTIONS)
    thread = threading.Thread(target=uvloop.run, args=(running.serve(sockets=[listener]),))
    thread.start()
    yield listener.getsockname()[1]
    running.should_exit = True
    thread.join()


def test_a_head_without_end_is_not_read_for_ever(port: int) -> None:
    """Nobody has to know the token to send one."""
    [answer] = exchange(port, get(b"/stats")[:-2] + b"X-Long: " + b"a" * (server.MAX_HEAD_BYTES + 1))

    assert 431 == answer.status


@pytest.mark.parametrize("begun", [b"", get(b"/stats")[:-2], get(b"/") + b"GET"], ids=["none", "first", "second"])
def test_a_head_that_does_not_come_is_not_waited_for(port: int, monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    """A connection is closed when the head of a request is not whole in time, the first one or a later one."""
    monkeypatch.setattr(server, "HEAD_S", HEAD_S)

    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(begun)
        wire = read_to_end(connection)

    assert 408 == parse_answers(wire)[-1].status


def test_an_answer_is_not_cut_by_a_head_that_does_not_come(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next request may be late when the report before it takes long; it is refused after that."""
    monkeypatch.setattr(server, "HEAD_S", HEAD_S)

    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(get(b"/later") + b"GET")
        wire = read_to_end(connection)

    assert [200, 408] == [answer.status for answer in parse_answers(wire)]


def test_the_longest_head_of_a_collector_is_taken(port: int) -> None:
    """It comes from there in one or in several pieces."""
    line = b"X-Long: " + b"a" * 64 * 1024

    [answer] = exchange(port, get(b"/stats", line[:100]), get(b"/stats", line, b"Connection: close"))[1:]

    assert 200 == answer.status


def test_unfinished_requests_keep_nobody_out(port: int) -> None:
    """Beyond so many connections, the one that has sent nothing whole for longest is closed for a new one."""
    with ExitStack() as opened:
        for _ in range(3 * CONNECTIONS):
            connection = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            connection.sendall(b"GET / HTTP/1.1\r\n")

            [answer] = exchange(port, get(b"/", b"Connection: close"))
            assert 200 == answer.status


def test_connections_that_wait_for_answers_are_not_closed_for_others(port: int) -> None:
    """Those who have sent a request keep their place; one that comes then is closed."""
    with ExitStack() as opened:
        for _ in range(CONNECTIONS):
            connection = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            connection.sendall(get(b"/never"))
        eventually(CONNECTIONS, lambda: len(waiting))
        later = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))

        with suppress(ConnectionResetError):
            assert b"" == later.recv(1)
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1)
