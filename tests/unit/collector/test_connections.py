"""The collector's HTTP, in one process and with other limits: clients that are slow, greedy or gone."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress

import pytest
import uvloop

from footfall.collector import limits
from footfall.collector.application import Application
from footfall.collector.message import Request, Response
from footfall.collector.reply import Reply
from footfall.collector.server import Server
from footfall.problem import Problem
from raw_http import Answer, get, parse_answers, post

MIB = 1024 * 1024

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


class Echo(Application):
    """Answers with the request's body or path; `/large` at length, `/soon` in the loop's next turn, `/later` when told.

    `/elsewhere` is answered when told, too, and alone. `/broken` is an error of ours.

    Attributes:
        handled: requests so far.
        begun: requests with a body whose heads are there.
        held: the replies to `/later` and `/elsewhere` that are to be given.
        refused: what was asked to be refused, with the path.
    """

    def __init__(self) -> None:
        self.handled = 0
        self.begun = 0
        self.held: list[Reply] = []
        self.refused: list[tuple[int, bytes]] = []

    def handle(self, request: Request, reply: Reply) -> None:
        self.handled += 1
        if request.path in {b"/later", b"/elsewhere"}:
            reply.alone = request.path == b"/elsewhere"
            self.held.append(reply)
        elif request.path == b"/soon":
            asyncio.get_running_loop().call_soon(reply.send, Response(200, b"x" * 10_000))
        elif request.path == b"/broken":
            raise ZeroDivisionError
        elif request.path == b"/large":
            reply.send(Response(200, b"x" * 100_000))
        else:
            reply.send(Response(200, request.body or request.path))

    def max_body_bytes(self, path: bytes) -> int:
        self.begun += 1
        return 10 * MIB if path == b"/event" else 0

    def refuse(self, problem: Problem, path: bytes, headers: Mapping[bytes, bytes]) -> Response:  # noqa: ARG002 - as in the protocol
        self.refused.append((problem.status, path))
        return Response.of(problem)


class Fixture:
    """A running server and its application."""

    def __init__(self, server: Server, application: Echo, port: int) -> None:
        self.server = server
        self.application = application
        self.port = port
        self.writers: list[Writer] = []

    async def connect(self) -> tuple[Reader, Writer]:
        """A client; it is closed in the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return reader, writer


