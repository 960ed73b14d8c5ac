"""A collector in this process that takes requests by chance, and what must hold then.

Each connection is fed by hand, through the methods that an event loop calls, so that a request is cut exactly where
chance wants it and a failure can be repeated.
"""

import asyncio
import json
import logging
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import uvloop

from footfall.collector.address import ClientAddress
from footfall.collector.connection import Connection
from footfall.collector.endpoints import Endpoints
from footfall.collector.intake import Intake
from footfall.collector.protocols import routes
from footfall.collector.reports import ReportRequests
from footfall.collector.server import Server
from footfall.collector.trust import TrustedSenders
from footfall.queue.local.store import LocalQueue
from footfall.settings import CollectorSettings
from footfall.status.access import ReportAccess
from footfall.status.service import ServiceStatus
from raw_http import Answer, post
from security.chance import EVENT, MAX_BODY_BYTES, Good

CLOSED_S = 20.0
"""For a connection to end when its client has sent all it will."""


# A collector, and connections to it.


class Wire(asyncio.Transport):
    """A transport that keeps what is written to it."""

    def __init__(self, protocol: Connection) -> None:
        super().__init__({"peername": ("192.0.2.7", 4711)})
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._is_open = True
        self.reading = asyncio.Event()
        self.reading.set()
        self.closed = asyncio.Event()
        self.written = b""
        protocol.connection_made(self)

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self.reading.set()  # whoever waits to be read is let go
            self._loop.call_soon(self._end)

    abort = close

    def _end(self) -> None:
        self._protocol.connection_lost(None)
        self.closed.set()

    def write_eof(self) -> None:
        self.closed.set()  # for the client, who has sent all it will

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        self.reading.clear()

    def resume_reading(self) -> None:
        self.reading.set()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    async def feed(self, data: bytes) -> None:
        """Give it to the protocol as a loop does: when that reads, and as much as it has room for."""
        while data and self._is_open:
            await self.reading.wait()
            if not self._is_open:
                return
            buffer = memoryview(self._protocol.get_buffer(len(data)))
            count = min(len(data), len(buffer))
            buffer[:count] = data[:count]
            self._protocol.buffer_updated(count)
            data = data[count:]

    async def end(self) -> bytes:
        """The client sends no more, and reads to the end."""
        if self._is_open:
            await self.reading.wait()
        if self._is_open and not self._protocol.eof_received():
            self.close()
        await self.closed.wait()
        self.close()
        return self.written


class Account(NamedTuple):
    """What the ledger says."""

    received: int
    refused: int


