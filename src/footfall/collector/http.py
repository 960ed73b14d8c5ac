"""HTTP/1.1 for the collector: one `asyncio.Protocol` a connection, on llhttp (httptools) and uvloop.

Why not a framework: an acknowledgement here is a callback after a group commit, not a coroutine, and header values are
wanted as the bytes that were sent. docs/architecture.md has the measurements.

What it holds to, whatever a client does:

- A request's head and body are bounded, and so are all bodies in flight together. What passes a bound is answered
  (413, 431, 503) and the connection closed.
- Each phase has its time: idle, head, body, and the client's reading of answers. A sweep once a second ends what is
  over its time, so a slow client costs a file descriptor, never a thread.
- Answers leave in the order of the requests (pipelining), and a connection that does not read is not read from.
- A message llhttp finds ambiguous (both `Content-Length` and `Transfer-Encoding`, for one) is refused, RFC 9112.

It does not do TLS, HTTP/2, compression or WebSockets: a reverse proxy does.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from itertools import islice
from typing import Final, Protocol, cast

import httptools

from footfall.collector.address import parse_address
from footfall.problem import CONTENT_TYPE, Problem

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_BODIES_BYTES: Final = 64 * 1024 * 1024
"""Of all requests being read, together."""
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
_LOOKED_AT = 64
"""Connections looked at to find an idle one, so that a flood of new ones costs the same each."""


class Response:
    """An answer, without the parts that change: the date, and whether the connection closes after it.

    A response that is sent again and again keeps its bytes until the date line changes.
    """

    __slots__ = ("_date", "_head", "_wire", "body", "status")

    def __init__(
        self, status: int, body: bytes = b"", content_type: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
        if content_type:
            lines.append(f"content-type: {content_type}")
        if status != HTTPStatus.NO_CONTENT:
            lines.append(f"content-length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.status = status
        self.body = body
        self._head = ("\r\n".join(lines) + "\r\n").encode("latin-1")
        self._date = b""
        self._wire = b""

    @classmethod
    def of(cls, problem: Problem, headers: Mapping[str, str] | None = None) -> "Response":
        return cls(problem.status, problem.body(), CONTENT_TYPE, headers)

    def wire(self, date: bytes, head_only: bool, close: bool) -> bytes:  # noqa: FBT001 - the hot path
        """The bytes to send; `date` is the header line."""
        if close or head_only:
            connection = b"connection: close\r\n" if close else b""
            return b"".join((self._head, date, connection, b"\r\n", b"" if head_only else self.body))
        if self._date is not date:
            self._wire = b"".join((self._head, date, b"\r\n", self.body))
            self._date = date
        return self._wire


class Request:
    """One request, complete. `headers` has lower-case names; of a repeated one, the values joined by commas."""

    __slots__ = ("body", "headers", "method", "path", "peer", "query", "target")

    def __init__(self, method: bytes, target: bytes, headers: dict[bytes, bytes], peer: str | None) -> None:
        self.method = method
        self.target = target
        self.path, _, self.query = target.partition(b"?")
        self.headers = headers
        self.peer = peer
        self.body = b""


class Reply:
    """Where the answer to one request goes; may be given later, once."""

    __slots__ = ("_connection", "close", "head_only", "wire")

    def __init__(self, connection: "Connection", head_only: bool, close: bool) -> None:  # noqa: FBT001 - the hot path
        self._connection = connection
        self.wire: bytes | None = None
        self.head_only = head_only
        self.close = close

    def send(self, response: Response) -> None:
        connection = self._connection
        self.wire = response.wire(connection.server.date, self.head_only, self.close)
        connection.flush()

    def send_raw(self, wire: bytes) -> None:
        """Relay an answer that another server wrote, then close."""
        self.wire = wire
        self.close = True
        self._connection.flush()

    def abort(self) -> None:
        """Close without an answer: what became of the request is not known."""
        self._connection.abort()


class Application(Protocol):
    """What is behind the connections. It must not block."""

    def handle(self, request: Request, reply: Reply) -> None:
        """Answer `request`, now or later."""
        ...

    def max_body_bytes(self, path: bytes) -> int:
        """How long the body of a request to `path` may be."""
        ...

    def refuse(self, problem: Problem, path: bytes) -> Response:
        """A request that can't be read whole: count it and say what to answer. `path` is empty where unknown."""
        ...