@asynccontextmanager
async def serving(*, max_connections: int = 100) -> AsyncIterator[Fixture]:
    application = Echo()
    server = Server(application, max_connections=max_connections)
    listener = socket.create_server(("127.0.0.1", 0))
    await server.start(listener)
    fixture = Fixture(server, application, listener.getsockname()[1])
    try:
        yield fixture
    finally:
        await server.drain(0)
        for writer in fixture.writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a test on the event loop that the collector uses; an error that nobody caught fails it."""
    uncaught: list[str] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: uncaught.append(str(context)))
        async with asyncio.timeout(20):
            await main()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(watched())
    assert [] == uncaught


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for knows of no event
        await asyncio.sleep(0.005)


async def answers(reader: Reader) -> list[Answer]:
    """All answers until the server closes."""
    return parse_answers(await reader.read())


async def received_bytes(client: socket.socket) -> int:
    """How much there is to receive until the connection ends, in whichever way."""
    received = 0
    with suppress(ConnectionError):
        while part := await asyncio.get_running_loop().sock_recv(client, 1_000_000):
            received += len(part)
    return received


def reset(writer: Writer) -> None:
    """Go away as a client does whose network is gone."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@pytest.fixture
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every phase has hardly any time."""
    for name in ("IDLE_S", "HEAD_S", "BODY_S", "READ_S", "LINGER_S"):
        monkeypatch.setattr(limits, name, 0.1)


# Slow clients.


@pytest.mark.usefixtures("_hurried")
@pytest.mark.parametrize(
    "wire", [b"GET /track HTTP/1.1\r\n", b"GET /track HTTP/1.1\r\nHost: a", b"GET /track HTTP/1.1\r\nHost: a\r\n"]
)
def test_head_that_does_not_come_is_told_so(wire: bytes) -> None:
    """408, and the connection closes; the application is asked what to answer, with the path."""

    async def main() -> None:
        async with serving() as fixture:
            reader, writer = await fixture.connect()
            writer.write(wire)
            [answer] = await answers(reader)

            assert (408, "close") == (answer.status, answer.headers["connection"])
            assert [(408, b"/track")] == fixture.application.refused

    run(main)


@pytest.mark.usefixtures("_hurried")
def test_body_that_does_not_come_is_told_so() -> None:
    """408, and the connection closes."""

    async def main() -> None:
        async with serving() as fixture:
            reader, writer = await fixture.connect()
            writer.write(post(b"x" * 100)[:-1])
            [answer] = await answers(reader)

            assert (408, "close") == (answer.status, answer.headers["connection"])
            assert (0, [(408, b"/event")]) == (fixture.application.handled, fixture.application.refused)

    run(main)


@pytest.mark.usefixtures("_hurried")
@pytest.mark.parametrize(
    "start", [b"GET /track HTTP/1.1\r\nX-Long: ", post(b"x" * 10_000)[:-10_000]], ids=["head", "body"]
)
def test_client_that_sends_a_little_now_and_then_gains_no_time(start: bytes) -> None:
    """What counts is when a phase began, not when the last byte came."""

    async def main() -> None:
        async with serving() as fixture:
            reader, writer = await fixture.connect()
            writer.write(start)
            read = asyncio.ensure_future(reader.read())
            while not read.done():
                writer.write(b"a")
                await asyncio.sleep(0.02)
            [answer] = parse_answers(read.result())

            assert 408 == answer.status

    run(main)


@pytest.mark.usefixtures("_hurried")
@pytest.mark.parametrize("before", [b"", get(b"/")], ids=["new", "used"])
def test_idle_connection_is_closed_without_a_word(before: bytes) -> None:
    """There is no request to answer."""

    async def main() -> None:
        async with serving() as fixture:
            reader, writer = await fixture.connect()
            writer.write(before)
            received = await answers(reader)

            assert [200] * bool(before) == [answer.status for answer in received]
            assert [] == fixture.application.refused
            await until(lambda: not fixture.server.connections)

    run(main)


@pytest.mark.usefixtures("_hurried")
def test_client_does_not_pay_for_an_answer_that_takes_time() -> None:
    """While the answer is ours to give, the connection stays."""

    async def main() -> None:
        async with serving() as fixture:
            reader, writer = await fixture.connect()
            writer.write(get(b"/later"))
            await asyncio.sleep(2.5)  # two sweeps
            fixture.application.held[0].send(Response(200, b"at last"))

            assert b"at last" == (await answers(reader))[0].body

    run(main)


# Greedy clients.


@pytest.mark.parametrize("target", [b"/large", b"/soon"], ids=["answered at once", "answered later"])
def test_client_that_does_not_read_is_not_read_from(target: bytes) -> None:
    """Answers that nobody takes do not pile up: requests wait in the client's own buffers."""

    async def main() -> None:
        async with serving() as fixture:
            with socket.create_connection(("127.0.0.1", fixture.port)) as client:
                client.setblocking(False)
                handled = -1
                while handled != fixture.application.handled < 50_000:
                    handled = fixture.application.handled
                    with suppress(BlockingIOError):
                        while True:
                            client.send(get(target) * 20)
                    await asyncio.sleep(0.2)  # time to read on, for a server that would

                assert fixture.application.handled < 50_000

    run(main)


@pytest.mark.usefixtures("_hurried")
def test_client_that_does_not_read_is_closed() -> None:
    """Its answers cost memory for a while, and no longer."""

    async def main() -> None:
        async with serving() as fixture:
            with socket.create_connection(("127.0.0.1", fixture.port)) as client:
                client.sendall(get(b"/large") * 200)
                await until(lambda: fixture.application.handled > 0)
                await until(lambda: not fixture.server.connections)

    run(main)


def test_client_that_reads_late_gets_everything() -> None:
    """A pause in reading loses nothing."""

    async def main() -> None:
        async with serving() as fixture:
            reader, writer = await fixture.connect()
            for _ in range(300):
                writer.write(get(b"/large"))
            writer.write(get(b"/", b"Connection: close"))
            await asyncio.sleep(0.3)
            received = await answers(reader)

            assert [100_000] * 300 + [1] == [len(answer.body) for answer in received]

    run(main)


