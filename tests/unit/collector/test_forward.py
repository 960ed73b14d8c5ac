"""The way to the reports, with a server behind it that does as each test says."""

import asyncio
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import uvloop

from footfall.collector import forward, limits
from footfall.collector.application import Application
from footfall.collector.connection import Connection
from footfall.collector.forward import Forwarder
from footfall.collector.message import Request, Response
from footfall.collector.reply import Reply
from footfall.collector.server import Server
from footfall.problem import Problem
from raw_http import Answer, chunk, get, parse_answers

MIB = 1024 * 1024

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
Answering = Callable[[Reader, Writer], Awaitable[None]]
"""What the server behind does with a connection; it closes it in the end."""


class Forwarding(Application):
    """Forwards everything but `/here`, which it answers itself when told."""

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self.held: list[Reply] = []

    def handle(self, request: Request, reply: Reply) -> None:
        if request.path == b"/here":
            self.held.append(reply)
        else:
            self._forwarder.forward(request, reply)

    def max_body_bytes(self, path: bytes) -> int:  # noqa: ARG002
        return 0

    def streams_body(self, path: bytes) -> bool:
        return path != b"/here"

    def refuse(self, problem: Problem, path: bytes, headers: Mapping[bytes, bytes]) -> Response:  # noqa: ARG002
        return Response.of(problem)