class Server:
    """The connections of one process, on a listening socket.

    Args:
        application: answers requests.
        max_connections: beyond it, an idle connection is closed for each new one.
    """

    def __init__(self, application: Application, *, max_connections: int) -> None:
        self.application = application
        self.connections: dict[Connection, None] = {}
        self.bodies_bytes = 0
        self.now = 0.0
        self.date = b""
        self.draining = False
        self._max_connections = max_connections
        self._loop = asyncio.get_running_loop()
        self._listener: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Event | None = None

    async def start(self, sock: socket.socket) -> None:
        """Accept connections on a listening socket."""
        self._sweep()
        self._listener = await self._loop.create_server(lambda: Connection(self), sock=sock)

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
        if self._sweeper is not None:
            self._sweeper.cancel()

    async def _all_closed(self) -> None:
        self._emptied = asyncio.Event()
        if self.connections:
            await self._emptied.wait()

    def closed(self, connection: "Connection") -> None:
        self.connections.pop(connection, None)
        if self._emptied is not None and not self.connections:
            self._emptied.set()

    def opened(self, connection: "Connection") -> None:
        self.connections[connection] = None
        if len(self.connections) > self._max_connections and not self._make_room():
            connection.abort()

    def _make_room(self) -> bool:
        """Close the connection that has been idle longest; those looked at in vain go to the end of the line."""
        for connection in list(islice(self.connections, _LOOKED_AT)):
            if connection.close_if_idle():
                return True
            self.connections[connection] = self.connections.pop(connection)
        return False

    def _sweep(self) -> None:
        self.now = self._loop.time()
        self.date = f"date: {formatdate(usegmt=True)}\r\n".encode()
        for connection in [connection for connection in self.connections if connection.deadline < self.now]:
            connection.expire()
        self._sweeper = self._loop.call_later(1.0, self._sweep)


class _StopParsing(Exception):  # noqa: N818 - not an error
    """Raised in a parser callback to leave the rest of the input unparsed."""


