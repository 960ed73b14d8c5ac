"""A protocol of its own, through the public route table and nothing else: what a module of `protocols` may declare."""

import asyncio
import base64
import gzip
import json
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import uvloop

from footfall.collector.address import ClientAddress
from footfall.collector.endpoints import Endpoints
from footfall.collector.intake import Intake
from footfall.collector.message import Request, Response
from footfall.collector.protocols.footfall import GIF
from footfall.collector.reports import ReportRequests
from footfall.collector.route import Refused, Route
from footfall.collector.server import Server
from footfall.entry import Entry, Event, decode_entries
from footfall.problem import Problem
from footfall.queue.local.store import LocalQueue
from footfall.status.access import ReportAccess
from footfall.status.service import ServiceStatus
from raw_http import parse_answers

MAX_BODY_BYTES = 10_000
PAGE = "https://shop.example"


# The protocol. `/toy` takes `GET ?name=` and answers with an image, `/toy/batch` takes `{"names": [...]}`, whatever
# its content type and with a key as the user of Basic authorization, and answers 200 with what it took.


def read_one(request: Request, received_ns: int, address: str | None) -> Sequence[Entry]:
    name = request.query.partition(b"name=")[2] or request.body.partition(b"name=")[2]
    if not name:
        raise Problem(400, "There is no name.")
    if name == b"nothing":
        return ()
    return (event(name.decode(), received_ns, address, request.headers.get(b"host", b"").decode()),)


def read_batch(request: Request, received_ns: int, address: str | None) -> Sequence[Entry | Problem]:
    scheme, _, credentials = request.headers.get(b"authorization", b"").partition(b" ")
    if scheme != b"Basic":
        raise Problem(401, "There is no key.", reason="no_key")
    key = base64.b64decode(credentials).partition(b":")[0].decode()
    return [
        event(name, received_ns, address, key) if isinstance(name, str) else Problem(422, f"{name!r} is no name.")
        for name in json.loads(request.body)["names"]
    ]


def event(name: str, received_ns: int, address: str | None, site_id: str) -> Event:
    return Event(received_ns, address, b"", site_id, name)


def answer_one(request: Request, accepted: int, _refused: Sequence[Refused]) -> Response:
    """Without an image, where none is wanted."""
    return Response(204) if b"image=0" in request.query or not accepted else image()


def answer_batch(_request: Request, accepted: int, refused: Sequence[Refused]) -> Response:
    said = {"took": accepted, "dropped": {str(place): problem.detail for place, problem in refused}}
    return Response(200, json.dumps(said).encode(), "application/json")


def refuse(problem: Problem, request: Request | None) -> Response:
    is_whole = "whole" if request is not None else "cut"
    return Response(problem.status, GIF, "image/gif", {"x-toy": f"{problem.detail} ({is_whole})"})


def image() -> Response:
    return Response(200, GIF, "image/gif")


TOY = [
    Route(
        path=b"/toy",
        read=read_one,
        answer=answer_one,
        refuse=refuse,
        unrecorded=lambda _: image(),
        methods=(b"GET", b"POST"),
        max_body_bytes=100,
    ),
    Route(
        path=b"/toy/batch",
        read=read_batch,
        answer=answer_batch,
        refuse=lambda problem, _: Response(problem.status, problem.detail.encode(), "text/plain"),
        unrecorded=lambda _: Response(200, b"{}", "application/json"),
        methods=(b"POST",),
        max_body_bytes=MAX_BODY_BYTES,
        is_each_taken=True,
        with_credentials=True,
    ),
]


class Toy:
    """A collector of this protocol.

    Attributes:
        entries: what its queue holds, when it is over: site and name of each.
        refused: what its ledger has refused then.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "queue.sqlite"
        self.entries: list[tuple[str, str]] = []
        self.refused: dict[str, int] = {}

    def run(self, main: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
        """Run a test with a client."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._run(main))
        with closing(LocalQueue(self._path, sinks=())) as queue:
            entries = [entry for batch in queue.read(0, max_bytes=1 << 20) for entry in decode_entries(batch.payload)]
            self.entries = [(entry.site_id, entry.event_type) for entry in entries if isinstance(entry, Event)]
            self.refused = queue.state().refused

    async def _run(self, main: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
        queue = LocalQueue(self._path, sinks=())
        errors: list[Exception] = []
        intake = Intake(queue, on_failed=errors.append)
        reports = ReportRequests(ReportAccess(None), ServiceStatus(queue.state, sinks=(), checks={}), None)
        server = Server(Endpoints(intake, TOY, addresses=ClientAddress([]), reports=reports), max_connections=10)
        listener = socket.create_server(("127.0.0.1", 0))
        await server.start(listener)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with asyncio.timeout(20), httpx.AsyncClient(base_url=url, headers={"host": "toys"}) as client:
            await main(client)
        await server.drain(1)
        await intake.close()
        assert [] == errors


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path)


def key(name: str = "key") -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(f'{name}:'.encode()).decode()}"}


def test_several_methods_share_a_path(toy: Toy) -> None:
    """A hit may come in the query or in a body, and the site from the host."""

    async def main(client: httpx.AsyncClient) -> None:
        for answer in (await client.get("/toy?name=a"), await client.post("/toy", content=b"name=b")):
            assert (200, GIF) == (answer.status_code, answer.content)

    toy.run(main)
    assert [("toys", "a"), ("toys", "b")] == toy.entries


