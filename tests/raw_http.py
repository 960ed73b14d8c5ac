"""HTTP by the byte, for what no client library would send."""

import socket
from typing import NamedTuple


class Answer(NamedTuple):
    """One answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def get(target: bytes, *lines: bytes, method: bytes = b"GET") -> bytes:
    """A request without a body. `lines` are header lines, as they are."""
    return b"\r\n".join([b"%b %b HTTP/1.1" % (method, target), b"Host: localhost", *lines, b"", b""])


def post(body: bytes, *lines: bytes, target: bytes = b"/event") -> bytes:
    """A request with a JSON body of known length."""
    head = get(target, b"Content-Type: application/json", b"Content-Length: %d" % len(body), *lines, method=b"POST")
    return head + body


def chunk(data: bytes) -> bytes:
    """One chunk of a body whose length is not known; an empty one ends it, but for trailers and a blank line."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b"0\r\n"


def exchange(port: int, *parts: bytes) -> list[Answer]:
    """Send all, then read until the server closes; a server that does not is a `TimeoutError`."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        for part in parts:
            connection.sendall(part)
        return parse_answers(read_to_end(connection))


def read_to_end(connection: socket.socket) -> bytes:
    """All bytes until the other side closes."""
    wire = b""
    while part := connection.recv(65_536):
        wire += part
    return wire


def parse_answers(wire: bytes, *, head_only: bool = False) -> list[Answer]:
    """Take answers apart, one after the other; anything between or after them is an error.

    Args:
        wire: what the server sent.
        head_only: they answer HEAD, so that no body follows, whatever length they tell.
    """
    answers = []
    while wire:
        head, blank_line, wire = wire.partition(b"\r\n\r\n")
        assert blank_line, head
        status_line, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = status_line.split(" ", 2)
        assert version in {"HTTP/1.1", "HTTP/1.0"}
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        assert len(lines) == len(headers), "a header is there twice"
        length = 0 if head_only else int(headers.get("content-length", 0))
        assert length <= len(wire), "the body is cut"
        answers.append(Answer(int(status), headers, wire[:length]))
        wire = wire[length:]
    return answers
