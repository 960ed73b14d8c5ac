"""Hands report requests to the reporting process, which has the database open, so that all answers on one port."""

import asyncio
from typing import Final

from footfall.collector.http import Reply
from footfall.collector.message import Request, Response
from footfall.problem import Problem

MAX_AT_ONCE: Final = 64
TIMEOUT_S: Final = 60
_PART_BYTES: Final = 64 * 1024
"""Of an answer that is read: a buffer for all of it would hold it twice."""
_NOT_FORWARDED = {b"connection", b"keep-alive", b"content-length", b"transfer-encoding", b"upgrade", b"expect", b"te"}
"""What concerns one connection only (RFC 9110, section 7.6.1), and the body, which no report has."""

_AWAY = Response.of(Problem(503, "The reports are not available at the moment."))
_BUSY = Response.of(Problem(503, "Too many reports are being made at once."))


class Forwarder:
    """Relays requests to a server on a Unix socket, and its answers back, byte for byte."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._tasks: set[asyncio.Task[None]] = set()

    def forward(self, request: Request, reply: Reply) -> None:
        reply.alone = True
        if len(self._tasks) >= MAX_AT_ONCE:
            reply.send(_BUSY)
            return
        task = asyncio.get_running_loop().create_task(self._relay(request, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, request: Request, reply: Reply) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await self._exchange(request)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            answer = b""
        if answer:
            reply.send_raw(answer)
        else:
            reply.send(_AWAY)

    async def _exchange(self, request: Request) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self._socket_path, limit=_PART_BYTES)
        try:
            head = [b"%b %b HTTP/1.1" % (request.method, request.target), b"connection: close"]
            head += [b"%b: %b" % (name, value) for name, value in request.headers.items() if name not in _NOT_FORWARDED]
            writer.write(b"\r\n".join(head) + b"\r\n\r\n")
            return await reader.read()
        finally:
            writer.close()
