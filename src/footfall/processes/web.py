"""The server of everything but the collector, whose own is faster and does less."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, cast

import uvicorn
import uvloop
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from footfall.collector.http import HEAD_S
from footfall.collector.message import Response
from footfall.problem import Problem
from footfall.supervisor import Lifeline

MAX_HEAD_BYTES: Final = 128 * 1024
"""More than a collector takes of one, and so passes on."""

_GRACE_S = 3
"""For a report that is being made when the stop comes."""


class _Server(uvicorn.Server):
    """Leaves the signals to the lifeline."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Connection(HttpToolsProtocol):
    """Bounds a head and the time for it; uvicorn would hold all that comes of one, and wait for its end for ever."""

    _late: asyncio.TimerHandle | None = None  # while a head is awaited
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._late is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(Problem(431, f"The head of the request is longer than {MAX_HEAD_BYTES} bytes."))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._end_head()
        self._head_bytes = 0
        self._late = self.loop.call_later(HEAD_S, self._expire)

    def _end_head(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _expire(self) -> None:
        if self._is_answering():
            self._await_head()
        else:
            self._refuse(Problem(408, "The request did not arrive in time."))

    def _refuse(self, problem: Problem) -> None:
        self._end_head()
        if not self._is_answering():
            self.transport.write(Response.of(problem).wire(b"", head_only=False, close=True))
        self.transport.close()

    def _is_answering(self) -> bool:
        """Whether the answer to an earlier request comes first."""
        cycle = cast(RequestResponseCycle | None, self.cycle)  # there is none before the first request
        return cycle is not None and not cycle.response_complete


def serve(lifeline: Lifeline, app: ASGIApp, listener: socket.socket) -> None:
    """Answer requests until told to stop."""
    config = uvicorn.Config(
        app,
        http=_Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = _Server(config)

    def stop() -> None:
        server.should_exit = True

    lifeline.on_stop(stop)
    uvloop.run(server.serve(sockets=[listener]))
