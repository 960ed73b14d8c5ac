"""The server of everything but the collector, whose own is faster and does less."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import ClassVar, Final, cast

import uvicorn
import uvloop
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from footfall.collector.http import HEAD_S
from footfall.collector.message import Response
from footfall.problem import Problem
from footfall.processes.file_limit import raise_file_limit
from footfall.supervisor import Lifeline

MAX_HEAD_BYTES: Final = 128 * 1024
"""More than a collector takes of one, and so passes on."""

MAX_CONNECTIONS: Final = 1_000
"""Beyond it one that waits for its request is closed for each new one; each may hold a head of that length."""
_LOOKED_AT = 64
"""Connections looked at to find one that can go."""
_GRACE_S = 3
"""For a report that is being made when the stop comes."""


class _Server(uvicorn.Server):
    """Leaves the signals to the lifeline."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Connection(HttpToolsProtocol):
    """Bounds heads, the time for them, and connections; uvicorn would hold all that comes, and wait for ever.

    Attributes:
        others: all connections of the server, those open longest first.
        max_connections: how many there may be.
    """

    others: ClassVar[dict["_Connection", None]]
    max_connections: ClassVar[int]

    _late: asyncio.TimerHandle | None = None  # while a head is awaited
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        super().connection_made(transport)
        self.others[self] = None
        if len(self.others) > self.max_connections:
            self._make_room()
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        self.others.pop(self, None)
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
        if self.is_answering():
            self._await_head()
        else:
            self._refuse(Problem(408, "The request did not arrive in time."))

    def _refuse(self, problem: Problem) -> None:
        self._end_head()
        if not self.is_answering():
            self.transport.write(Response.of(problem).wire(b"", head_only=False, close=True))
        self.transport.close()

    def _make_room(self) -> None:
        """Close the connection that has been open longest and has no answer to wait for, or else this one."""
        for connection in list(islice(self.others, _LOOKED_AT)):
            del self.others[connection]
            if not connection.is_answering():
                connection.transport.abort()
                return
            self.others[connection] = None  # looked at in vain: to the end of the line
        self.others.pop(self)
        self.transport.abort()

    def is_answering(self) -> bool:
        """Whether the answer to an earlier request comes first."""
        cycle = cast(RequestResponseCycle | None, self.cycle)  # there is none before the first request
        return cycle is not None and not cycle.response_complete


def serve(lifeline: Lifeline, app: ASGIApp, listener: socket.socket) -> None:
    """Answer requests until told to stop."""

    class Connection(_Connection):
        others: ClassVar[dict[_Connection, None]] = {}
        max_connections = raise_file_limit(MAX_CONNECTIONS)

    config = uvicorn.Config(
        app,
        http=Connection,
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
