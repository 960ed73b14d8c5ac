"""The collector's endpoints on a queue of their own, in this process: what can't be brought about from outside."""

import asyncio
import re
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Self

import httpx
import pytest
import uvloop

from costly import COSTLY
from footfall.collector.address import ClientAddress
from footfall.collector.endpoints import Endpoints
from footfall.collector.intake import Intake
from footfall.collector.protocols import routes
from footfall.collector.reports import ReportRequests
from footfall.collector.server import Server
from footfall.collector.trust import TrustedSenders
from footfall.queue.local.store import LocalQueue
from footfall.settings import CollectorSettings
from footfall.status.access import ReportAccess
from footfall.status.service import ServiceStatus

VIEW = {"site_id": "a", "event_type": "page_view"}


class BrokenAddresses(ClientAddress):
    """An error of ours."""

    def of(self, peer: str | None, forwarded: bytes | None) -> str | None:
        raise ZeroDivisionError(peer, forwarded)


def fail(error: Exception) -> None:
    raise error


def run(directory: Path, addresses: ClientAddress, main: Callable[[httpx.AsyncClient], Awaitable[None]]) -> LocalQueue:
    """Run a test with a client of a collector, and return its queue."""

    async def with_collector() -> None:
        queue = LocalQueue(directory / "queue.sqlite", sinks=())
        intake = Intake(queue, on_failed=fail)
        endpoints = Endpoints(
            intake,
            routes(CollectorSettings(), TrustedSenders(ReportAccess(None))),
            addresses=addresses,
            reports=ReportRequests(ReportAccess(None), ServiceStatus(queue.state, sinks=(), checks={}), None),
        )
        server = Server(endpoints, max_connections=100)
        listener = socket.create_server(("127.0.0.1", 0))
        await server.start(listener)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with asyncio.timeout(20), httpx.AsyncClient(base_url=url, timeout=20) as client:
            await main(client)
        await server.drain(1)
        await intake.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(with_collector())
    return LocalQueue(directory / "queue.sqlite", sinks=())


def test_error_of_ours_is_counted_as_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not as the client's; the image is served all the same."""

    async def main(client: httpx.AsyncClient) -> None:
        assert 500 == (await client.post("/event", json=VIEW)).status_code
        image = await client.get("/track")
        assert (200, "image/gif") == (image.status_code, image.headers["content-type"])

    with closing(run(tmp_path, BrokenAddresses([]), main)) as queue:
        assert {"error": 2} == queue.state().refused
    assert "ZeroDivisionError" in caplog.text


class CallCounter:
    """Counts calls of functions, Python's and C's, in the thread that enters it."""

    def __init__(self) -> None:
        self.calls = 0

    def __enter__(self) -> Self:
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _count(self, _frame: object, event: str, _argument: object) -> None:
        self.calls += event in {"call", "c_call"}


@pytest.mark.parametrize("attack", COSTLY)
def test_work_grows_no_faster_than_the_request(tmp_path: Path, attack: str) -> None:
    """Four times the parameters, fields or headers make the collector call no more than about four times the functions.

    A quadratic loop would make sixteen times as many. The least of a few is taken: a request may arrive in more pieces
    than another of its size, and the server does some work of its own every second.
    """
    calls: dict[int, int] = {}

    async def main(client: httpx.AsyncClient) -> None:
        assert client.base_url.port is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        for size in (25, 100):
            counted = []
            for _ in range(5):
                with CallCounter() as counter:
                    writer.write(COSTLY[attack](size))
                    head = await reader.readuntil(b"\r\n\r\n")
                    [length] = re.findall(rb"content-length: (\d+)", head) or [b"0"]
                    await reader.readexactly(int(length))
                counted.append(counter.calls)
            calls[size] = min(counted)
        writer.close()

    run(tmp_path, ClientAddress([]), main).close()
    assert calls[100] < 8 * calls[25]
