"""Makes requests of bytes: llhttp (httptools) parses HTTP/1.1, and this module checks what llhttp does not.

The head and the body of a request are bounded. A message that two servers could read differently is refused. llhttp
finds most of these, such as one with both `Content-Length` and `Transfer-Encoding`; this module finds the others (RFC
9112).
"""

import logging
import re
from collections.abc import Mapping
from typing import Final, NoReturn, Protocol

import httptools

from footfall.collector import limits
from footfall.collector.body import BodyStream
from footfall.collector.message import Request, path_of
from footfall.problem import Problem
from footfall.status.local import Origin

_ABOUT_BODY: Final = (b"content-length", b"transfer-encoding", b"connection")
_HOST: Final = re.compile(rb"(?:\[[0-9A-Za-z:.%_~-]+\]|[\w.~!$&'()*+,;=%-]*)(?::[0-9]*)?", re.ASCII)
"""RFC 3986, section 3.2.2: a name, or an address, and a port."""
_REQUEST_LINE: Final = re.compile(rb"^[A-Z]+ (/[^\s?]*)", re.MULTILINE)

_log = logging.getLogger(__name__)


class Receiver(Protocol):
    """Receives the requests."""

    def max_body_bytes(self, path: bytes) -> int:
        """How long the body of a request to `path` may be."""
        ...

    def expect_body(self, *, is_asked: bool) -> None:
        """A body follows. With `is_asked` the client waits for `100 Continue` before it sends it."""
        ...

    def stream(self, path: bytes) -> BodyStream | None:
        """Where to put the body of a request to `path` as it arrives; None if it must be complete first."""
        ...

    def begin(self, request: Request, *, is_last: bool, is_asked: bool) -> bool:
        """Handle a request whose body arrives by its stream, and say whether to read on. `is_asked` is as above."""
        ...

    def finish(self) -> bool:
        """The stream of the request is complete: say whether another request may follow."""
        ...

    def break_off(self) -> None:
        """The stream of the request can't be read to its end: give the request up."""
        ...

    def origin(self) -> Origin:
        """Where the request came from that is being parsed."""
        ...

    def close_after_answer(self) -> None:
        """Another request has arrived while the parser `is_held`: close after the pending answer."""
        ...

    def take(self, request: Request, *, is_last: bool) -> bool:
        """Handle a complete request. Returns whether another one may follow."""
        ...

    def refuse(self, problem: Problem, *, path: bytes, headers: Mapping[bytes, bytes], head_only: bool) -> None:
        """Answer a request that can't be read to its end, and the last one therefore. `path` is empty if unknown."""
        ...


class _StopParsing(Exception):  # noqa: N818 - not an error
    """Raised in a callback of llhttp to stop it: the rest of the input is not parsed."""


