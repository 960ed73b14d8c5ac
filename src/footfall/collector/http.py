"""HTTP/1.1 for the collector: one `asyncio.Protocol` a connection, on llhttp (httptools) and uvloop.

Why not a framework: an acknowledgement here is a callback after a group commit, not a coroutine, and header values are
wanted as the bytes that were sent. docs/architecture.md has the measurements.

What it holds to, whatever a client does:

- A request's head and body are bounded. What passes a bound is answered (413, 431) and the connection closed.
- All bodies being read are bounded together, and so are all answers that wait for clients to read them. When there is
  too much, whoever has held some of it longest gives it up: a client that does as it should was done long before.
- Each phase has its time: idle, head, body, and the client's reading of answers. A sweep once a second ends what is
  over its time, so a slow client costs a file descriptor, never a thread.
- Input is parsed in pieces, one of a connection in a turn of the loop, and what is not parsed is left to the kernel:
  a flood of requests on some connections delays a request on another by the time of one piece.
- While the application has no room for what a client sends, its connections are not read. Nothing is refused for it.
- Answers leave in the order of the requests (pipelining), and a connection that does not read is not read from.
- A message llhttp finds ambiguous (both `Content-Length` and `Transfer-Encoding`, for one) is refused, RFC 9112.

It does not do TLS, HTTP/2, compression or WebSockets: a reverse proxy does.
"""

import asyncio
import fcntl
import logging
import re
import socket
import struct
import sys
import termios
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from email.utils import formatdate
from itertools import islice
from typing import Final, NoReturn, Protocol, cast

import httptools

from footfall.collector.address import parse_address
from footfall.collector.memory_budget import MemoryBudget
from footfall.collector.message import Request, Response, path_of
from footfall.collector.turns import Turns
from footfall.problem import Problem
from footfall.rate_limit import sender_of
from footfall.status.local import Origin, TcpEnd

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_FIELDS: Final = 256
"""Lines of a head; RFC 9110 has repeated ones joined, which costs more the more there are."""
MAX_BODIES_BYTES: Final = 64 * 1024 * 1024
"""Of all requests being read, together."""
MAX_UNREAD_BYTES: Final = 64 * 1024 * 1024
"""Of all answers that clients do not take, together."""
IDLE_S: Final = 75
HEAD_S: Final = 10
BODY_S: Final = 30
READ_S: Final = 30
"""For a client to take an answer it asked for."""
LINGER_S: Final = 2
LINGER_BYTES: Final = 1024 * 1024
"""After a refusal the rest of the request is thrown away this long, so that the client gets to read the answer."""
_MAX_PIPELINED = 64
"""Answers a connection may be owed before it is read from no further."""
_PIECE_BYTES = 4 * 1024
"""What is parsed of a connection's input before others have their turn: some 200 of the smallest requests, 4 ms."""
_UNREAD_BYTES = 16 * 1024
"""Answers a connection may leave unread before it is read from no further."""
_LOOKED_AT = 64
"""Connections looked at to find one that can go, so that a flood of new ones costs the same each."""
_BACKLOG = 4_096
"""Connections the system holds until they are accepted; uvloop's own 100 would make others wait a second for theirs."""
_ABOUT_BODY = (b"content-length", b"transfer-encoding", b"connection")
_HOST = re.compile(rb"(?:\[[0-9A-Za-z:.%_~-]+\]|[\w.~!$&'()*+,;=%-]*)(?::[0-9]*)?", re.ASCII)
"""RFC 3986, section 3.2.2: a name, or an address, and a port."""

_log = logging.getLogger(__name__)


def _head_before_body(headers: Mapping[bytes, bytes]) -> bytes:
    """A head that says of its body what `headers` do."""
    said = [b"%b: %b" % (name, headers[name]) for name in _ABOUT_BODY if name in headers]
    return b"\r\n".join([b"POST / HTTP/1.1", *said, b"", b""])


def _not_chunked_only(coding: bytes) -> Problem:
    """Why a transfer coding is refused (RFC 9112, section 6); a body has no known end without a last coding chunked."""
    if not coding.endswith(b"chunked"):
        return Problem(400, "Transfer-Encoding must end with chunked.")
    return Problem(501, "Transfer-Encoding may only be chunked. A compressed body needs Content-Encoding.")


def _tcp_end(name: object) -> TcpEnd | None:
    """One end of a connection, as the socket tells it; a Unix socket's is no tuple."""
    return name[:2] if isinstance(name, tuple) else None