class Way:
    """A collector's server, and behind it one that answers as it is told.

    Attributes:
        application: of the collector.
        requests: what came through, head and body.
        open: connections to the server behind that are open.
        reads_bodies: whether that reads a body before it answers.
        server: the collector's.
        port: where it listens.
    """

    def __init__(self, directory: Path, answering: Answering | bytes) -> None:
        self.path = str(directory / "reports")
        self.application = Forwarding(Forwarder(self.path))
        self.requests: list[bytes] = []
        self.open = 0
        self.reads_bodies = True
        self._answering = answering
        self.port = 0
        self._writers: list[Writer] = []

    async def connect(self) -> tuple[Reader, Writer]:
        """A client; it is closed in the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=MIB)
        self._writers.append(writer)
        return reader, writer

    async def ask(self, *requests: bytes) -> list[Answer]:
        """Send all, the last with `Connection: close`, and read until the end."""
        reader, writer = await self.connect()
        writer.write(b"".join(requests))
        return parse_answers(await reader.read())

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Way"]:
        behind = await asyncio.start_unix_server(self._answer, self.path)
        self.server = Server(self.application, max_connections=1_000)
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        await self.server.start(listener)
        try:
            yield self
        finally:
            await self.server.drain(0)
            behind.close()
            for writer in self._writers:
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()
            await until(lambda: self.open == 0)

    async def _answer(self, reader: Reader, writer: Writer) -> None:
        self.open += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            body = await read_body(reader, head) if self.reads_bodies else b""
            self.requests.append(head + body)
            if isinstance(self._answering, bytes):
                writer.write(self._answering)
                await writer.drain()
            else:
                await self._answering(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()


async def read_body(reader: Reader, head: bytes) -> bytes:
    """The body that follows a head, and what is around its chunks, if it comes in chunks."""
    if b"\r\ntransfer-encoding: chunked\r\n" in head:
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
        return body
    _, _, length = head.partition(b"\r\ncontent-length: ")
    return await reader.readexactly(int(length.split(b"\r\n")[0])) if length else b""


def run(directory: Path, answering: Answering | bytes, main: Callable[[Way], Awaitable[None]]) -> None:
    """Run a test on the event loop that the collector uses; an error that nobody caught fails it."""
    uncaught: list[str] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: uncaught.append(str(context)))
        async with asyncio.timeout(30), Way(directory, answering).running() as way:
            await main(way)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(watched())
    assert [] == uncaught


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for knows of no event
        await asyncio.sleep(0.005)


CLOSE = b"Connection: close"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


# What goes through.


def test_the_connection_stays_open(tmp_path: Path) -> None:
    """A client asks for one report after the other, whatever the server behind says of its own connection."""
    answer = b"HTTP/1.1 200 Fine\r\nContent-Type: text/x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"

    async def main(way: Way) -> None:
        reader, writer = await way.connect()
        for _ in range(3):
            writer.write(get(b"/stats"))
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"HTTP/1.1 200 Fine\r\ncontent-type: text/x\r\ncontent-length: 2\r\n\r\n" == head
            assert b"ok" == await reader.readexactly(2)

    run(tmp_path, answer, main)


def test_headers_of_one_connection_end_there(tmp_path: Path) -> None:
    """Neither direction passes on what concerns the connection, or what `Connection` names; all else arrives."""
    answer = (
        b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nX-Mine: 1\r\nConnection: x-mine\r\nTrailer: x\r\nX-Kept: a\r\n"
        b"X-Kept: b\r\nContent-Length: 0\r\n\r\n"
    )
    lines = [b"Connection: X-Private, keep-alive", b"X-Private: 1", b"TE: trailers", b"Proxy-Connection: x"]
    lines += [b"Authorization: Bearer t", b"X-Kept: \xff", b"Upgrade: h2c", b"Expect: nothing"]

    async def main(way: Way) -> None:
        reader, writer = await way.connect()
        writer.write(get(b"/stats?a=%20b", *lines))
        head = await reader.readuntil(b"\r\n\r\n")

        assert b"HTTP/1.1 200 OK\r\nx-kept: a\r\nx-kept: b\r\ncontent-length: 0\r\n\r\n" == head
        first, *sent = way.requests[0].removesuffix(b"\r\n\r\n").split(b"\r\n")
        assert b"GET /stats?a=%20b HTTP/1.1" == first
        expected = [b"authorization: Bearer t", b"connection: close", b"host: localhost", b"x-kept: \xff"]
        assert expected == sorted(sent)

    run(tmp_path, answer, main)


@pytest.mark.parametrize("size", [0, 1, 65_537, 5 * MIB])
def test_a_body_goes_through(tmp_path: Path, size: int) -> None:
    """Of known length or in chunks, small or large."""
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    async def main(way: Way) -> None:
        whole = get(b"/query", b"Content-Length: %d" % size, CLOSE, method=b"POST") + body
        chunked = get(b"/query", b"Transfer-Encoding: chunked", CLOSE, method=b"POST")
        chunked += (chunk(body) if body else b"") + chunk(b"") + b"\r\n"

        for request in (whole, chunked):
            [answer] = await way.ask(request)
            assert 200 == answer.status
        for came, framing in zip(
            way.requests, (b"content-length: %d" % size, b"transfer-encoding: chunked"), strict=True
        ):
            head, _, rest = came.partition(b"\r\n\r\n")
            assert framing in head.split(b"\r\n")
            assert body == rest

    run(tmp_path, OK, main)


def test_the_connection_stays_open_after_a_body(tmp_path: Path) -> None:
    """Of known length or in chunks, and with whatever follows the last chunk."""
    chunked = get(b"/query", b"Transfer-Encoding: chunked", method=b"POST")

    async def main(way: Way) -> None:
        reader, writer = await way.connect()
        for request in (
            get(b"/query", b"Content-Length: 4", method=b"POST") + b"body",
            chunked + chunk(b"body") + chunk(b"") + b"X-Trailer: 1\r\n\r\n",
            get(b"/query", b"Content-Length: 0", method=b"POST"),
            get(b"/stats"),
        ):
            writer.write(request)
            assert b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n" == await reader.readuntil(b"\r\n\r\n")
            assert b"ok" == await reader.readexactly(2)
        assert [b"body", b"body", b"", b""] == [request.partition(b"\r\n\r\n")[2] for request in way.requests]

    run(tmp_path, OK, main)


@pytest.mark.parametrize("seed", range(10))
def test_a_body_goes_through_in_any_pieces(tmp_path: Path, seed: int) -> None:
    """However the client cuts requests, and the chunks in them, what arrives is what was sent."""
    chance = random.Random(seed)
    bodies = [chance.randbytes(chance.choice([0, 1, 7, 100, 5_000, 70_000])) for _ in range(5)]

    def cut(data: bytes, largest: int) -> list[bytes]:
        pieces = []
        while data:
            size = chance.randint(1, largest)
            pieces.append(data[:size])
            data = data[size:]
        return pieces

    async def main(way: Way) -> None:
        reader, writer = await way.connect()
        for body in bodies:
            if chance.random() < 0.5:
                request = get(b"/query", b"Content-Length: %d" % len(body), method=b"POST") + body
            else:
                request = get(b"/query", b"Transfer-Encoding: chunked", method=b"POST")
                request += b"".join(chunk(piece) for piece in cut(body, 9_000)) + chunk(b"") + b"\r\n"
            for piece in cut(request, chance.choice([50, 4_000, 200_000]) if len(request) < 6_000 else 20_000):
                writer.write(piece)
                await asyncio.sleep(0)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            assert b"ok" == await reader.readexactly(2)
        assert bodies == [request.partition(b"\r\n\r\n")[2] for request in way.requests]

    run(tmp_path, OK, main)


def test_a_body_nobody_reads_delays_no_answer(tmp_path: Path) -> None:
    """The server behind may refuse by the head alone; then the connection closes, for the body has not come."""
    refusal = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"

    async def main(way: Way) -> None:
        way.reads_bodies = False
        for sent in (0, 1, 512 * 1024):
            [answer] = await way.ask(get(b"/query", b"Content-Length: 9999999", method=b"POST") + b"x" * sent)
            assert (401, "close") == (answer.status, answer.headers["connection"])

    run(tmp_path, refusal, main)


def test_whether_to_send_a_body_is_answered(tmp_path: Path) -> None:
    """By `100 Continue`, once for a request that is passed on."""

    async def main(way: Way) -> None:
        reader, writer = await way.connect()
        writer.write(get(b"/query", b"Content-Length: 4", b"Expect: 100-continue", method=b"POST"))
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == await reader.readuntil(b"\r\n\r\n")
        writer.write(b"body")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert b"expect" not in way.requests[0]

    run(tmp_path, OK, main)


@pytest.mark.parametrize(
    ("method", "answer", "head"),
    [
        pytest.param(b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"content-length: 100", id="HEAD"),
        pytest.param(b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"", id="HEAD chunked"),
        pytest.param(b"GET", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", b"etag: x", id="304"),
        pytest.param(
            b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b"content-length: 9", id="304+"
        ),
        pytest.param(b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", b"", id="204"),
    ],
)
def test_an_answer_without_a_body_is_whole(tmp_path: Path, method: bytes, answer: bytes, head: bytes) -> None:
    """Whatever length it tells: the next answer follows at once."""

    async def main(way: Way) -> None:
        reader, writer = await way.connect()
        for _ in range(2):
            writer.write(get(b"/stats", method=method))
            received = await reader.readuntil(b"\r\n\r\n")
            assert answer.split(b" ")[1] == received.split(b" ")[1]
            assert head == received.partition(b"\r\n")[2].strip()

    run(tmp_path, answer, main)


def test_an_interim_answer_is_not_the_answer(tmp_path: Path) -> None:
    """`103 Early Hints` and the like are not passed on."""

    async def main(way: Way) -> None:
        [answer] = await way.ask(get(b"/stats", CLOSE))
        assert (200, b"ok", "1") == (answer.status, answer.body, answer.headers["x-last"])
        assert "link" not in answer.headers

    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    run(tmp_path, hints + OK.replace(b"\r\n\r\n", b"\r\nX-Last: 1\r\n\r\n"), main)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhello"


@pytest.mark.parametrize("answer", [CHUNKED, UNTIL_CLOSE], ids=["chunked", "until close"])
def test_an_answer_of_unknown_length_is_chunked(tmp_path: Path, answer: bytes) -> None:
    """And its end is told, so that the connection can stay open."""

    async def main(way: Way) -> None:
        reader, writer = await way.connect()
        for _ in range(2):
            writer.write(get(b"/export"))
            assert b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" == await reader.readuntil(b"\r\n\r\n")
            assert b"5\r\nhello\r\n0\r\n\r\n" == await reader.readexactly(15)

    run(tmp_path, answer, main)


@pytest.mark.parametrize("answer", [CHUNKED, UNTIL_CLOSE], ids=["chunked", "until close"])
def test_http_1_0_gets_no_chunks(tmp_path: Path, answer: bytes) -> None:
    """For that client an answer ends with the connection."""

    async def main(way: Way) -> None:
        reader, writer = await way.connect()
        writer.write(b"GET /export HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello" == await reader.read()

    run(tmp_path, answer, main)


def test_answers_keep_the_order_of_requests(tmp_path: Path) -> None:
    """A report waits until an answer to an earlier request is given."""

    async def main(way: Way) -> None:
        reader, writer = await way.connect()
        writer.write(get(b"/here") + get(b"/stats", CLOSE))
        await until(lambda: len(way.requests) == 1)
        way.application.held[0].send(Response(200, b"here"))

        assert [b"here", b"ok"] == [answer.body for answer in parse_answers(await reader.read())]

    run(tmp_path, OK, main)


# As it comes, and no faster than it is taken.


def test_a_part_does_not_wait_for_the_next(tmp_path: Path) -> None:
    """Server-sent events arrive one by one, while the answer has no end yet."""
    go_on = asyncio.Event()

    async def tell(_reader: Reader, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            writer.write(chunk(b"data: %d\n\n" % number))
            await go_on.wait()
            go_on.clear()
        writer.write(chunk(b"") + b"\r\n")

    async def main(way: Way) -> None:
        reader, writer = await way.connect()
        writer.write(get(b"/live"))
        assert b"text/event-stream" in await reader.readuntil(b"\r\n\r\n")
        for number in range(3):
            assert b"9\r\ndata: %d\n\n\r\n" % number == await reader.readuntil(b"\n\n\r\n")
            go_on.set()
        assert b"0\r\n\r\n" == await reader.readexactly(5)

    run(tmp_path, tell, main)


def test_a_body_does_not_wait_for_its_end(tmp_path: Path) -> None:
    """The server behind reads what has come, and answers, while the client has more to send."""

    async def echo(reader: Reader, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            writer.write(chunk(await reader.readexactly(4)))
        writer.write(chunk(b"") + b"\r\n")

    async def main(way: Way) -> None:
        way.reads_bodies = False
        reader, writer = await way.connect()
        writer.write(get(b"/query", b"Content-Length: 12", method=b"POST"))
        assert b"connection: close" in await reader.readuntil(b"\r\n\r\n")
        for part in (b"left", b"and ", b"then"):
            writer.write(part)
            assert b"4\r\n%b\r\n" % part == await reader.readexactly(9)
        assert b"0\r\n\r\n" == await reader.read()

    run(tmp_path, echo, main)


@pytest.mark.parametrize("chunked", [True, False])
def test_a_server_that_reads_nothing_holds_the_body_back(tmp_path: Path, chunked: bool) -> None:  # noqa: FBT001
    """The client is paused; when the server behind goes on, all of it comes."""
    size = 50 * MIB
    go_on = asyncio.Event()
    read = 0

    async def tell(reader: Reader, writer: Writer) -> None:
        nonlocal read
        await go_on.wait()
        while read < size:
            read += (await reader.read(MIB)).count(b"x")
        writer.write(OK)

    async def main(way: Way) -> None:
        way.reads_bodies = False
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
        body = chunk(b"x" * MIB) * 50 + chunk(b"") + b"\r\n" if chunked else b"x" * size
        reader, writer = await way.connect()
        writer.write(get(b"/import", framing, CLOSE, method=b"POST") + body)
        await until(lambda: any(connection.is_held_back for connection in way.server.connections))
        assert writer.transport.get_write_buffer_size() > size // 2, "the rest is what the kernel holds"
        go_on.set()

        [answer] = parse_answers(await reader.read())
        assert (200, size) == (answer.status, read)

    run(tmp_path, tell, main)


@pytest.mark.parametrize("chunked", [True, False])
def test_a_client_that_takes_nothing_holds_the_answer_back(tmp_path: Path, chunked: bool) -> None:  # noqa: FBT001
    """The server behind is paused; when the client goes on, all of it comes."""
    size = 100 * MIB
    sent = 0

    async def tell(_reader: Reader, writer: Writer) -> None:
        nonlocal sent
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
        writer.write(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing)
        part = b"x" * MIB
        for _ in range(size // MIB):
            writer.write(chunk(part) if chunked else part)
            await writer.drain()
            sent += MIB
        if chunked:
            writer.write(chunk(b"") + b"\r\n")

    async def main(way: Way) -> None:
        with socket.create_connection(("127.0.0.1", way.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, get(b"/export", CLOSE))
            before = -1
            while before != sent:  # until nothing more goes through
                before = sent
                await asyncio.sleep(0.3)
            assert sent < 20 * MIB, "what the kernel holds, and a little more"
            taken = 0
            last = b""
            while part := await loop.sock_recv(client, MIB):
                taken += part.count(b"x")
                last = part[-5:]
        assert taken >= size
        assert (last == b"0\r\n\r\n") is chunked

    run(tmp_path, tell, main)


@pytest.mark.parametrize("is_slow", [False, True])
def test_a_long_answer_passes_through_in_little_memory(tmp_path: Path, is_slow: bool) -> None:  # noqa: FBT001
    """100 MB, in a process that has nothing else to do, for a client that takes it fast or with long pauses."""
    size = 100 * MIB
    path = str(tmp_path / "reports")
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        with behind.accept()[0] as connection, suppress(ConnectionError):
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(100):
                connection.sendall(b"x" * MIB)

    with socket.socket(socket.AF_UNIX) as behind:
        behind.bind(path)
        behind.listen()
        behind.settimeout(30)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, __file__, str(listener.fileno()), path]
        process = subprocess.Popen(command, pass_fds=[listener.fileno()], env=environment)
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with socket.create_connection(listener.getsockname(), timeout=30) as client:
                client.sendall(get(b"/export", CLOSE))
                taken = len(client.recv(1))
                before = memory_mib(process.pid, "VmRSS")
                while part := client.recv(MIB):
                    taken += len(part)
                    if is_slow:
                        time.sleep(0.001)
            assert taken > size
            assert memory_mib(process.pid, "VmHWM") - before < 20
        finally:
            process.kill()
            process.wait()
            thread.join()
            listener.close()


def forward_all(listener: socket.socket, path: str) -> None:
    """What a collector does, without anything else of it."""

    async def main() -> None:
        await Server(Forwarding(Forwarder(path)), max_connections=10).start(listener)
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def memory_mib(pid: int, name: str) -> float:
    """A figure of the memory of a process: what it has now, or the most it ever had."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines() if line.startswith(name)]
    return int(line.split()[1]) / 1024


