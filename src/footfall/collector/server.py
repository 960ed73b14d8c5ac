"""HTTP/1.1 for the collector: an `asyncio.Protocol` for each connection, on llhttp (httptools) and uvloop.

Why not a framework: an acknowledgement here is a callback after a group commit, not a coroutine, and header values are
wanted as the bytes that were sent. docs/architecture.md has the measurements.

What it holds to, whatever a client does (the figures are in `limits`):

- A request's head and body are bounded. What passes a bound is answered (413, 431) and the connection closed.
- All bodies being read are bounded together, and so are all answers that wait for clients to read them. When there is
  too much, whoever has held some of it longest gives it up: a client that does as it should was done long before.
- Each phase has its time: idle, head, body, and the client's reading of answers. A sweep once a second ends what is
  over its time, so a slow client costs a file descriptor, never a thread.
- Input is parsed in pieces, one of a connection in a turn of the loop, and what is not parsed is left to the kernel:
  a flood of requests on some connections delays a request on another by the time of one piece.
- While the application has no room for what a client sends, its connections are not read. Nothing is refused for it.
- Answers leave in the order of the requests (pipelining), and a connection that does not read is not read from.
- A message that two servers could read differently is refused (`parser`).

It does not do TLS, HTTP/2 or WebSockets, and compresses no answer: a reverse proxy does. It knows no path.
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
"""Connections looked at to find one that can go, so that a flood of new ones costs the same each."""
_BACKLOG: Final = 4_096
"""Connections the system holds until they are accepted; uvloop's own 100 would make others wait a second for theirs."""


class Server:
    """The connections of one process, on a listening socket.

    Args:
        application: answers requests.
        max_connections: beyond it, an idle or a slow connection is closed for each new one.
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
        """Take no new connection, answer what was asked, close; at the latest after `patience_s`."""
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
        """Close the connection that has been idle longest, or else one that has not sent its request in all its time.

        Those looked at in vain go to the end of the line.
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
    """One in a turn of the loop: thousands may be late at the same moment."""
    for connection in late:
        connection.expire()
        await asyncio.sleep(0)
