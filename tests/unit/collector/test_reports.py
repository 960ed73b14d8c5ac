"""Which requests for reports the collector passes on, and which it refuses."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import NoReturn

import httpx
import pytest
import uvloop

from footfall.collector.application import Application
from footfall.collector.message import Request, Response
from footfall.collector.reply import Reply
from footfall.collector.reports import ReportRequests
from footfall.collector.server import Server
from footfall.problem import Problem
from footfall.status.access import ReportAccess
from footfall.status.service import ServiceStatus


class Collector(Application):
    """An application without reports of its own, and a state that can't be read."""

    def __init__(self, token: str | None) -> None:
        status = ServiceStatus(self._fail, sinks=(), checks={})
        self._reports = ReportRequests(ReportAccess(token), status, None)

    def _fail(self) -> NoReturn:
        raise ZeroDivisionError("of the test")

    def handle(self, request: Request, reply: Reply) -> None:
        self._reports.answer(request, reply)

    def max_body_bytes(self, path: bytes) -> int:  # noqa: ARG002
        return 0

    def refuse(self, problem: Problem, path: bytes, headers: Mapping[bytes, bytes]) -> Response:  # noqa: ARG002
        return Response.of(problem)


def run(token: str | None, main: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    """Run a test with a client of a server."""

    async def with_server() -> None:
        server = Server(Collector(token), max_connections=100)
        listener = socket.create_server(("127.0.0.1", 0))
        await server.start(listener)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            await main(client)
        await server.drain(0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(with_server())


@pytest.mark.parametrize(("token", "status"), [(None, 403), ("open-sesame", 401)])
def test_whoever_may_not_ask_is_told_so(token: str | None, status: int, caplog: pytest.LogCaptureFixture) -> None:
    """At once; nothing is made for it."""

    async def main(client: httpx.AsyncClient) -> None:
        refused = await client.get("/ledger", headers={"X-Forwarded-For": "192.0.2.1"})
        assert status == refused.status_code
        assert (status == 401) is ("www-authenticate" in refused.headers)
        assert [] == caplog.records
        assert 200 == (await client.get("/healthz", headers={"X-Forwarded-For": "192.0.2.1"})).status_code

    run(token, main)


def test_what_is_not_here_is_a_problem() -> None:
    """A path without a report is 404, and the state of the service takes no other method."""

    async def main(client: httpx.AsyncClient) -> None:
        assert 404 == (await client.get("/stats")).status_code
        refused = await client.post("/ledger")
        assert (405, "GET, HEAD") == (refused.status_code, refused.headers["allow"])

    run(None, main)