def test_client_that_reads_slowly_gets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow network is no offence: time is up only for a client that takes nothing at all."""
    count = 60
    # Twenty reads take longer than this; one does not, unless the machine stands still.
    monkeypatch.setattr(limits, "READ_S", 1.5)

    async def main() -> None:
        async with serving() as fixture:
            reader, writer = await fixture.connect()
            writer.write(get(b"/large") * count + get(b"/", b"Connection: close"))
            wire = b""
            while part := await reader.read(300_000):
                wire += part
                await asyncio.sleep(0.1)

            assert count + 1 == len(parse_answers(wire))

    run(main)


def test_answers_that_all_clients_leave_unread_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has left some unread longest is cut off; others go on."""
    monkeypatch.setattr(limits, "MAX_UNREAD_BYTES", 25_000_000)

    async def main() -> None:
        async with serving() as fixture:
            loop = asyncio.get_running_loop()
            clients = []
            for _ in range(6):
                client = socket.socket()
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
                client.setblocking(False)
                await loop.sock_connect(client, ("127.0.0.1", fixture.port))
                await loop.sock_sendall(client, get(b"/large") * 99 + get(b"/", b"Connection: close"))
                clients.append(client)
            await until(lambda: fixture.application.handled >= 6 * 99)
            assert 0 < len(fixture.server.connections) < 6

            assert await received_bytes(clients[0]) < 99 * 100_000
            reader, writer = await asyncio.open_connection(sock=clients.pop())
            fixture.writers.append(writer)
            assert [100_000] * 99 + [1] == [len(answer.body) for answer in await answers(reader)]
            for client in clients:
                client.close()

    run(main)


def test_client_that_is_owed_many_answers_is_not_read_from() -> None:
    """Requests that wait for their answers are bounded; all are answered in the end, in order."""
    count = 5_000

    async def main() -> None:
        async with serving() as fixture:
            held = fixture.application.held
            reader, writer = await fixture.connect()
            writer.write(get(b"/later") * (count - 1) + get(b"/later", b"Connection: close"))
            await until(lambda: len(held) > 64)
            await asyncio.sleep(0.2)  # time to read on, for a server that would
            assert len(held) < count // 10

            read = asyncio.ensure_future(answers(reader))
            sent = 0
            while not read.done():
                for number in range(sent, len(held)):
                    held[number].send(Response(200, b"%d" % number))
                sent = len(held)
                await asyncio.sleep(0)

            assert [b"%d" % number for number in range(count)] == [answer.body for answer in read.result()]

    run(main)


def test_bodies_of_all_clients_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What many clients send at once does not fill the memory: who began first and is not done is told to try again."""
    monkeypatch.setattr(limits, "MAX_BODIES_BYTES", 10_000)

    async def main() -> None:
        async with serving() as fixture:
            slow, slow_writer = await fixture.connect()
            slow_writer.write(post(b"x" * 8_000)[:-1])
            await until(lambda: fixture.application.begun == 1)
            for _ in range(2):
                reader, writer = await fixture.connect()
                writer.write(post(b"x" * 8_000, b"Connection: close"))
                assert [200] == [answer.status for answer in await answers(reader)]

            assert [(503, "1")] == [(answer.status, answer.headers["retry-after"]) for answer in await answers(slow)]
            assert [(503, b"/event")] == fixture.application.refused

    run(main)


def test_bodies_that_are_done_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither those that were read whole nor those whose clients are gone."""
    monkeypatch.setattr(limits, "MAX_BODIES_BYTES", 10_000)

    async def main() -> None:
        async with serving() as fixture:
            for number in range(5):
                _, writer = await fixture.connect()
                writer.write(post(b"x" * 6_000)[:-1])
                await until(lambda number=number: fixture.application.begun == 2 * number + 1)  # type: ignore[misc]
                reset(writer)
                await until(lambda: not fixture.server.connections)
                reader, writer = await fixture.connect()
                writer.write(post(b"x" * 6_000, b"Connection: close"))
                assert [200] == [answer.status for answer in await answers(reader)]
                writer.close()
                await until(lambda: not fixture.server.connections)

            assert [] == fixture.application.refused

    run(main)


