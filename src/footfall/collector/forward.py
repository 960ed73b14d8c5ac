"""Forwards requests for reports to the process that has the database open, so that a service answers on one port.

Each request has a connection of its own to that process, over a Unix socket. Bodies and answers pass through in parts,
as they arrive and no faster than the other side reads them. So they may have any length, and an answer may go on for
ever (server-sent events). If the process dies in the middle of an answer, or the client has to make room for another,
the client's connection is reset, so that the answer never looks complete.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

import httptools

from footfall.collector.body import BodyStream
from footfall.collector.message import Request, Response
from footfall.collector.reply import Reply
from footfall.problem import Problem

MAX_AT_ONCE: Final = 64
"""Requests that are forwarded at a time. Beyond it, a new one takes the place of the client that has read nothing for
the longest time."""
TIMEOUT_S: Final = 60
"""How long the process may take to begin its answer."""
_PART_BYTES: Final = 64 * 1024
"""How much of an answer is read at a time. asyncio holds at most two such parts, the client's transport one."""

_ONE_CONNECTION: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers that concern one connection only (RFC 9110, section 7.6.1), besides those that `Connection` names."""
_EXPECT: Final = frozenset({b"expect"})
"""The collector answers this header itself."""
_LENGTH: Final = frozenset({b"content-length"})
_LAST_CHUNK: Final = b"0\r\n\r\n"

_AWAY = Problem(503, "The reports are not available at the moment.")
_BUSY = Problem(503, "Too many reports are being made at once.")

_log = logging.getLogger(__name__)


class Forwarder:
    """Forwards requests to a server on a Unix socket.

    Args:
        socket_path: where the server listens.
    """

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._tasks: set[asyncio.Task[None]] = set()
        self._begun: set[asyncio.Task[None]] = set()  # those whose clients have some of their answers
        self._stalled: dict[asyncio.Task[None], None] = {}  # those that wait for their clients to read, longest first

    def forward(self, request: Request, reply: Reply) -> None:
        """Forward a request; to be called while the application handles it."""
        if not self._has_room():
            reply.send(_refusal(_BUSY, request))
            return
        is_old = request.origin().version == "1.0"
        task = asyncio.get_running_loop().create_task(self._relay(request, reply, is_old=is_old))
        reply.send_parts(task.cancel)
        self._tasks.add(task)

        def end(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            has_begun = task in self._begun
            self._begun.discard(task)
            if task.cancelled():  # the client has gone away, or must make room
                if has_begun:
                    reply.break_off()
                else:
                    reply.abort()
            elif (error := task.exception()) is not None:
                _log.error("unexpected error, please report it", exc_info=error)
                reply.break_off()

        task.add_done_callback(end)

    def _has_room(self) -> bool:
        """Whether one more request may be forwarded, perhaps in the place of one whose client reads nothing."""
        if len(self._tasks) < MAX_AT_ONCE:
            return True
        if not self._stalled:
            return False
        longest = next(iter(self._stalled))
        del self._stalled[longest]
        self._tasks.discard(longest)
        longest.cancel()
        return True

    async def _relay(self, request: Request, reply: Reply, *, is_old: bool) -> None:
        has_begun = False
        limit = asyncio.timeout(TIMEOUT_S)
        try:
            async with _asked(self._socket_path, request, on_sent=partial(_postpone, limit)) as reader:
                answer = _Answer(reader, head_only=reply.head_only)
                async with limit:
                    await answer.read_head()
                has_begun = True
                if answer.length is None and is_old:
                    reply.close = True  # for HTTP/1.0, an answer of unknown length ends with the connection
                reply.close_if_unread()
                is_chunked = answer.length is None and not is_old
                await self._write(reply, _head(answer, is_chunked=is_chunked, close=reply.close))
                async for part in answer.parts():
                    await self._write(reply, _chunk(part) if is_chunked else part)
                if is_chunked:
                    await self._write(reply, _LAST_CHUNK)
            reply.end()
        except (OSError, EOFError, TimeoutError, httptools.HttpParserError) as error:
            if has_begun:
                _log.warning("an answer of the reporting process broke off, and so did the client's: %s", error)
                reply.break_off()
            else:
                reply.send(_refusal(_AWAY, request))

    async def _write(self, reply: Reply, part: bytes) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._stalled[task] = None
        self._begun.add(task)
        try:
            await reply.write(part)
        finally:
            self._stalled.pop(task, None)


class _Answer:
    """Reads an answer of the reporting process as it arrives. llhttp calls the `on_…` methods.

    Attributes:
        status: its code.
        reason: its name.
        headers: as they came; names in any case.
        length: how long the body is said to be, 0 if there is none; None if only its end tells.
    """

    def __init__(self, reader: asyncio.StreamReader, *, head_only: bool) -> None:
        self._reader = reader
        self._head_only = head_only
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.length: int | None = None
        self._has_head = False
        self._ends_with_connection = False
        self._is_whole = False
        self._parts: list[bytes] = []

    async def read_head(self) -> None:
        """Read on until the head is there.

        Raises:
            EOFError: the answer ends too early.
            httptools.HttpParserError: it is not HTTP.
        """
        while not self._has_head:
            await self._read()

    async def parts(self) -> AsyncIterator[bytes]:
        """The body; raises as `read_head`."""
        while True:
            if self._parts:
                part = b"".join(self._parts)
                self._parts.clear()
                yield part
            if self._is_whole:
                return
            await self._read()

    async def _read(self) -> None:
        data = await self._reader.read(_PART_BYTES)
        if data:
            self._parser.feed_data(data)
        elif self._ends_with_connection:
            self._is_whole = True
        else:
            raise EOFError("its connection closed too early")

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head:  # else it is a trailer
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status < 200:  # an interim answer; there is another
            self.reason = b""
            self.headers.clear()
            return
        self._has_head = True
        named = {name.lower(): value for name, value in self.headers}
        if self._head_only or self.status in {204, 304}:
            self.length = 0
            self._is_whole = True
        elif b"transfer-encoding" not in named and b"content-length" in named:
            self.length = int(named[b"content-length"])
        else:
            self._ends_with_connection = b"transfer-encoding" not in named

    def on_body(self, data: bytes) -> None:
        if not self._is_whole:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        if self._has_head:
            self._is_whole = True


@asynccontextmanager
async def _asked(
    socket_path: str, request: Request, *, on_sent: Callable[[], None]
) -> AsyncIterator[asyncio.StreamReader]:
    """Send a request over a connection of its own, which is closed after the block, whatever is still under way.

    Args:
        socket_path: where the server listens.
        request: its body may still be arriving.
        on_sent: called whenever some of the body was sent.
    """
    reader, writer = await asyncio.open_unix_connection(socket_path, limit=_PART_BYTES)
    sender = None
    try:
        lines = [b"%b %b HTTP/1.1" % (request.method, request.target), b"connection: close"]
        lines += _passed_on(request.headers.items(), _EXPECT)
        is_chunked = b"transfer-encoding" in request.headers
        if is_chunked:
            lines.append(b"transfer-encoding: chunked")
        writer.write(b"\r\n".join(lines) + b"\r\n\r\n")
        if request.stream is not None:
            # In a task of its own, because the answer may begin before all of the body was read.
            sending = _send_body(writer, request.stream, is_chunked=is_chunked, on_sent=on_sent)
            sender = asyncio.get_running_loop().create_task(sending)
        yield reader
    finally:
        if sender is not None:
            sender.cancel()
        writer.transport.abort()


def _refusal(problem: Problem, request: Request) -> Response:
    return Response.of(problem, path=request.path.decode("latin-1"))


def _postpone(limit: asyncio.Timeout) -> None:
    """Restart the time in which an answer must begin, because its request is still being sent."""
    with suppress(RuntimeError):  # the answer has begun, or is late
        limit.reschedule(asyncio.get_running_loop().time() + TIMEOUT_S)


async def _send_body(
    writer: asyncio.StreamWriter, stream: BodyStream, *, is_chunked: bool, on_sent: Callable[[], None]
) -> None:
    with suppress(OSError):  # its answer, or the end of it, says enough
        async for part in stream.parts():
            writer.write(_chunk(part) if is_chunked else part)
            await writer.drain()
            on_sent()
        if is_chunked:
            writer.write(_LAST_CHUNK)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _head(answer: _Answer, *, is_chunked: bool, close: bool) -> bytes:
    lines = [b"HTTP/1.1 %d %b" % (answer.status, answer.reason)]
    lines += _passed_on(answer.headers, frozenset() if answer.length is not None else _LENGTH)
    if is_chunked:
        lines.append(b"transfer-encoding: chunked")
    if close:
        lines.append(b"connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _passed_on(headers: Iterable[tuple[bytes, bytes]], besides: frozenset[bytes]) -> list[bytes]:
    """The lines of those headers that are not about one connection only, nor among `besides`."""
    lines = [(name.lower(), value) for name, value in headers]
    dropped = _ONE_CONNECTION | besides
    for name, value in lines:
        if name == b"connection":
            dropped |= {token.strip().lower() for token in value.split(b",")}
    return [b"%b: %b" % (name, value) for name, value in lines if name not in dropped]
