"""The connection of one client: its turns, its time limits, and the order of its answers."""

import asyncio
import fcntl
import logging
import socket
import struct
import sys
import termios
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from footfall.collector import limits
from footfall.collector.address import parse_address
from footfall.collector.body import BodyStream
from footfall.collector.message import Request
from footfall.collector.parser import RequestParser
from footfall.collector.reply import Reply
from footfall.problem import Problem
from footfall.rate_limit import sender_of
from footfall.status.local import Origin, TcpEnd

if TYPE_CHECKING:
    from footfall.collector.server import Server

_log = logging.getLogger(__name__)


class Connection(asyncio.BufferedProtocol):
    """Feeds what a client sends to a parser, piece by piece, and sends the answers back in order."""

    __slots__ = (
        "_awaited",
        "_closing",
        "_discarded",
        "_gone",
        "_in_line",
        "_parser",
        "_reading",
        "_replies",
        "_stash",
        "_transport",
        "_unread",
        "_untaken",
        "deadline",
        "on_gone",
        "server",
    )

    def __init__(self, server: "Server") -> None:
        self.server = server
        self.deadline = server.now + limits.IDLE_S
        self._parser = RequestParser(self)
        self._replies: deque[Reply] = deque()
        self._awaited: asyncio.Future[None] | None = None  # by whoever writes an answer in parts
        self.on_gone: Callable[[], object] | None = None
        self._closing = False  # nothing more is parsed
        self._gone = False
        self._reading = True
        self._in_line = False
        self._stash = b""  # a piece that is not parsed yet
        self._unread = 0  # bytes of answers, when they are too many
        self._untaken = 0
        self._discarded = 0

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own classes don't derive from it
        self._transport.set_write_buffer_limits(limits.UNREAD_BYTES)
        peername = transport.get_extra_info("peername")
        peer = parse_address(peername[0].partition("%")[0]) if isinstance(peername, tuple) else None
        self._parser.peer = peer
        self._parser.sender = None if peer is None else sender_of(peer)
        self.server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._closing = self._gone = True
        self.server.closed(self)
        self._tell_gone()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        return self.server.piece

    def buffer_updated(self, nbytes: int) -> None:
        if self._closing:
            self._discarded += nbytes
            if self._discarded > limits.LINGER_BYTES:
                self.abort()
            return
        server = self.server
        if self._parser.stream is not None:
            self.deadline = server.now + limits.BODY_S
        if server.has_room(self._parser.sender):
            self._parse(server.piece[:nbytes])
        else:
            self._stash = bytes(server.piece[:nbytes])
            self._wait()
        if self._unread:
            self.deadline = self.server.now + limits.READ_S
        self._steer()

    def eof_received(self) -> bool:
        """The client has sent everything. Its requests are still answered, then the connection closes.

        An answer in parts is given up, for it may never end: a client that has gone away looks the same.
        """
        self._closing = True
        self._tell_gone()
        if self._replies:
            self._replies[-1].close = True
            return True
        return False

    def pause_writing(self) -> None:
        self._unread = 1
        self._untaken = self.count_untaken()
        self.deadline = self.server.now + limits.READ_S

    def resume_writing(self) -> None:
        self._unread = 0
        self.server.unread.release(self)
        is_over = self._closing and not self._replies
        self.deadline = self.server.now + (limits.LINGER_S if is_over else limits.IDLE_S)
        self._wake()
        self._steer()

    # What the parser calls.

    def close_after_answer(self) -> None:
        self._replies[-1].close = self._closing = True

    def max_body_bytes(self, path: bytes) -> int:
        return self.server.application.max_body_bytes(path)

    def expect_body(self, *, is_asked: bool) -> None:
        self.deadline = self.server.now + limits.BODY_S
        if is_asked and not self._replies:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def stream(self, path: bytes) -> BodyStream | None:
        return BodyStream(self._go_on) if self.server.application.streams_body(path) else None

    def begin(self, request: Request, *, is_last: bool, is_asked: bool) -> bool:
        self.deadline = self.server.now + limits.BODY_S
        reply = Reply(self, request.method == b"HEAD", is_last or self.server.draining or self._is_old(request))
        reply.stream = request.stream
        reply.alone = self._parser.is_held = True
        self._replies.append(reply)
        self._handle(request, reply)
        if reply.wire is not None:
            self._closing = True
            return False
        if is_asked and len(self._replies) == 1:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def finish(self) -> bool:
        self.deadline = self.server.now + limits.IDLE_S
        self._closing |= self._replies[-1].close
        return not self._closing

    def break_off(self) -> None:
        self._tell_gone()
        self.abort()

    def take(self, request: Request, *, is_last: bool) -> bool:
        server = self.server
        self.deadline = server.now + limits.IDLE_S
        if request.body:
            server.bodies.release(self)
        reply = Reply(self, request.method == b"HEAD", is_last or server.draining or self._is_old(request))
        self._replies.append(reply)
        self._closing = reply.close
        self._handle(request, reply)
        if reply.close:
            self._closing = True
        elif reply.alone and reply.wire is None:
            self._parser.is_held = True
        return not self._closing

    def refuse(self, problem: Problem, *, path: bytes, headers: Mapping[bytes, bytes], head_only: bool) -> None:
        """Answer it after the pending answers, then close."""
        self._closing = True
        self.server.bodies.release(self)
        reply = Reply(self, head_only, close=True)
        self._replies.append(reply)
        reply.send(self.server.application.refuse(problem, path, headers))

    # What the server and the replies call.

    def flush(self) -> None:
        """Send every answer whose turn it is."""
        if self._gone:
            return
        replies = self._replies
        while replies and (wire := replies[0].wire) is not None:
            reply = replies.popleft()
            self._transport.write(wire)
            if reply.alone:
                self.on_gone = None
                self._parser.is_held = False
            if reply.stream is not None:
                self.server.bodies.release(self)
            if reply.close:
                self._linger()
        if self._unread:
            self._hold_unread()
        if self._awaited is not None:
            self._wake()
        if not replies and self.server.draining and not self._closing:
            self._closing = True
            self._transport.close()
        elif not self._reading:
            self._steer()

    async def write(self, reply: Reply, part: bytes) -> None:
        """Send a part of an answer when those before it are sent, and the client has taken what was written of it."""
        while self._unread or self._replies[0] is not reply:
            self._awaited = asyncio.get_running_loop().create_future()
            await self._awaited
        self._transport.write(part)
        if self._unread:
            self._hold_unread()

    def count_untaken(self) -> int:
        """Bytes of answers that the client's machine has not acknowledged, those that the kernel holds included.

        The kernel may hold megabytes, and asks for more only when a good part of them is gone, so a slow client would
        seem to take nothing for a long time.
        """
        answer = fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        return self._transport.get_write_buffer_size() + int.from_bytes(answer, sys.byteorder)

    @property
    def is_stalled(self) -> bool:
        """Whether the client leaves so much unread that nothing more is written."""
        return self._unread > 0

    @property
    def is_held_back(self) -> bool:
        """Whether so much of a request waits to be passed on that no more is read of it."""
        return self._parser.stream is not None and self._parser.stream.is_full

    def take_turn(self) -> None:
        """Parse the next piece, now that others have had their turn."""
        self._in_line = False
        piece, self._stash = self._stash, b""
        if piece and not self._closing:
            self._parse(memoryview(piece))
        self._steer()

    def expire(self) -> None:
        """If the deadline has passed, answer 408 where a request is incomplete, and close."""
        if self._gone or self.deadline >= self.server.now:
            return
        if self._unread:
            self._expect_progress()
        elif self._waits_for_stream():
            self.break_off()
        elif self._replies or (self._in_line and not self._closing):
            self.deadline = self.server.now + limits.IDLE_S  # it is ours to go on; the client is not late
        elif self._parser.target and not self._closing:
            self._parser.refuse(Problem(408, "The request did not arrive in time."))
        else:
            self.abort()

    def close_if_idle(self) -> bool:
        if self._replies or self._parser.target or self._in_line:
            return False
        self._closing = True
        self._transport.close()
        return True

    def abort_if_slow(self) -> bool:
        """Close, unless the client waits for the server."""
        if self._replies or self._stash or self._in_line:
            return False
        self.abort()
        return True

    def give_up_body(self) -> None:
        if self._replies and self._replies[-1].stream is not None:
            self.break_off()
        else:
            self._parser.refuse(Problem(503, "Too many bodies are being sent at once; try again shortly."))

    def abort(self) -> None:
        self._closing = self._gone = True
        self._transport.abort()

    def reset(self) -> None:
        """Abort with a TCP reset: the regular end is what tells a client of HTTP/1.0 that it has the whole answer."""
        if not self._gone:
            linger = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.abort()

    def origin(self) -> Origin:
        info = self._transport.get_extra_info
        return Origin(self._parser.version, _tcp_end(info("peername")), _tcp_end(info("sockname")))

    # Inside.

    def _handle(self, request: Request, reply: Reply) -> None:
        try:
            self.server.application.handle(request, reply)
        except Exception:  # noqa: BLE001 - one request that Footfall can't deal with must not harm the next
            _log.exception("unexpected error, please report it")
            self._apologise(reply, request)

    def _waits_for_stream(self) -> bool:
        """Whether it is the client who does not go on with a request."""
        return self._parser.stream is not None and not (self.is_held_back or self._in_line or self._closing)

    def _go_on(self) -> None:
        """What has come of a stream was taken."""
        self.server.bodies.release(self)
        self.deadline = self.server.now + limits.BODY_S
        self._steer()

    def _hold_unread(self) -> None:
        self._unread = max(1, self._transport.get_write_buffer_size())
        self._untaken = self.count_untaken()
        self.server.unread.hold(self, self._unread)

    def _wake(self) -> None:
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)

    def _tell_gone(self) -> None:
        if self.on_gone is not None:
            self.on_gone()
            self.on_gone = None

    def _is_old(self, request: Request) -> bool:
        """Whether it is HTTP/1.0 with a `Connection` header; such a client may wait for the end of the connection."""
        return b"connection" in request.headers and self._parser.version == "1.0"

    def _parse(self, piece: memoryview) -> None:
        parser = self._parser
        parser.feed(piece)
        if self._replies and (stream := self._replies[-1].stream) is not None and stream.size:
            self.server.bodies.hold(self, stream.size)
        if parser.target:
            if parser.is_new_head(len(piece)):
                self.deadline = self.server.now + limits.HEAD_S
            if parser.body:
                self.server.bodies.hold(self, len(parser.body))
        if len(piece) == limits.PIECE_BYTES:
            self._wait()  # there may be more

    def _wait(self) -> None:
        self._in_line = True
        self.server.turns.wait(self._parser.sender, self)

    def _steer(self) -> None:
        """Start or stop reading, as the client's unread answers and the turns of others require."""
        is_owed_much = len(self._replies) > limits.MAX_PIPELINED
        stream = self._parser.stream
        is_full = stream is not None and stream.is_full
        reading = self._closing or not (self._in_line or self._unread or is_owed_much or is_full)
        if reading != self._reading and not self._gone:
            self._reading = reading
            if reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _expect_progress(self) -> None:
        """Give a client that reads slowly more time, as long as it reads at all."""
        untaken = self.count_untaken()
        if untaken >= self._untaken:
            self.abort()
        self._untaken = untaken
        self.deadline = self.server.now + limits.READ_S

    def _apologise(self, reply: Reply, request: Request) -> None:
        if reply.wire is None:
            reply.close = self._closing = True
            problem = Problem(500, "Footfall has met an error of its own.")
            reply.send(self.server.application.refuse(problem, request.path, request.headers))

    def _linger(self) -> None:
        """Half-close, and leave the client time to read its answer: closing with unread input would reset it."""
        self._closing = True
        if not self._unread:
            self.deadline = self.server.now + limits.LINGER_S
        self._steer()
        if self._transport.can_write_eof():
            self._transport.write_eof()


def _tcp_end(name: object) -> TcpEnd | None:
    """One end of a connection, as the socket tells it; a Unix socket's is no tuple."""
    return name[:2] if isinstance(name, tuple) else None
