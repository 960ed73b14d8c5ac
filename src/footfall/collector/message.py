"""Requests and responses of HTTP/1.1, without their framing."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

from footfall.collector.body import BodyStream
from footfall.problem import CONTENT_TYPE, Problem, phrase
from footfall.rate_limit import retry_after
from footfall.status.local import Origin

_SLASH = ord("/")
_WITHOUT_BODY: Final = {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
NOSNIFF: Final = {"x-content-type-options": "nosniff"}
"""Keeps browsers from guessing another content type (Fetch standard, section 3.6)."""


class Response:
    """An answer, without what changes each time: the date, and whether the connection closes after it.

    A response that is sent repeatedly keeps its bytes until the date changes.
    """

    __slots__ = ("_date", "_head", "_wire", "body", "status")

    def __init__(
        self, status: int, body: bytes = b"", content_type: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        lines = [f"HTTP/1.1 {status} {phrase(status)}"]
        if content_type:
            lines.append(f"content-type: {content_type}")
        if status not in _WITHOUT_BODY:
            lines.append(f"content-length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.status = status
        self.body = body
        self._head = ("\r\n".join(lines) + "\r\n").encode("latin-1")
        self._date = b""
        self._wire = b""

    @classmethod
    def of(cls, problem: Problem, headers: Mapping[str, str] | None = None, *, path: str = "") -> "Response":
        """The answer that describes a problem, and says when to try again if that may help.

        Args:
            problem: what to tell.
            headers: more header lines.
            path: what was asked for, where that makes a difference (`Problem.body_for`).
        """
        headers = {**NOSNIFF, **(headers or {})}
        if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers["retry-after"] = "1"
        if problem.retry_after_s is not None:
            headers["retry-after"] = retry_after(problem.retry_after_s)
        return cls(problem.status, problem.body_for(path), CONTENT_TYPE, headers)

    def extended(self, headers: Mapping[str, str]) -> "Response":
        """A copy with more header lines."""
        response = Response(self.status, self.body)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        response._head = self._head + lines.encode("latin-1")
        return response

    def wire(self, date: bytes, head_only: bool, close: bool) -> bytes:  # noqa: FBT001 - the hot path
        """The bytes to send; `date` is the whole header line."""
        if close or head_only:
            connection = b"connection: close\r\n" if close else b""
            return b"".join((self._head, date, connection, b"\r\n", b"" if head_only else self.body))
        if self._date is not date:
            self._wire = b"".join((self._head, date, b"\r\n", self.body))
            self._date = date
        return self._wire


class Request:
    """A complete request. Names in `headers` are in lower case; the values of a repeated one are joined by commas.

    `peer` is the address that the request came from, and `sender` whom this address stands for
    (`rate_limit.sender_of`). `origin` says more of where it came from; call it only while `Application.handle` is
    called with the request. Its body is whole in `body`, or arrives by `stream` if the application has asked for that.
    `is_trusted` is for the application to note that this sender may speak for visitors.
    """

    __slots__ = (
        "body",
        "headers",
        "is_trusted",
        "method",
        "origin",
        "path",
        "peer",
        "query",
        "sender",
        "stream",
        "target",
    )

    def __init__(
        self,
        method: bytes,
        target: bytes,
        headers: dict[bytes, bytes],
        peer: str | None,
        sender: str | None,
        origin: Callable[[], Origin],
    ) -> None:
        self.method = method
        self.target = target
        path, _, self.query = target.partition(b"?")
        self.path = path if path[0] == _SLASH else path_of(path)
        self.headers = headers
        self.peer = peer
        self.sender = sender
        self.origin = origin
        self.is_trusted = False
        self.body = b""
        self.stream: BodyStream | None = None


def path_of(target: bytes) -> bytes:
    """The path of a target, which may be a whole address (RFC 9112, section 3.2.2)."""
    path = target.partition(b"?")[0]
    return path if path.startswith(b"/") else b"/" + path.partition(b"://")[2].partition(b"/")[2]