def test_a_slow_client_is_given_time(tmp_path: Path) -> None:
    """As long as it takes a little at a time, though the kernel asks for no more yet; one that takes nothing is not."""
    size = 8 * MIB

    async def main(way: Way) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", way.port))
            await loop.sock_sendall(client, get(b"/export", CLOSE))
            await until(lambda: any(connection.is_stalled for connection in way.server.connections))
            [connection] = way.server.connections
            rounds = 0
            while connection.is_stalled and rounds < 20:
                await take_a_little(client, connection)
                connection.deadline = -1
                connection.expire()
                await asyncio.sleep(0)
                assert connection in way.server.connections
                rounds += 1
            assert rounds > 1

            for _ in range(2):
                connection.deadline = -1
                connection.expire()
            await until(lambda: connection not in way.server.connections)

    run(tmp_path, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size, main)


async def take_a_little(client: socket.socket, connection: Connection) -> None:
    """Read on until the client's kernel has acknowledged some of it."""
    before = connection.count_untaken()
    while connection.count_untaken() >= before:
        await asyncio.get_running_loop().sock_recv(client, 1_024)


# What breaks off.


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\nhello", id="length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", id="chunked"),
    ],
)
def test_an_answer_that_breaks_off_is_not_made_to_look_whole(
    tmp_path: Path, begun: bytes, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The client's connection is reset in the middle of it, and the log says why."""

    async def break_off(_reader: Reader, writer: Writer) -> None:
        writer.write(begun)
        await has_come.wait()

    has_come = asyncio.Event()

    async def main(way: Way) -> None:
        reader, writer = await way.connect()
        writer.write(b"GET /export HTTP/%b\r\nHost: localhost\r\n\r\n" % version.encode())
        await reader.readuntil(b"hello")
        has_come.set()
        with pytest.raises(ConnectionResetError):
            await reader.readuntil(b"the end, which does not come")
        assert "broke off" in caplog.text

    run(tmp_path, break_off, main)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 20", b"no HTTP\r\n\r\n", b"HTTP/1.1 101 Switching\r\n\r\n"])
def test_a_server_that_does_not_answer_is_a_problem(tmp_path: Path, answer: bytes) -> None:
    """503, and the client's connection stays open for the next request."""

    async def main(way: Way) -> None:
        reader, writer = await way.connect()
        for _ in range(2):
            writer.write(get(b"/stats"))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after" in head
            assert b"not available" in await reader.readuntil(b"}")

    run(tmp_path, answer, main)


def test_a_server_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    """503 as well, and everything goes on when it is back."""

    async def main(way: Way) -> None:
        os.rename(way.path, tmp_path / "away")  # noqa: PTH104
        [away] = await way.ask(get(b"/stats", CLOSE))
        os.rename(tmp_path / "away", way.path)  # noqa: PTH104
        [back] = await way.ask(get(b"/stats", CLOSE))

        assert (503, 200) == (away.status, back.status)

    run(tmp_path, OK, main)


def test_a_server_that_does_not_begin_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so long the client is told."""
    monkeypatch.setattr(forward, "TIMEOUT_S", 0.1)

    async def sleep(reader: Reader, _writer: Writer) -> None:
        await reader.read()

    async def main(way: Way) -> None:
        [answer] = await way.ask(get(b"/stats", CLOSE))
        assert 503 == answer.status

    run(tmp_path, sleep, main)


def test_a_request_that_is_still_being_sent_is_not_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time to begin an answer starts again with each part of the body that was sent."""
    limits: list[asyncio.Timeout] = []

    def timeout(delay: float | None) -> asyncio.Timeout:
        limits.append(asyncio.Timeout(None if delay is None else asyncio.get_running_loop().time() + delay))
        return limits[-1]

    async def main(way: Way) -> None:
        monkeypatch.setattr(asyncio, "timeout", timeout)
        reader, writer = await way.connect()
        writer.write(get(b"/import", b"Content-Length: 8", method=b"POST"))
        await until(lambda: way.open == 1 and limits[0].when() is not None)
        before = limits[0].when()
        writer.write(b"half")
        await until(lambda: limits[0].when() != before)
        writer.write(b"half")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")

    run(tmp_path, OK, main)


@pytest.mark.parametrize("is_begun", [False, True])
def test_a_client_that_goes_away_ends_its_request(tmp_path: Path, is_begun: bool) -> None:  # noqa: FBT001
    """The server behind sees its connection close, before its answer and in the middle of it."""

    async def tell(reader: Reader, writer: Writer) -> None:
        if is_begun:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        assert b"" == await reader.read()

    async def main(way: Way) -> None:
        reader, writer = await way.connect()
        writer.write(get(b"/live"))
        if is_begun:
            await reader.readuntil(b"hello")
        await until(lambda: way.open == 1 and len(way.requests) == 1)
        writer.close()
        await until(lambda: way.open == 0)

    run(tmp_path, tell, main)


def test_a_client_that_says_no_more_ends_its_request(tmp_path: Path) -> None:
    """Also in the very moment in which it has asked; its connection is closed."""

    async def wait(reader: Reader, _writer: Writer) -> None:
        await reader.read()

    async def main(way: Way) -> None:
        for _ in range(20):
            reader, writer = await way.connect()
            writer.write(get(b"/live"))
            writer.write_eof()
            assert b"" == await reader.read()
        await until(lambda: way.open == 0)

    run(tmp_path, wait, main)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(None, id="gone"),
        pytest.param(b"zz\r\n", id="no chunk"),
        pytest.param(b"1" * 100 + b"\r\n", id="too large a chunk"),
        pytest.param(chunk(b"") + b"X-Trailer: " + b"a" * 100_000, id="trailer without end"),
    ],
)
def test_a_body_that_breaks_off_ends_its_request(tmp_path: Path, more: bytes | None) -> None:
    """The server behind never sees an end of the body, and the client's connection is closed."""
    rest: list[bytes] = []

    async def read(reader: Reader, _writer: Writer) -> None:
        rest.append(await reader.read())

    async def main(way: Way) -> None:
        way.reads_bodies = False
        reader, writer = await way.connect()
        writer.write(get(b"/query", b"Transfer-Encoding: chunked", method=b"POST") + chunk(b"body"))
        await until(lambda: len(way.requests) == 1)
        if more is None:
            writer.close()
        else:
            writer.write(more)
            with suppress(ConnectionError):
                assert b"" == await reader.read()
        await until(lambda: way.open == 0)

        assert rest in ([chunk(b"body")], [b""])

    run(tmp_path, read, main)