def test_answers_come_in_the_order_of_the_requests() -> None:
    """An answer that is ready early waits for its turn."""

    async def main() -> None:
        async with serving() as fixture:
            reader, writer = await fixture.connect()
            writer.write(get(b"/later") + get(b"/at-once") + get(b"/later") + get(b"/last", b"Connection: close"))
            await until(lambda: fixture.application.handled == 4)
            second, first = fixture.application.held[1], fixture.application.held[0]
            second.send(Response(200, b"second"))
            first.send(Response(200, b"first"))

            assert [b"first", b"/at-once", b"second", b"/last"] == [answer.body for answer in await answers(reader)]

    run(main)


# Too many clients.


def test_idle_connection_makes_room_for_a_new_one() -> None:
    """The one that is idle longest is closed; one that waits for its answer is not."""

    async def main() -> None:
        async with serving(max_connections=3) as fixture:
            waiting, waiting_writer = await fixture.connect()
            waiting_writer.write(get(b"/later"))
            await until(lambda: len(fixture.application.held) == 1)
            idle, _ = await fixture.connect()
            await until(lambda: len(fixture.server.connections) == 2)
            await fixture.connect()
            await until(lambda: len(fixture.server.connections) == 3)

            reader, writer = await fixture.connect()
            writer.write(get(b"/new", b"Connection: close"))
            assert [b"/new"] == [answer.body for answer in await answers(reader)]
            assert b"" == await idle.read()

            fixture.application.held[0].send(Response(200, b"answered"))
            assert b"answered" in await waiting.readuntil(b"answered")

    run(main)


def test_new_connection_is_closed_where_none_is_idle() -> None:
    """Those who are being served are served; nobody waits in vain."""

    async def main() -> None:
        async with serving(max_connections=2) as fixture:
            busy = [await fixture.connect() for _ in range(2)]
            for _, writer in busy:
                writer.write(get(b"/later"))
            await until(lambda: len(fixture.application.held) == 2)

            reader, writer = await fixture.connect()
            with suppress(ConnectionError):
                assert b"" == await reader.read()

            for reply in fixture.application.held:
                reply.send(Response(200, b"answered"))
            for reader, _ in busy:
                assert b"answered" in await reader.readuntil(b"answered")

    run(main)


# Clients that are gone.


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_answer_to_a_client_that_is_gone_is_nobodys_error(version: bytes) -> None:
    """Whoever answers need not know; the others that are answered with it are."""

    async def main() -> None:
        async with serving() as fixture:
            _, writer = await fixture.connect()
            writer.write(b"GET /later HTTP/%b\r\nHost: a\r\n\r\n" % version)
            await until(lambda: len(fixture.application.held) == 1)
            reset(writer)
            await until(lambda: not fixture.server.connections)

            fixture.application.held[0].send(Response(200, b"too late"))

    run(main)


def test_client_that_sends_no_more_is_still_answered() -> None:
    """Half a connection is enough to read an answer from."""

    async def main() -> None:
        async with serving() as fixture:
            reader, writer = await fixture.connect()
            writer.write(get(b"/later") + get(b"/later"))
            writer.write_eof()
            await until(lambda: len(fixture.application.held) == 2)
            for reply in fixture.application.held:
                reply.send(Response(200, b"answered"))

            assert [200, 200] == [answer.status for answer in await answers(reader)]

    run(main)


def test_answer_that_is_not_known_closes_the_connection() -> None:
    """Where nothing true can be said, nothing is."""

    async def main() -> None:
        async with serving() as fixture:
            reader, writer = await fixture.connect()
            writer.write(get(b"/later"))
            await until(lambda: len(fixture.application.held) == 1)
            fixture.application.held[0].abort()

            with suppress(ConnectionError):
                assert b"" == await reader.read()

    run(main)


# The end.


