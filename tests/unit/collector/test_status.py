"""How the collector answers for the state of its service: in threads, and not once more than it must."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping

import httpx
import pytest
import uvloop

from footfall.collector.application import Application
from footfall.collector.message import Request, Response
from footfall.collector.reply import Reply
from footfall.collector.server import Server
from footfall.collector.status import StatusReplies
from footfall.errors import QueueFullError
from footfall.problem import Problem
from footfall.queue.local.reader import QueueState
from footfall.status.service import ServiceStatus


class Observing(Application):
    """An application that has nothing else to say. Its one role is ready when it is let go on.

    Attributes:
        asked: requests so far.
        made: how often readiness was looked at.
        go_on: what a look at it waits for.
        failure: raised by a look at the ledger.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.made = 0
        self.go_on = threading.Event()
        self.failure: Exception = ZeroDivisionError("of the test")
        self._status_replies = StatusReplies(ServiceStatus(self._fail, sinks=(), checks={"role": self._check}))

    def _check(self) -> None:
        self.made += 1
        self.go_on.wait(20)

    def _fail(self) -> QueueState:
        raise self.failure

    def handle(self, request: Request, reply: Reply) -> None:
        self.asked += 1
        self._status_replies.answer(request, reply)

    def max_body_bytes(self, path: bytes) -> int:  # noqa: ARG002
        return 0

    def refuse(self, problem: Problem, path: bytes, headers: Mapping[bytes, bytes]) -> Response:  # noqa: ARG002
        return Response.of(problem)


def run(main: Callable[[Observing, httpx.AsyncClient], Awaitable[None]]) -> None:
    """Run a test with a server and a client of it."""

    async def with_server() -> None:
        observing = Observing()
        server = Server(observing, max_connections=100)
        listener = socket.create_server(("127.0.0.1", 0))
        await server.start(listener)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with asyncio.timeout(20), httpx.AsyncClient(base_url=url, timeout=20) as client:
            await main(observing, client)
        await server.drain(0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(with_server())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for knows of no event
        await asyncio.sleep(0.005)


def test_those_who_ask_while_an_answer_is_made_share_the_next() -> None:
    """Not that one: it may be older than their question."""

    async def main(observing: Observing, client: httpx.AsyncClient) -> None:
        first = asyncio.ensure_future(client.get("/readyz"))
        await until(lambda: observing.made == 1)
        others = [asyncio.ensure_future(client.get("/readyz")) for _ in range(50)]
        await until(lambda: observing.asked == 51)
        observing.go_on.set()

        assert [200] * 51 == [answer.status_code for answer in await asyncio.gather(first, *others)]
        assert 2 == observing.made

    run(main)


def test_whether_it_lives_does_not_wait_for_whether_it_is_ready() -> None:
    """One answer that takes long delays no other path."""

    async def main(observing: Observing, client: httpx.AsyncClient) -> None:
        waiting = asyncio.ensure_future(client.get("/readyz"))
        await until(lambda: observing.made == 1)

        assert 200 == (await client.get("/healthz")).status_code
        assert not waiting.done()
        observing.go_on.set()
        assert 200 == (await waiting).status_code

    run(main)


@pytest.mark.parametrize("failure", [QueueFullError("no room"), ZeroDivisionError("of the test")])
def test_state_that_can_not_be_read_is_an_answer(failure: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """A problem for whoever asked, the reason in the log, and the next is answered all the same."""

    async def main(observing: Observing, client: httpx.AsyncClient) -> None:
        observing.failure = failure
        for _ in range(2):
            answer = await client.get("/ledger")
            assert (503, "application/problem+json") == (answer.status_code, answer.headers["content-type"])

    run(main)
    assert 2 == len(caplog.records)
    assert str(failure) in caplog.text