class Errors(logging.Handler):
    """What a log must not hold, and what nobody caught."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


class Fuzzed:
    """A collector in this process.

    Args:
        directory: for its queue.
    """

    def __init__(self, directory: Path) -> None:
        self._errors = Errors()
        self._account = Account(0, 0)
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._reader = LocalQueue(directory / "queue.sqlite", sinks=())
        self._status_reader = LocalQueue(directory / "queue.sqlite", sinks=())  # which other threads use
        self._queue = LocalQueue(directory / "queue.sqlite", sinks=(), durability="memory")

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self._errors)
        self._runner.run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._stop())
        self._runner.close()
        self._reader.close()
        self._status_reader.close()
        logging.getLogger().removeHandler(self._errors)

    def check_good(self, requests: Sequence[Good], pieces: Sequence[bytes]) -> None:
        """Each request is answered as it should be, in order, and the ledger has just what was sent."""
        answers, gained = self._runner.run(self._exchange_and_count(pieces))

        assert [request.status for request in requests] == [answer.status for answer in answers]
        received = sum(request.received for request in requests)
        refused = sum(request.refused for request in requests)
        assert Account(received, refused) == gained

    def check_bad(self, pieces: Sequence[bytes]) -> None:
        """Whatever is answered is HTTP and is accounted for, and others are served."""
        answers, gained = self._runner.run(self._exchange_and_count(pieces))

        least, most = bounds(answers)
        assert least.received <= gained.received <= most.received
        assert least.refused <= gained.refused <= most.refused

    async def _start(self) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self._errors.found.append(str(context)))
        self._intake = Intake(self._queue, on_failed=lambda error: self._errors.found.append(repr(error)))
        endpoints = Endpoints(
            self._intake,
            routes(CollectorSettings(max_body_bytes=MAX_BODY_BYTES), TrustedSenders(ReportAccess(None))),
            addresses=ClientAddress([]),
            reports=ReportRequests(
                ReportAccess(None), ServiceStatus(self._status_reader.state, sinks=(), checks={}), None
            ),
        )
        self._server = Server(endpoints, max_connections=100)
        await self._server.start(socket.create_server(("127.0.0.1", 0)))

    async def _stop(self) -> None:
        await self._server.drain(1)
        await self._intake.close()

    async def _exchange_and_count(self, pieces: Sequence[bytes]) -> tuple[list[Answer], Account]:
        """What is answered, and what the ledger gains by it; others are served, and no error is met."""
        answers = parse(await self._exchange(pieces))
        check_end(answers)
        # An event of ours takes along what waits to be counted.
        [accepted] = parse(await self._exchange([post(EVENT, b"Connection: close")]))
        assert 202 == accepted.status
        state = self._reader.state()
        before, self._account = self._account, Account(state.received, sum(state.refused.values()))
        assert [] == self._errors.found
        return answers, Account(self._account.received - before.received - 1, self._account.refused - before.refused)

    async def _exchange(self, pieces: Sequence[bytes]) -> bytes:
        """Send pieces on a connection of their own, one in a turn of the loop; all that came back."""
        async with asyncio.timeout(CLOSED_S):
            wire = Wire(Connection(self._server))
            for piece in pieces:
                await wire.feed(piece)
                await asyncio.sleep(0)
            return await wire.end()


# Answers.


def parse(wire: bytes) -> list[Answer]:
    """Take answers apart; whatever is not one fails. Of an answer to HEAD, which has no body, the next one follows."""
    answers = []
    while wire:
        head, blank_line, wire = wire.partition(b"\r\n\r\n")
        assert blank_line, head
        status_line, *lines = head.decode("latin-1").split("\r\n")
        assert re.fullmatch(r"HTTP/1\.1 [1-5][0-9]{2} [A-Za-z ]+", status_line), status_line
        fields = [re.fullmatch(r"([a-z-]+): (\S(?:.*\S)?)", line) for line in lines]
        assert all(fields), lines
        headers = {field[1]: field[2] for field in fields if field}
        assert len(headers) == len(lines), lines
        length = int(headers.get("content-length", 0))
        is_of_head = not wire or wire.startswith(b"HTTP/1.1 ")
        assert is_of_head or length <= len(wire), "the body is cut"
        body = b"" if is_of_head else wire[:length]
        wire = wire[len(body) :]
        answers.append(Answer(int(status_line.split(" ")[1]), headers, body))
    return answers


def check_end(answers: Sequence[Answer]) -> None:
    """Nothing follows an answer that closes."""
    for answer in answers[:-1]:
        assert "close" != answer.headers.get("connection"), "an answer came after the last"


def bounds(answers: Sequence[Answer]) -> tuple[Account, Account]:
    """The least and the most that the ledger has gained by these answers.

    An image may be a hit that was recorded, one that was refused, or (to HEAD) neither; a problem is counted unless the
    request was for something else than hits and events.
    """
    received = refused = images = problems = 0
    for answer in answers:
        kind = answer.headers.get("content-type")
        if kind == "image/gif":
            images += 1
        elif answer.status == 202:
            said = json.loads(answer.body)
            received += said.get("accepted", said["status"] == "accepted")
            refused += len(said.get("refused", ())) + (said["status"] == "skipped")
        elif kind == "application/problem+json":
            problems += max(1, answer.body.count(b'"index"'))
    return Account(received, refused), Account(received + images, refused + images + problems)