def test_an_answer_may_depend_on_the_request(toy: Toy) -> None:
    """On what it asks for, and on whether it held anything to record."""

    async def main(client: httpx.AsyncClient) -> None:
        assert 204 == (await client.get("/toy?image=0&name=a")).status_code
        assert 204 == (await client.get("/toy?name=nothing")).status_code

    toy.run(main)
    assert [("toys", "image=0&name=a".partition("name=")[2])] == toy.entries
    assert {} == toy.refused


def test_a_refusal_looks_as_the_protocol_has_it(toy: Toy) -> None:
    """Whether the request was read or could not be; both are counted."""

    async def main(client: httpx.AsyncClient) -> None:
        wrong = await client.get("/toy")
        assert (400, GIF, "There is no name. (whole)") == (wrong.status_code, wrong.content, wrong.headers["x-toy"])
        long = await client.post("/toy", content=b"x" * 101)
        assert (413, GIF, "The body is longer than 100 bytes. (cut)") == (
            long.status_code,
            long.content,
            long.headers["x-toy"],
        )

    toy.run(main)
    assert {"malformed": 1, "too_large": 1} == toy.refused


def test_what_is_not_http_is_refused_as_the_protocol_has_it(toy: Toy) -> None:
    """Even if it is the target that is wrong, which is never parsed then."""

    async def main(client: httpx.AsyncClient) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(b"GET /toy?name=\x01 HTTP/1.1\r\nHost: toys\r\n\r\n")
        [answer] = parse_answers(await reader.read())
        assert (400, GIF, "close") == (answer.status, answer.body, answer.headers["connection"])
        writer.close()
        await writer.wait_closed()

    toy.run(main)
    assert {"malformed": 1} == toy.refused


def test_what_a_browser_asks_ahead_is_not_recorded(toy: Toy) -> None:
    """HEAD, and a page that is prefetched, get the answer that records nothing."""

    async def main(client: httpx.AsyncClient) -> None:
        assert 200 == (await client.head("/toy?name=a")).status_code
        assert GIF == (await client.get("/toy?name=a", headers={"sec-purpose": "prefetch"})).content

    toy.run(main)
    assert ([], {"prefetch": 1}) == (toy.entries, toy.refused)


def test_other_methods_are_told_which_there_are(toy: Toy) -> None:
    """405 with `Allow`."""

    async def main(client: httpx.AsyncClient) -> None:
        answers = [await client.put("/toy"), await client.get("/toy/batch")]
        assert [(405, "GET, HEAD, POST, OPTIONS"), (405, "POST, OPTIONS")] == [
            (answer.status_code, answer.headers["allow"]) for answer in answers
        ]

    toy.run(main)


def test_a_body_may_bring_many_entries(toy: Toy) -> None:
    """Each is taken or refused by itself, and all are there when the answer comes; its site is the key's."""

    async def main(client: httpx.AsyncClient) -> None:
        answer = await client.post("/toy/batch", content=b'{"names":["a",1,"b"]}', headers=key())
        assert {"took": 2, "dropped": {"1": "1 is no name."}} == answer.json()
        assert 401 == (await client.post("/toy/batch", content=b"{}")).status_code

    toy.run(main)
    assert [("key", "a"), ("key", "b")] == toy.entries
    assert {"invalid": 1, "no_key": 1} == toy.refused


def test_a_page_that_sends_credentials_is_named(toy: Toy) -> None:
    """In the preflight, in an answer, and in a refusal, so that its script can read it."""

    async def main(client: httpx.AsyncClient) -> None:
        origin = {"origin": PAGE}
        asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization, x-retry"}
        preflight = await client.options("/toy/batch", headers=origin | asked)
        assert (204, "authorization, x-retry", "POST, OPTIONS") == (
            preflight.status_code,
            preflight.headers["access-control-allow-headers"],
            preflight.headers["access-control-allow-methods"],
        )
        answers = [
            preflight,
            await client.post("/toy/batch", content=b'{"names":["a"]}', headers=origin | key()),
            await client.post("/toy/batch", content=b"{}", headers=origin),
            await client.post("/toy/batch", content=b"x" * 20_000, headers=origin),
            await client.put("/toy/batch", headers=origin),
        ]
        assert [204, 200, 401, 413, 405] == [answer.status_code for answer in answers]
        for answer in answers:
            assert (PAGE, "true", "origin") == (
                answer.headers["access-control-allow-origin"],
                answer.headers["access-control-allow-credentials"],
                answer.headers["vary"],
            )
        assert "access-control-allow-origin" not in (await client.put("/toy/batch")).headers

    toy.run(main)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP"])
def test_a_compressed_body_is_decoded(toy: Toy, coding: str) -> None:
    """A protocol sees what was compressed."""

    async def main(client: httpx.AsyncClient) -> None:
        body = gzip.compress(b'{"names":["a"]}')
        answer = await client.post("/toy/batch", content=body, headers={"content-encoding": coding, **key()})
        assert {"took": 1, "dropped": {}} == answer.json()

    toy.run(main)
    assert [("key", "a")] == toy.entries


def test_all_else_is_for_reports(toy: Toy) -> None:
    """What no route takes is nothing that is collected, and is not counted."""

    async def main(client: httpx.AsyncClient) -> None:
        assert [404, 404, 200] == [(await client.get(path)).status_code for path in ("/toy/", "/track", "/healthz")]

    toy.run(main)
    assert {} == toy.refused