def test_a_client_that_does_not_go_on_is_not_waited_for(tmp_path: Path) -> None:
    """In the middle of a body its time passes, and its connection is closed; while it waits for us, it does not."""

    async def wait(reader: Reader, _writer: Writer) -> None:
        await go_on.wait()
        await reader.read()

    go_on = asyncio.Event()

    async def main(way: Way) -> None:
        way.reads_bodies = False
        reader, writer = await way.connect()
        writer.write(get(b"/query", b"Content-Length: %d" % (50 * MIB), method=b"POST") + b"x" * MIB)
        await until(lambda: len(way.requests) == 1)
        [connection] = way.server.connections
        await until(lambda: connection.is_held_back)
        connection.deadline = -1
        connection.expire()
        await asyncio.sleep(0)
        assert connection in way.server.connections

        go_on.set()
        await until(lambda: not connection.is_held_back)
        connection.deadline = -1
        connection.expire()
        with suppress(ConnectionError):
            assert b"" == await reader.read()
        await until(lambda: way.open == 0)

    run(tmp_path, wait, main)


# Many at once.


def test_so_many_are_under_way_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another is told to come back, and is answered when there is room."""
    monkeypatch.setattr(forward, "MAX_AT_ONCE", 3)
    go_on = asyncio.Event()

    async def wait(_reader: Reader, writer: Writer) -> None:
        await go_on.wait()
        writer.write(OK)

    async def main(way: Way) -> None:
        waiting = [asyncio.ensure_future(way.ask(get(b"/stats", CLOSE))) for _ in range(3)]
        await until(lambda: len(way.requests) == 3)
        [refused] = await way.ask(get(b"/stats", CLOSE))
        go_on.set()
        answers = [answer for [answer] in await asyncio.gather(*waiting)]
        answers += await way.ask(get(b"/stats", CLOSE))

        assert (503, True) == (refused.status, "retry-after" in refused.headers)
        assert [200] * 4 == [answer.status for answer in answers]

    run(tmp_path, wait, main)


def test_clients_that_take_nothing_keep_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When all places are taken, the one whose client has taken nothing for longest is given to who comes."""
    monkeypatch.setattr(forward, "MAX_AT_ONCE", 3)
    large = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (50 * MIB) + b"x" * 50 * MIB

    async def tell(_reader: Reader, writer: Writer) -> None:
        writer.write(large if b"/large" in way_requests[-1] else OK)
        await writer.drain()

    way_requests: list[bytes] = []

    async def main(way: Way) -> None:
        way.requests = way_requests
        deaf = [await way.connect() for _ in range(3)]
        for number, (_, writer) in enumerate(deaf, start=1):
            writer.write(get(b"/large"))
            await until(lambda: len(way.requests) == number)  # noqa: B023 - called at once
        await asyncio.sleep(0)
        [answer] = await until_answered(way)

        assert 200 == answer.status
        await until(lambda: deaf[0][0].at_eof() or deaf[0][0].exception() is not None or way.open < 3)

    async def until_answered(way: Way) -> list[Answer]:
        while (answers := await way.ask(get(b"/stats", CLOSE)))[0].status == 503:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # until the three take nothing more
        return answers

    run(tmp_path, tell, main)