def test_drain_answers_what_was_asked() -> None:
    """Requests in hand and bodies on their way are served, idle connections closed, new ones not taken."""

    async def main() -> None:
        async with serving() as fixture:
            idle, idle_writer = await fixture.connect()
            waiting, waiting_writer = await fixture.connect()
            waiting_writer.write(get(b"/later"))
            sending, sending_writer = await fixture.connect()
            wire = post(b"a body")
            sending_writer.write(wire[:-1])
            await until(lambda: len(fixture.application.held) == 1 and len(fixture.server.connections) == 3)
            await until(lambda: fixture.application.begun == 1)

            drained = asyncio.ensure_future(fixture.server.drain(10))
            assert b"" == await idle.read()
            with pytest.raises(ConnectionError):
                await fixture.connect()
            sending_writer.write(wire[-1:])
            [sent] = await answers(sending)
            fixture.application.held[0].send(Response(200, b"answered"))
            [answered] = await answers(waiting)
            for writer in (idle_writer, waiting_writer, sending_writer):
                writer.close()
            await drained

            assert (b"a body", "close") == (sent.body, sent.headers["connection"])
            assert b"answered" == answered.body
            assert {} == fixture.server.connections

    run(main)


def test_drain_does_not_wait_for_ever() -> None:
    """What has not come when its patience ends is cut off."""

    async def main() -> None:
        async with serving() as fixture:
            reader, writer = await fixture.connect()
            writer.write(post(b"a body")[:-1])
            await until(lambda: fixture.application.begun == 1)

            await fixture.server.drain(0.1)

            with suppress(ConnectionError):
                assert b"" == await reader.read()

    run(main)


# Errors, and limits of a message.


def test_error_of_ours_is_answered_and_said(caplog: pytest.LogCaptureFixture) -> None:
    """500 for its request, the reason in the log, and everybody else is served."""

    async def main() -> None:
        async with serving() as fixture:
            reader, writer = await fixture.connect()
            writer.write(get(b"/before") + get(b"/broken") + get(b"/after"))
            received = await answers(reader)
            other, other_writer = await fixture.connect()
            other_writer.write(get(b"/other", b"Connection: close"))
            [answer] = await answers(other)

            assert [200, 500] == [answer.status for answer in received]
            assert b"/other" == answer.body

    run(main)
    assert ["ERROR"] == [record.levelname for record in caplog.records]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(("lines", "status"), [(254, 200), (256, 431)])
def test_lines_of_a_head_are_bounded(lines: int, status: int) -> None:
    """Short ones, too: each costs something. Two are in every request here."""

    async def main() -> None:
        async with serving() as fixture:
            reader, writer = await fixture.connect()
            writer.write(get(b"/", b"Connection: close", *[b"a:"] * lines))
            [answer] = await answers(reader)

            assert status == answer.status

    run(main)


@pytest.mark.parametrize(("length", "status"), [(60_000, 200), (70_000, 431)])
@pytest.mark.parametrize("size", [500, 5_000, 100_000], ids="in pieces of {}".format)
def test_head_is_measured_the_same_however_it_comes(length: int, status: int, size: int) -> None:
    """The limit is 64 kB, whatever the pieces."""

    async def main() -> None:
        async with serving() as fixture:
            reader, writer = await fixture.connect()
            wire = get(b"/", b"Connection: close", *[b"a: %b" % (b"x" * 996)] * (length // 1_000))
            for place in range(0, len(wire), size):
                writer.write(wire[place : place + size])
                await asyncio.sleep(0.001)
            [answer] = await answers(reader)

            assert status == answer.status

    run(main)


# Answers.


def test_nothing_is_begun_before_an_answer_that_is_made_elsewhere() -> None:
    """Else one client could have a thousand made at a time. The answer says that it is the last."""

    async def main() -> None:
        async with serving() as fixture:
            reader, writer = await fixture.connect()
            writer.write(get(b"/before") + get(b"/elsewhere") * 1_000)
            await until(lambda: len(fixture.application.held) == 1)
            fixture.application.held[0].send(Response(200, b"elsewhere"))

            assert [(b"/before", None), (b"elsewhere", "close")] == [
                (answer.body, answer.headers.get("connection")) for answer in await answers(reader)
            ]
            assert 2 == fixture.application.handled

    run(main)


def test_client_that_waits_for_an_answer_made_elsewhere_may_ask_again() -> None:
    """Its connection stays."""

    async def main() -> None:
        async with serving() as fixture:
            held = fixture.application.held
            reader, writer = await fixture.connect()
            for number in range(3):
                writer.write(get(b"/elsewhere"))
                await until(lambda number=number: len(held) == number + 1)  # type: ignore[misc]
                held[number].send(Response(200, b"again"))
                assert b"connection: close" not in await reader.readuntil(b"again")

    run(main)
