"""The collector's HTTP/1.1 server: one `asyncio.Protocol` for each connection, on llhttp (httptools) and uvloop.

It is not built on a framework because an acknowledgement here is a callback after a group commit, not a coroutine, and
because header values must stay the bytes that were sent. docs/architecture.md has the measurements.

Whatever a client does, these rules hold (`limits` has the figures):

- The head and the body of a request are bounded. A request beyond a bound is answered (413, 431), and its connection
  closes.
- All bodies that are being read share one bound, and all answers that clients have not read share another. When one is
  exceeded, the connection that has used it longest gives way; a well-behaved client is done long before.
- Each phase has a time limit: idle, head, body, and the reading of answers. A sweep once a second closes connections
  that exceed theirs, so a slow client costs a file descriptor, never a thread.
- Input is parsed in pieces, one connection's piece in each turn of the event loop; the rest stays in the kernel. So a
  flood of requests on some connections delays a request on another by one piece only.
- While the application has no room for what a client sends, the server does not read its connections. It refuses
  nothing for this reason.
- Answers leave in the order of their requests (pipelining). The server does not read from a client that does not read
  its answers.
- A message that two servers could read differently is refused (`parser`).

TLS, HTTP/2, WebSockets and the compression of answers are left to a reverse proxy. The server knows no path.
"""

import asyncio
import socket
from contextlib import suppress
from email.utils import formatdate
from itertools import islice
from typing import Final

from footfall.collector import limits
from footfall.collector.application import Application
from footfall.collector.connection import Connection
from footfall.collector.memory_budget import MemoryBudget
from footfall.collector.turns import Turns

_LOOKED_AT: Final = 64
"""How many connections are checked for one that can be closed, so that each of a flood costs the same."""
_BACKLOG: Final = 4_096
"""Connections that wait in the kernel to be accepted. With uvloop's default of 100, some would wait for a second."""


class Server:
    """The connections of one process, on a listening socket.

    Args:
        application: answers requests.
        max_connections: for each one beyond, an idle or a slow connection is closed.
    """

    def __init__(self, application: Application, *, max_connections: int) -> None:
        self.application = application
        self.has_room = application.has_room
        self.connections: dict[Connection, None] = {}
        self.bodies = MemoryBudget(limits.MAX_BODIES_BYTES, Connection.give_up_body)
        self.unread = MemoryBudget(limits.MAX_UNREAD_BYTES, Connection.abort)
        self.piece = memoryview(bytearray(limits.PIECE_BYTES))
        self.now = 0.0
        self.date = b""
        self.draining = False
        self._max_connections = max_connections
        self._loop = asyncio.get_running_loop()
        self._listener: asyncio.Server | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._sweep: asyncio.Task[None] | None = None
        self.turns: Turns[Connection] = Turns(application.has_room, application.when_room)
        self._emptied: asyncio.Event | None = None

    async def start(self, sock: socket.socket) -> None:
        """Accept connections on a listening socket."""
        self._tick()
        self._listener = await self._loop.create_server(lambda: Connection(self), sock=sock, backlog=_BACKLOG)

    async def drain(self, patience_s: float) -> None:
        """Stop listening, answer the requests that have arrived, and close, within `patience_s`."""
        assert self._listener is not None
        self.draining = True
        self._listener.close()
        for connection in list(self.connections):
            connection.close_if_idle()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._all_closed()
        for connection in list(self.connections):
            connection.abort()
        if self._ticker is not None:
            self._ticker.cancel()

    async def _all_closed(self) -> None:
        self._emptied = asyncio.Event()
        if self.connections:
            await self._emptied.wait()

    # What the connections call.

    def opened(self, connection: Connection) -> None:
        self.connections[connection] = None
        if len(self.connections) > self._max_connections and not self._make_room():
            connection.abort()

    def closed(self, connection: Connection) -> None:
        self.connections.pop(connection, None)
        self.bodies.release(connection)
        self.unread.release(connection)
        if self._emptied is not None and not self.connections:
            self._emptied.set()

    # Inside.

    def _make_room(self) -> bool:
        """Close an idle connection, or else one that is slow to send its request; the oldest are checked first.

        Those that were checked in vain go to the end of the line.
        """
        looked_at = list(islice(self.connections, _LOOKED_AT))
        if any(connection.close_if_idle() for connection in looked_at):
            return True
        if any(connection.abort_if_slow() for connection in looked_at):
            return True
        for connection in looked_at:
            self.connections[connection] = self.connections.pop(connection)
        return False

    def _tick(self) -> None:
        self.now = self._loop.time()
        self.date = f"date: {formatdate(usegmt=True)}\r\n".encode()
        if self._sweep is None or self._sweep.done():
            late = [connection for connection in self.connections if connection.deadline < self.now]
            self._sweep = self._loop.create_task(_expire(late)) if late else None
        self._ticker = self._loop.call_later(1.0, self._tick)


async def _expire(late: list[Connection]) -> None:
    """Expire one in each turn of the loop, for thousands may be late at the same moment."""
    for connection in late:
        connection.expire()
        await asyncio.sleep(0)