class Reply:
    """Where the answer to one request goes; may be given later, once.

    An application that makes it elsewhere (in a thread, in another process) sets `alone`: nothing that the client sends
    before it is there is begun. So a client has one such answer made at a time, however many it asks for.

    Attributes:
        wire: the answer; None until there is one.
        head_only: whether the client wants no body.
        close: whether the connection closes after it.
        alone: whether it does so if another request comes before.
    """

    __slots__ = ("_connection", "alone", "close", "head_only", "wire")

    def __init__(self, connection: "Connection", head_only: bool, close: bool) -> None:  # noqa: FBT001 - the hot path
        self._connection = connection
        self.wire: bytes | None = None
        self.head_only = head_only
        self.close = close
        self.alone = False

    def send(self, response: Response) -> None:
        connection = self._connection
        self.wire = response.wire(connection.server.date, self.head_only, self.close)
        connection.flush()

    def send_parts(self, on_gone: Callable[[], object]) -> None:
        """Say that the answer comes in parts, by `write` and `end`, unless it is sent whole or aborted after all.

        Args:
            on_gone: called once if the client goes away before all is sent.
        """
        self.alone = True
        self._connection.on_gone = on_gone

    async def write(self, part: bytes) -> None:
        """Send what comes next of the answer, head first, as soon as the client has taken most of what came before."""
        await self._connection.write(self, part)

    def end(self) -> None:
        """What was written is the whole answer."""
        self.wire = b""
        self._connection.flush()

    def abort(self) -> None:
        """Close without an answer: what became of the request is not known."""
        self._connection.abort()

    def break_off(self) -> None:
        """Reset the connection: what was written is not the whole answer, and must not look so."""
        self._connection.reset()

    def origin(self) -> Origin:
        """Where the request came from; to be asked while `Application.handle` is called with it."""
        return self._connection.origin()


class Application(Protocol):
    """What is behind the connections. It must not block."""

    def handle(self, request: Request, reply: Reply) -> None:
        """Answer `request`, now or later."""
        ...

    def max_body_bytes(self, path: bytes) -> int:
        """How long the body of a request to `path` may be."""
        ...

    def has_room(self, sender: str | None) -> bool:  # noqa: ARG002 - for others to use
        """Whether it takes requests of a client (`rate_limit.sender_of`) now; those that are read, it has to take."""
        return True

    def when_room(self, call: Callable[[], None]) -> None:
        """Call once, when it may have room again for a client for which it had none."""
        del call  # there always is room

    def refuse(self, problem: Problem, path: bytes) -> Response:
        """A request that can't be read whole: count it and say what to answer. `path` is empty where unknown."""
        ...


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
        self.bodies = MemoryBudget(MAX_BODIES_BYTES, Connection.give_up_body)
        self.unread = MemoryBudget(MAX_UNREAD_BYTES, Connection.abort)
        self.piece = memoryview(bytearray(_PIECE_BYTES))
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

    def opened(self, connection: "Connection") -> None:
        self.connections[connection] = None
        if len(self.connections) > self._max_connections and not self._make_room():
            connection.abort()

    def closed(self, connection: "Connection") -> None:
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


async def _expire(late: "list[Connection]") -> None:
    """One in a turn of the loop: thousands may be late at the same moment."""
    for connection in late:
        connection.expire()
        await asyncio.sleep(0)


class _StopParsing(Exception):  # noqa: N818 - not an error
    """Raised in a parser callback to leave the rest of the input unparsed."""