class Connection(asyncio.Protocol):
    """One client. llhttp calls the `on_…` methods while `data_received` feeds it."""

    __slots__ = (
        "_body",
        "_closing",
        "_discarded",
        "_head_bytes",
        "_headers",
        "_limit",
        "_method",
        "_parser",
        "_paused",
        "_peer",
        "_replies",
        "_request",
        "_target",
        "_transport",
        "_unread_bytes",
        "deadline",
        "server",
    )

    def __init__(self, server: Server) -> None:
        self.server = server
        self.deadline = server.now + IDLE_S
        self._parser = httptools.HttpRequestParser(self)
        self._replies: deque[Reply] = deque()
        self._request: Request | None = None
        self._closing = False
        self._paused = False
        self._discarded = 0
        self._unread_bytes = 0
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._head_bytes = 0
        self._limit = 0

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own classes don't derive from it
        peername = transport.get_extra_info("peername")
        self._peer = parse_address(peername[0].partition("%")[0]) if isinstance(peername, tuple) else None
        self.server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.server.closed(self)
        self._release_body()
        self._closing = True

    def data_received(self, data: bytes) -> None:
        if self._closing:
            self._discarded += len(data)
            if self._discarded > LINGER_BYTES:
                self._transport.abort()
            return
        within_head = self._head_bytes > 0
        try:
            self._feed(data)
        except httptools.HttpParserCallbackError:
            return  # one of ours stopped it, and has answered
        except httptools.HttpParserError:
            if self._request is None and not self._target and data.startswith(b"GET /track"):
                self._target = b"/track"  # the target itself is what llhttp did not like
            self._refuse(Problem(400, "The request is not valid HTTP/1.1."))
        else:
            if within_head and self._request is None and self._head_bytes:
                self._head_bytes += len(data)  # llhttp hands out a header when it is whole: count what it holds back
                if self._head_bytes > MAX_HEAD_BYTES:
                    self._refuse_head()

    def eof_received(self) -> bool:
        """The client sends no more: what it asked is still answered, then the connection closes."""
        self._closing = True
        if self._replies:
            self._replies[-1].close = True
            return True
        return False

    def pause_writing(self) -> None:
        self.deadline = self.server.now + READ_S
        self._pause()

    def resume_writing(self) -> None:
        self.deadline = self.server.now + IDLE_S
        self._resume()

    # What the parser calls.

    def on_url(self, url: bytes) -> None:
        if not self._target:
            self._headers = {}
            self.deadline = self.server.now + HEAD_S
        self._target += url
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        name = name.lower()
        if name in self._headers:
            value = b"%b, %b" % (self._headers[name], value)
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_head()
            raise _StopParsing
        headers = self._headers
        # HTTP/0.9 has no headers; whatever else has none may say which version it is.
        if not headers and self._parser.get_http_version() not in {"1.1", "1.0"}:
            self._stop(Problem(505, "HTTP/1.1 is spoken here."))
        self._request = Request(self._parser.get_method(), self._target, headers, self._peer)
        if b"content-length" in headers or b"transfer-encoding" in headers:
            self._expect_body()

    def on_body(self, data: bytes) -> None:
        self._unread_bytes += len(data)
        self.server.bodies_bytes += len(data)
        if self._unread_bytes > self._limit:
            self._stop(Problem(413, f"The body is longer than {self._limit} bytes."))
        if self.server.bodies_bytes > MAX_BODIES_BYTES:
            self._stop(Problem(503, "Too many bodies are being sent at once; try again shortly."))
        self._body.append(data)

    def on_message_complete(self) -> None:
        request = self._request
        assert request is not None
        self._request = None
        self._target = b""
        self._head_bytes = 0
        if self._body:
            request.body = b"".join(self._body)
            self._release_body()
        server = self.server
        self.deadline = server.now + IDLE_S
        close = server.draining or not self._parser.should_keep_alive()
        reply = Reply(self, request.method == b"HEAD", close)
        self._replies.append(reply)
        self._closing = close
        server.application.handle(request, reply)
        if close:
            raise _StopParsing
        if len(self._replies) > _MAX_PIPELINED:
            self._pause()

    # What the server and the replies call.

    def flush(self) -> None:
        """Send every answer whose turn it is."""
        replies = self._replies
        while replies and (wire := replies[0].wire) is not None:
            reply = replies.popleft()
            self._transport.write(wire)
            if reply.close:
                self._closing = True
                self._linger()
        if not replies:
            if self.server.draining and not self._closing:
                self._closing = True
                self._transport.close()
            elif self._paused:
                self._resume()

    def expire(self) -> None:
        """A deadline has passed: say so where somebody may still be reading, and close."""
        if self._replies and not self._closing and not self._paused:
            self.deadline = self.server.now + IDLE_S  # the answer is ours to give; the client is not late
        elif self._request is not None or self._head_bytes:
            self._refuse(Problem(408, "The request did not arrive in time."))
        else:
            self.abort()

    def close_if_idle(self) -> bool:
        if self._replies or self._request is not None or self._head_bytes:
            return False
        self._closing = True
        self._transport.close()
        return True

    def abort(self) -> None:
        self._transport.abort()

    # Inside.

    def _feed(self, data: bytes) -> None:
        """Parse; a request to switch protocols is answered as if it had not asked (RFC 9110, section 7.8)."""
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                offset: int = upgrade.args[0]
                data = data[offset:]
                self._parser = httptools.HttpRequestParser(self)
                if not data:
                    return
            else:
                return

    def _expect_body(self) -> None:
        assert self._request is not None
        self._limit = self.server.application.max_body_bytes(self._request.path)
        declared = self._headers.get(b"content-length", b"0")
        if not declared.isdigit() or int(declared[:20]) > self._limit:
            self._stop(Problem(413, f"The body is longer than {self._limit} bytes."))
        self.deadline = self.server.now + BODY_S
        if self._headers.get(b"expect", b"").lower() == b"100-continue" and not self._replies:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _stop(self, problem: Problem) -> None:
        self._refuse(problem)
        raise _StopParsing

    def _refuse_head(self) -> None:
        self._refuse(Problem(431, f"The head of the request is longer than {MAX_HEAD_BYTES} bytes."))

    def _refuse(self, problem: Problem) -> None:
        """Answer a request that will not be read to its end; after the answers before it, the connection closes."""
        path = self._target.partition(b"?")[0]
        reply = Reply(self, head_only=False, close=True)
        self._closing = True
        self._request = None
        self._head_bytes = 0
        self._release_body()
        self._replies.append(reply)
        reply.send(self.server.application.refuse(problem, path))

    def _linger(self) -> None:
        """Say that nothing more comes, and give the client time to read before the reset that unread input causes."""
        self.deadline = self.server.now + LINGER_S
        self._resume()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _release_body(self) -> None:
        self.server.bodies_bytes -= self._unread_bytes
        self._unread_bytes = 0
        self._body = []

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