class RequestParser:
    """Parses the requests of one connection. llhttp calls the `on_…` methods.

    Args:
        receiver: receives the requests.

    Attributes:
        peer: the address that the requests come from.
        sender: whom this address stands for (`rate_limit.sender_of`).
        target: the target of the request that is being read; empty between requests.
        body: the part of its body that has arrived.
        stream: where the body goes instead, as it arrives; None if there is none, or no more of it.
        is_held: whether an answer must be given before another request may begin. One that begins nevertheless ends
            the connection.
    """

    __slots__ = (
        "_fields",
        "_headers",
        "_host",
        "_interrupted",
        "_is_stopped",
        "_limit",
        "_llhttp",
        "_origin",
        "_receiver",
        "_request",
        "_size",
        "body",
        "is_held",
        "peer",
        "sender",
        "stream",
        "target",
    )

    def __init__(self, receiver: Receiver) -> None:
        self.peer: str | None = None
        self.sender: str | None = None
        self._receiver = receiver
        self._origin = receiver.origin
        self._llhttp = httptools.HttpRequestParser(self)
        self.is_held = False
        self._is_stopped = False
        self._host: bytes | None = b""  # of the last request
        # The message being read; one has begun when its target has.
        self.target = b""
        self._headers: dict[bytes, bytes] = {}
        self._fields = 0
        self._request: Request | None = None  # from the end of the head on
        self._interrupted = False  # llhttp has stopped before its body
        self._limit = 0
        self.body = bytearray()
        self.stream: BodyStream | None = None
        self._size = 0  # of all its bytes so far, to within a piece

    def is_new_head(self, size: int) -> bool:
        """Whether the last piece, of this size, has begun a head and not completed it."""
        return self._request is None and self._size == size

    @property
    def version(self) -> str:
        """The HTTP version of the current request, such as `1.1`."""
        version: str = self._llhttp.get_http_version()
        return version

    def feed(self, piece: memoryview) -> None:
        """Parse a piece of input."""
        rest: bytes | memoryview = piece
        while rest and not self._is_stopped:
            try:
                self._llhttp.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                rest = self._decline_upgrade(rest[upgrade.args[0] :])
                continue
            except httptools.HttpParserCallbackError as error:
                if not isinstance(error.__context__, _StopParsing):
                    _log.exception("unexpected error, please report it")
                    self.refuse(Problem(500, "Footfall has met an error of its own."))
            except httptools.HttpParserError:
                if not self.target and (lines := _REQUEST_LINE.findall(piece)):
                    self.target = lines[-1]  # llhttp has refused the target itself
                self.refuse(Problem(400, "The request is not valid HTTP/1.1."))
            break
        if self.target:
            self._measure(len(piece))

    def refuse(self, problem: Problem) -> None:
        """Give up the current request, or the next one if there is none, and everything after it."""
        if self.stream is not None:
            self._is_stopped = True
            self.target = b""
            self._receiver.break_off()
            return
        head_only = self._request is not None and self._request.method == b"HEAD"
        path = path_of(self.target) if self.target else b""
        self._is_stopped = True
        self._request = None
        self.target = b""
        self.body = bytearray()
        self._receiver.refuse(problem, path=path, headers=self._headers, head_only=head_only)

    # What llhttp calls.

    def on_url(self, url: bytes) -> None:
        if self._request is not None:
            return  # the head is repeated, see _decline_upgrade
        if not self.target:
            if self.is_held:
                self._is_stopped = True
                self._receiver.close_after_answer()
                raise _StopParsing
            self._headers = {}
            self._fields = 0
            self._size = 0
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._request is not None:
            return  # a trailer must not change what has been decided already (RFC 9110, section 6.5.1)
        self._fields += 1
        if self._fields > limits.MAX_FIELDS:
            self._stop(Problem(431, f"The head of the request has more than {limits.MAX_FIELDS} lines."))
        name = name.lower()
        value = value.rstrip(b" \t")  # white space around a value is not part of it (RFC 9110, section 5.5)
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
        method = self._llhttp.get_method()
        if method == b"CONNECT":
            self.target = b""  # it is a host, not a path
            self._stop(Problem(501, "CONNECT is for proxies; this is none."))
        self._request = Request(method, self.target, headers, self.peer, self.sender, self._origin)
        if b"content-length" in headers or b"transfer-encoding" in headers:
            self._expect_body(self._request)

    def on_body(self, data: bytes) -> None:
        if self.stream is not None:
            self._size = 0  # only what is around the data is measured
            self.stream.add(data)
            return
        self.body += data
        if len(self.body) > self._limit:
            self._stop(self._too_long())

    def on_message_complete(self) -> None:
        if self._interrupted:
            return
        request = self._request
        assert request is not None
        self._request = None
        self.target = b""
        if self.stream is not None:
            self.stream.end()
            self.stream = None
            if not self._receiver.finish():
                self._is_stopped = True
                raise _StopParsing
            return
        if self.body:
            request.body = bytes(self.body)
            self.body = bytearray()
        if not self._receiver.take(request, is_last=not self._llhttp.should_keep_alive()):
            self._is_stopped = True
            raise _StopParsing

    # Inside.

    def _decline_upgrade(self, rest: bytes | memoryview) -> bytes | memoryview:
        """Ignore an offer to switch protocols (RFC 9110, section 7.8). Returns what is to be parsed next.

        llhttp stops after the head of such a request, even if a body follows. So a new parser first gets a head that
        announces the same body.
        """
        self._llhttp = httptools.HttpRequestParser(self)
        if not self._interrupted:
            return rest
        self._interrupted = False
        return _head_before_body(self._headers) + bytes(rest)

    def _measure(self, size: int) -> None:
        """Count the bytes of an incomplete message, for llhttp does not show a header before its end."""
        self._size += size
        if self._request is None:
            if self._size > limits.MAX_HEAD_BYTES:
                self.refuse(Problem(431, f"The head of the request is longer than {limits.MAX_HEAD_BYTES} bytes."))
        elif self._size > limits.MAX_HEAD_BYTES + 2 * self._limit:
            self.refuse(self._too_long())  # in its trailers, or in the lines between the chunks

    def _check_host(self, host: bytes | None) -> None:
        """HTTP/1.1 requires a host, HTTP/1.0 does not (RFC 9112, section 3.2). The last valid one is remembered."""
        version = self.version
        if version not in {"1.1", "1.0"}:
            self._stop(Problem(505, "This server speaks HTTP/1.1."))
        if host is None:
            if version == "1.1":
                self._stop(Problem(400, "The request has no Host."))
        elif not _HOST.fullmatch(host):
            self._stop(Problem(400, "The Host of the request is not a name or an address."))
        self._host = host

    def _expect_body(self, request: Request) -> None:
        headers = self._headers
        # HTTP/1.0 knows no interim answers and would take this one for the final one (RFC 9110, section 10.1.1).
        is_asked = headers.get(b"expect", b"").lower() == b"100-continue" and self.version != "1.0"
        coding = headers.get(b"transfer-encoding")
        if coding is not None and coding.lower() != b"chunked":
            self._stop(_not_chunked_only(coding.lower()))
        self.stream = request.stream = self._receiver.stream(request.path)
        if self.stream is not None:
            self._limit = 0
            self._interrupted = self._llhttp.should_upgrade()
            if not self._receiver.begin(request, is_last=not self._llhttp.should_keep_alive(), is_asked=is_asked):
                self._is_stopped = True
                self.stream = None
                self.target = b""
                raise _StopParsing
            return
        self._limit = self._receiver.max_body_bytes(request.path)
        if int(headers.get(b"content-length", b"0")) > self._limit:
            self._stop(self._too_long())
        self._interrupted = self._llhttp.should_upgrade()
        self._receiver.expect_body(is_asked=is_asked)

    def _too_long(self) -> Problem:
        return Problem(413, f"The body is longer than {self._limit} bytes.")

    def _stop(self, problem: Problem) -> NoReturn:
        self.refuse(problem)
        raise _StopParsing


def _head_before_body(headers: Mapping[bytes, bytes]) -> bytes:
    """A head that announces the same body as `headers`."""
    said = [b"%b: %b" % (name, headers[name]) for name in _ABOUT_BODY if name in headers]
    return b"\r\n".join([b"POST / HTTP/1.1", *said, b"", b""])


def _not_chunked_only(coding: bytes) -> Problem:
    """Why a transfer coding is refused (RFC 9112, section 6): a body has no end unless chunked is the last coding."""
    if not coding.endswith(b"chunked"):
        return Problem(400, "Transfer-Encoding must end with chunked.")
    return Problem(501, "Transfer-Encoding may only be chunked. A compressed body needs Content-Encoding.")