def test_an_answer_that_must_make_room_does_not_look_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a client of HTTP/1.0 the regular end of the connection would say that it is."""
    monkeypatch.setattr(forward, "MAX_AT_ONCE", 1)
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"x" * 50 * MIB)

    async def tell(_reader: Reader, writer: Writer) -> None:
        writer.write(endless if b"/export" in requests[-1] else OK)
        await writer.drain()

    requests: list[bytes] = []

    async def main(way: Way) -> None:
        way.requests = requests
        reader, writer = await way.connect()
        writer.write(b"GET /export HTTP/1.0\r\nHost: a\r\n\r\n")
        await reader.readexactly(100)
        while (await way.ask(get(b"/stats", CLOSE)))[0].status == 503:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # until the first one takes nothing more
        with pytest.raises(ConnectionResetError):
            await reader.read()

    run(tmp_path, tell, main)


def test_bodies_that_nobody_takes_are_in_the_memory_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When they are too many together, the oldest is given up."""
    monkeypatch.setattr(limits, "MAX_BODIES_BYTES", 100_000)

    async def main(way: Way) -> None:
        monkeypatch.setattr(way.application, "streams_body", lambda _path: True)
        clients = []
        for _ in range(3):
            reader, writer = await way.connect()
            writer.write(b"POST /here HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + b"x" * 50_000)
            clients.append(reader)
            await until(lambda: len(way.application.held) == len(clients))
        with suppress(ConnectionError):
            assert b"" == await clients[0].read()
        assert not any(reader.at_eof() for reader in clients[1:])

    run(tmp_path, OK, main)


if __name__ == "__main__":
    forward_all(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])