class Connection(asyncio.BufferedProtocol):
    """One client. llhttp calls the `on_…` methods while `buffer_updated` feeds it."""

    __slots__ = (
        "_awaited",
        "_body",
        "_closing",
        "_discarded",
        "_fields",
        "_gone",
        "_headers",
        "_host",
        "_in_line",
        "_interrupted",
        "_limit",
        "_parser",
        "_peer",
        "_reading",
        "_replies",
        "_request",
        "_sender",
        "_size",
        "_stash",
        "_target",
        "_transport",
        "_unread",
        "_untaken",
        "deadline",
        "on_gone",
        "server",
    )

    def __init__(self, server: Server) -> None:
        self.server = server
        self.deadline = server.now + IDLE_S
        self._parser = httptools.HttpRequestParser(self)
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
        self._host: bytes | None = b""  # of the last request
        # The message being read; one has begun when its target has.
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._fields = 0
        self._request: Request | None = None  # from the end of the head on
        self._interrupted = False  # llhttp has stopped before its body
        self._limit = 0
        self._body = bytearray()
        self._size = 0  # of all its bytes so far, to within a piece

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own classes don't derive from it
        self._transport.set_write_buffer_limits(_UNREAD_BYTES)
        peername = transport.get_extra_info("peername")
        self._peer = parse_address(peername[0].partition("%")[0]) if isinstance(peername, tuple) else None
        self._sender = None if self._peer is None else sender_of(self._peer)
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
            if self._discarded > LINGER_BYTES:
                self.abort()
            return
        server = self.server
        if server.has_room(self._sender):
            self._take(server.piece[:nbytes])
        else:
            self._stash = bytes(server.piece[:nbytes])
            self._wait()
        if self._unread:
            self.deadline = self.server.now + READ_S
        self._steer()

    def eof_received(self) -> bool:
        """The client sends no more: what it asked is still answered, then the connection closes.

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
        self.deadline = self.server.now + READ_S

    def resume_writing(self) -> None:
        self._unread = 0
        self.server.unread.release(self)
        self.deadline = self.server.now + (LINGER_S if self._closing and not self._replies else IDLE_S)
        self._wake()
        self._steer()

    # What the parser calls.

    def on_url(self, url: bytes) -> None:
        if self._request is not None:
            return  # of a head that is repeated
        if not self._target:
            if self._replies and self._replies[-1].alone:
                self._replies[-1].close = self._closing = True
                raise _StopParsing
            self._headers = {}
            self._fields = 0
            self._size = 0
            self.deadline = self.server.now + HEAD_S
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._request is not None:
            return  # a trailer, which must not change what has been judged (RFC 9110, section 6.5.1)
        self._fields += 1
        if self._fields > MAX_FIELDS:
            self._stop(Problem(431, f"The head of the request has more than {MAX_FIELDS} lines."))
        name = name.lower()
        value = value.rstrip(b" \t")  # which is around a value and not of it (RFC 9110, section 5.5)
        if name in self._headers:
            if name == b"host":
                self._stop(Problem(400, "The request has more than one Host."))
            value = b"%b, %b" % (self._headers[name], value)
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        if self._request is not None:
            return
        headers = self._headers
        host = headers.get(b"host")
        if host is None or host != self._host:
            self._check_host(host)
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._target = b""  # which is a host
            self._stop(Problem(501, "CONNECT is for proxies; this is none."))
        self._request = Request(method, self._target, headers, self._peer, self._sender)
        if b"content-length" in headers or b"transfer-encoding" in headers:
            self._expect_body()

    def on_body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > self._limit:
            self._stop(self._too_long())

    def on_message_complete(self) -> None:
        if self._interrupted:
            return
        request = self._request
        assert request is not None
        self._request = None
        self._target = b""
        if self._body:
            request.body = bytes(self._body)
            self._drop_body()
        server = self.server
        self.deadline = server.now + IDLE_S
        close = server.draining or not self._parser.should_keep_alive() or self._is_old(request)
        reply = Reply(self, request.method == b"HEAD", close)
        self._replies.append(reply)
        self._closing = close
        try:
            server.application.handle(request, reply)
        except Exception:  # noqa: BLE001 - one request that Footfall can't deal with must not harm the next
            _log.exception("an error that Footfall does not know")
            self._apologise(reply, request.path)
        if reply.close:
            self._closing = True
            raise _StopParsing

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

    def take_turn(self) -> None:
        """Others have had their turn: parse on."""
        self._in_line = False
        piece, self._stash = self._stash, b""
        if piece and not self._closing:
            self._take(memoryview(piece))
        self._steer()

    def expire(self) -> None:
        """A deadline may have passed: say so where somebody may still be reading, and close."""
        if self._gone or self.deadline >= self.server.now:
            return
        if self._unread:
            self._expect_progress()
        elif self._replies or (self._in_line and not self._closing):
            self.deadline = self.server.now + IDLE_S  # it is ours to go on; the client is not late
        elif self._target and not self._closing:
            self._refuse(Problem(408, "The request did not arrive in time."))
        else:
            self.abort()

    def close_if_idle(self) -> bool:
        if self._replies or self._target or self._in_line:
            return False
        self._closing = True
        self._transport.close()
        return True

    def abort_if_slow(self) -> bool:
        """Close unless it waits for us."""
        if self._replies or self._stash:
            return False
        self.abort()
        return True

    def give_up_body(self) -> None:
        self._refuse(Problem(503, "Too many bodies are being sent at once; try again shortly."))

    def abort(self) -> None:
        self._closing = self._gone = True
        self._transport.abort()

    def reset(self) -> None:
        """Abort with a TCP reset: the regular end is what tells a client of HTTP/1.0 that it has the whole answer."""
        linger = struct.pack("ii", 1, 0)
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.abort()

    def origin(self) -> Origin:
        info = self._transport.get_extra_info
        return Origin(self._parser.get_http_version(), _tcp_end(info("peername")), _tcp_end(info("sockname")))

    # Inside.

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
        """Whether it is HTTP/1.0 that asks to keep the connection: unless told, such a client waits for its end."""
        return b"connection" in request.headers and self._parser.get_http_version() == "1.0"

    def _take(self, piece: memoryview) -> None:
        self._parse(piece)
        if self._target:
            self._measure(len(piece))
        if len(piece) == _PIECE_BYTES:
            self._wait()  # there may be more

    def _wait(self) -> None:
        self._in_line = True
        self.server.turns.wait(self._sender, self)

    def _parse(self, piece: memoryview) -> None:
        rest: bytes | memoryview = piece
        while rest and not self._closing:
            try:
                self._parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                rest = self._decline_upgrade(rest[upgrade.args[0] :])
                continue
            except httptools.HttpParserCallbackError as error:
                if not isinstance(error.__context__, _StopParsing):
                    _log.exception("an error that Footfall does not know")
                    self._refuse(Problem(500, "Footfall has met an error of its own."))
            except httptools.HttpParserError:
                if not self._target and b"GET /track" in bytes(piece):
                    self._target = b"/track"  # the target itself is what llhttp did not like
                self._refuse(Problem(400, "The request is not valid HTTP/1.1."))
            return

    def _decline_upgrade(self, rest: bytes | memoryview) -> bytes | memoryview:
        """Go on as if the client had not asked to switch protocols (RFC 9110, section 7.8); what is to be parsed next.

        llhttp stops after the head of such a request, even if a body follows: the next parser is told so by a head.
        """
        self._parser = httptools.HttpRequestParser(self)
        if not self._interrupted:
            return rest
        self._interrupted = False
        return _head_before_body(self._headers) + bytes(rest)

    def _measure(self, size: int) -> None:
        """Count what has come of a message that is not complete: llhttp keeps headers to itself until they are."""
        self._size += size
        if self._request is None:
            if self._size > MAX_HEAD_BYTES:
                self._refuse(Problem(431, f"The head of the request is longer than {MAX_HEAD_BYTES} bytes."))
        elif self._size > MAX_HEAD_BYTES + 2 * self._limit:
            self._refuse(self._too_long())  # in trailers, or in what is around the chunks
        elif self._body:
            self.server.bodies.hold(self, len(self._body))

    def _steer(self) -> None:
        """Read, or do not read, as the client's behaviour and the others' turns demand."""
        reading = self._closing or not (self._in_line or self._unread or len(self._replies) > _MAX_PIPELINED)
        if reading != self._reading and not self._gone:
            self._reading = reading
            if reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _expect_progress(self) -> None:
        """A client that takes its answers slowly is given time, as long as it takes them."""
        untaken = self.count_untaken()
        if untaken >= self._untaken:
            self.abort()
        self._untaken = untaken
        self.deadline = self.server.now + READ_S

    def _check_host(self, host: bytes | None) -> None:
        """HTTP/1.1 requires one, HTTP/1.0 does not know it (RFC 9112, section 3.2). The last good one is remembered."""
        version = self._parser.get_http_version()
        if version not in {"1.1", "1.0"}:
            self._stop(Problem(505, "This server speaks HTTP/1.1."))
        if host is None:
            if version == "1.1":
                self._stop(Problem(400, "The request has no Host."))
        elif not _HOST.fullmatch(host):
            self._stop(Problem(400, "The Host of the request is not a name or an address."))
        self._host = host

    def _expect_body(self) -> None:
        assert self._request is not None
        self._limit = self.server.application.max_body_bytes(self._request.path)
        coding = self._headers.get(b"transfer-encoding")
        if coding is not None and coding.lower() != b"chunked":
            self._stop(_not_chunked_only(coding.lower()))
        if int(self._headers.get(b"content-length", b"0")) > self._limit:
            self._stop(self._too_long())
        self._interrupted = self._parser.should_upgrade()
        self.deadline = self.server.now + BODY_S
        is_expected = self._headers.get(b"expect", b"").lower() == b"100-continue"
        # HTTP/1.0 would take it for the answer (RFC 9110, section 10.1.1).
        if is_expected and not self._replies and self._parser.get_http_version() != "1.0":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _too_long(self) -> Problem:
        return Problem(413, f"The body is longer than {self._limit} bytes.")

    def _stop(self, problem: Problem) -> NoReturn:
        self._refuse(problem)
        raise _StopParsing

    def _refuse(self, problem: Problem) -> None:
        """Answer a request that will not be read to its end; after the answers before it, the connection closes."""
        head_only = self._request is not None and self._request.method == b"HEAD"
        path = path_of(self._target) if self._target else b""
        self._closing = True
        self._request = None
        self._target = b""
        self._drop_body()
        reply = Reply(self, head_only, close=True)
        self._replies.append(reply)
        reply.send(self.server.application.refuse(problem, path))

    def _apologise(self, reply: Reply, path: bytes) -> None:
        if reply.wire is None:
            reply.close = self._closing = True
            reply.send(self.server.application.refuse(Problem(500, "Footfall has met an error of its own."), path))

    def _linger(self) -> None:
        """Say that nothing more comes, and give the client time to read before the reset that unread input causes."""
        self._closing = True
        if not self._unread:
            self.deadline = self.server.now + LINGER_S
        self._steer()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _drop_body(self) -> None:
        self._body = bytearray()
        self.server.bodies.release(self)
