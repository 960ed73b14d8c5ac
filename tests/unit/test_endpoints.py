"""The collector's endpoints on a queue of their own, in this process: what can't be brought about from outside."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import uvloop

from footfall.collector.address import ClientAddress
from footfall.collector.endpoints import Endpoints
from footfall.collector.http import Server
from footfall.collector.intake import Intake
from footfall.gate import Gate
from footfall.observe import Observer
from footfall.queue.embedded import EmbeddedQueue

VIEW = {"site_id": "a", "event_type": "page_view"}


class BrokenAddresses(ClientAddress):
    """An error of ours."""

    def of(self, peer: str | None, forwarded: bytes | None) -> str | None:
        raise ZeroDivisionError(peer, forwarded)


def refuse(error: Exception) -> None:
    raise error


def run(
    directory: Path, addresses: ClientAddress, main: Callable[[httpx.AsyncClient], Awaitable[None]]
) -> EmbeddedQueue:
    """Run a test with a client of a collector, and return its queue."""

    async def with_collector() -> None:
        queue = EmbeddedQueue(directory / "queue.sqlite", sinks=())
        intake = Intake(queue, on_damaged=refuse)
        endpoints = Endpoints(
            intake,
            addresses=addresses,
            observer=Observer(queue.state, sinks=(), checks={}),
            gate=Gate(None),
            forwarder=None,
            max_body_bytes=65_536,
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
    return EmbeddedQueue(directory / "queue.sqlite", sinks=())


def test_error_of_ours_is_counted_as_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not as the client's; the image is served all the same."""

    async def main(client: httpx.AsyncClient) -> None:
        assert 500 == (await client.post("/event", json=VIEW)).status_code
        image = await client.get("/track")
        assert (200, "image/gif") == (image.status_code, image.headers["content-type"])

    with closing(run(tmp_path, BrokenAddresses([]), main)) as queue:
        assert {"error": 2} == queue.state().refused
    assert "ZeroDivisionError" in caplog.text
