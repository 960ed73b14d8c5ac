"""The HTTP server of reports: uvicorn, with bounds on what clients may hold.

The collector's own server is faster and does less. This one answers a few requests a second with everything that
Starlette offers.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import ClassVar, Final, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from footfall.problem import CONTENT_TYPE, Problem, phrase

MAX_HEAD_BYTES: Final = 128 * 1024
"""More than a collector accepts and passes on."""
HEAD_S: Final = 10
"""For a client to send the head of a request."""
MAX_CONNECTIONS: Final = 1_000
"""Each may hold a head of `MAX_HEAD_BYTES`. Beyond it, one that waits for no answer is closed for each new one."""

_LOOKED_AT = 64
"""Connections looked at to find one that can be closed, so that a flood of new ones costs the same each."""
_GRACE_S = 3
"""For reports that are being made when the server is told to stop."""


class Server(uvicorn.Server):
    """A server that leaves the signals to its caller.

    Args:
        app: answers the requests.
        max_connections: how many clients may be connected.
    """

    def __init__(self, app: ASGIApp, *, max_connections: int = MAX_CONNECTIONS) -> None:
        class Connection(_Connection):
            others: ClassVar[dict[_Connection, None]] = {}
            limit = max_connections

        super().__init__(
            uvicorn.Config(
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
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class _Connection(HttpToolsProtocol):
    """Bounds heads, the time they take, and connections; uvicorn would hold all input and wait for ever.

    Attributes:
        others: all connections of the server, those open longest first.
        limit: how many there may be.
    """

    others: ClassVar[dict["_Connection", None]]
    limit: ClassVar[int]

    _timer: asyncio.TimerHandle | None = None  # while a head is awaited
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        super().connection_made(transport)
        self.others[self] = None
        if len(self.others) > self.limit:
            self._make_room()
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        self.others.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(Problem(431, f"The head of the request is longer than {MAX_HEAD_BYTES} bytes."))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def is_answering(self) -> bool:
        """Whether the client waits for an answer."""
        cycle = cast(RequestResponseCycle | None, self.cycle)  # None before the first request
        return cycle is not None and not cycle.response_complete

    def _await_head(self) -> None:
        self._end_head()
        self._head_bytes = 0
        self._timer = self.loop.call_later(HEAD_S, self._expire)

    def _end_head(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        if self.is_answering():
            self._await_head()  # of the next request: the client may wait for this answer before it sends one
        else:
            self._refuse(Problem(408, "The request did not arrive in time."))

    def _refuse(self, problem: Problem) -> None:
        self._end_head()
        if not self.is_answering():
            body = problem.body()
            head = (
                f"HTTP/1.1 {problem.status} {phrase(problem.status)}\r\ncontent-type: {CONTENT_TYPE}\r\n"
                f"content-length: {len(body)}\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()

    def _make_room(self) -> None:
        """Close the connection that has been open longest and waits for no answer; if all do, close this one."""
        for connection in list(islice(self.others, _LOOKED_AT)):
            del self.others[connection]
            if not connection.is_answering():
                connection.transport.abort()
                return
            self.others[connection] = None  # to the end of the line, so that others are looked at next
        self.others.pop(self)
        self.transport.abort()
