"""`POST /event` and `/events` over HTTP: who may send events for visitors, and what becomes of unknown fields."""

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop

from footfall.collector.address import ClientAddress
from footfall.collector.endpoints import Endpoints
from footfall.collector.intake import Intake
from footfall.collector.protocols import routes
from footfall.collector.reports import ReportRequests
from footfall.collector.server import Server
from footfall.collector.trust import TrustedSenders
from footfall.entry import Event, decode_entries
from footfall.problem import CONTENT_TYPE
from footfall.queue.local.store import LocalQueue
from footfall.rate_limit import RateLimiter
from footfall.settings import CollectorSettings
from footfall.status.access import GUESSES_BURST, ReportAccess
from footfall.status.service import ServiceStatus

TOKEN = "open-sesame-open-sesame"
BEARER = {"authorization": f"Bearer {TOKEN}"}
SERVER = {"user-agent": "shop-server/1"}
VIEW = {"site_id": "shop", "event_type": "page_view"}
FOR_VISITOR = {**VIEW, "ip": "203.0.113.7", "user_agent": "Firefox/140"}

Main = Callable[[httpx.AsyncClient], Awaitable[None]]


class Collector:
    """A collector behind a trusted proxy, in this process.

    Attributes:
        token: `reporting.token`.
        limiter: limits what an address may send.
        events: what its queue holds when it has run.
        refused: what its ledger has refused then.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "queue.sqlite"
        self.token: str | None = None
        self.limiter: RateLimiter | None = None
        self.events: list[Event] = []
        self.refused: dict[str, int] = {}

    def run(self, main: Main, token: str | None = None) -> None:
        """Run a test with a client."""
        self.token = token
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._run(main))
        with closing(LocalQueue(self._path, sinks=())) as queue:
            entries = [entry for batch in queue.read(0, max_bytes=1 << 20) for entry in decode_entries(batch.payload)]
            self.events = [entry for entry in entries if isinstance(entry, Event)]
            self.refused = queue.state().refused

    def senders(self) -> list[tuple[str | None, str]]:
        """Address and user agent of each event."""
        return [(event.address, event.user_agent.decode()) for event in self.events]

    async def _run(self, main: Main) -> None:
        queue = LocalQueue(self._path, sinks=())
        errors: list[Exception] = []
        intake = Intake(queue, on_failed=errors.append)
        addresses = ClientAddress(["127.0.0.1"])
        access = ReportAccess(self.token, address_of=addresses.of, clock=lambda: 0.0)  # guesses are never forgotten
        endpoints = Endpoints(
            intake,
            routes(CollectorSettings(), TrustedSenders(access)),
            addresses=addresses,
            reports=ReportRequests(access, ServiceStatus(queue.state, sinks=(), checks={}), None),
            limiter=self.limiter,
        )
        server = Server(endpoints, max_connections=100)
        listener = socket.create_server(("127.0.0.1", 0))
        await server.start(listener)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            async with asyncio.timeout(30), httpx.AsyncClient(base_url=url, headers=SERVER, timeout=20) as client:
                await main(client)
        finally:
            await server.drain(1)
            await intake.close()
        assert [] == errors


@pytest.fixture
def collector(tmp_path: Path) -> Collector:
    return Collector(tmp_path)


def fields(answer: httpx.Response) -> dict[str, str]:
    """What an answer says of each field."""
    return {error["field"]: error["detail"] for error in answer.json().get("errors", [])}


def test_a_server_with_the_token_gives_the_visitors_address_and_user_agent(collector: Collector) -> None:
    """Each event has its own; what is not given of a visitor is not the server's instead."""

    async def main(client: httpx.AsyncClient) -> None:
        one = await client.post("/event", headers=BEARER, json=FOR_VISITOR)
        many = [
            {**VIEW, "ip": "2001:DB8:0::8", "user_agent": "Chrome/140"},
            {**VIEW, "ip": "::ffff:203.0.113.9"},
            {**VIEW, "user_agent": "Safari/26"},
            {**VIEW, "ip": None, "user_agent": ""},
            VIEW,
        ]
        assert [202, 202] == [one.status_code, (await client.post("/events", headers=BEARER, json=many)).status_code]

    collector.run(main, TOKEN)

    assert [
        ("203.0.113.7", "Firefox/140"),
        ("2001:db8::8", "Chrome/140"),
        ("203.0.113.9", ""),
        (None, "Safari/26"),
        (None, ""),
        ("127.0.0.1", "shop-server/1"),
    ] == collector.senders()


def test_without_the_token_nothing_is_sent_for_a_visitor(collector: Collector) -> None:
    """The answer says which header is missing, and nothing of the request is counted, as anybody's."""

    async def main(client: httpx.AsyncClient) -> None:
        for content in ({**VIEW, "ip": "203.0.113.7"}, {**VIEW, "user_agent": "Firefox/140"}):
            one, many = await client.post("/event", json=content), await client.post("/events", json=[VIEW, content])
            for answer in (one, many):
                assert (401, 'Bearer realm="Footfall"', CONTENT_TYPE, "*") == (
                    answer.status_code,
                    answer.headers["www-authenticate"],
                    answer.headers["content-type"],
                    answer.headers["access-control-allow-origin"],
                )
                assert "Authorization: Bearer TOKEN" in answer.json()["detail"]

    collector.run(main, TOKEN)

    assert ([], {"no_token": 4}) == (collector.events, collector.refused)


def test_a_wrong_token_is_answered_late_and_guesses_are_limited(collector: Collector) -> None:
    """As for reports; a thousand events with one wrong token are one guess, and other clients are served."""
    guess, at = {"authorization": "Bearer guess"}, {"x-forwarded-for": "9.9.9.1"}

    async def main(client: httpx.AsyncClient) -> None:
        started = time.monotonic()
        many = await client.post("/events", headers=guess | at, json=[FOR_VISITOR] * 1_000)
        assert (401, True) == (many.status_code, time.monotonic() - started >= 1.0)
        guesses = [client.post("/event", headers=guess | at, json=FOR_VISITOR) for _ in range(GUESSES_BURST + 5)]
        statuses = sorted({answer.status_code for answer in await asyncio.gather(*guesses)})
        right = await client.post("/event", headers=BEARER | at, json=FOR_VISITOR)
        assert [401, 429, 429] == [*statuses, right.status_code]
        assert int(right.headers["retry-after"]) > 0
        elsewhere = {"x-forwarded-for": "9.9.9.2"}
        assert 202 == (await client.post("/event", headers=BEARER | elsewhere, json=FOR_VISITOR)).status_code
        assert 202 == (await client.post("/event", headers=guess | at, json=VIEW)).status_code

    collector.run(main, TOKEN)

    assert [("203.0.113.7", "Firefox/140"), ("9.9.9.1", "shop-server/1")] == collector.senders()
    assert {"wrong_token": 1 + GUESSES_BURST + 5 + 1} == collector.refused


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        ({"x-forwarded-for": "203.0.113.1"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"sec-fetch-mode": "no-cors"}, 403),
        ({"host": "evil.example"}, 403),
        ({"host": "evil.example", **BEARER}, 403),
    ],
)
def test_if_no_token_is_set_only_a_program_of_footfalls_user_sends_for_visitors(
    collector: Collector, headers: dict[str, str], status: int
) -> None:
    """On the same machine; a proxy and a page in that user's browser don't. Whoever is refused is told what to set."""

    async def main(client: httpx.AsyncClient) -> None:
        answer = await client.post("/event", headers=headers, json=FOR_VISITOR)
        assert (status, status == 403) == (answer.status_code, "set reporting.token" in answer.text)

    collector.run(main)

    assert ([("203.0.113.7", "Firefox/140")] if status == 202 else []) == collector.senders()
    assert ({} if status == 202 else {"not_local": 1}) == collector.refused


@pytest.mark.parametrize("ip", ["", "localhost", "203.0.113.256", "203.0.113.7, 10.0.0.1", "fe80::1%eth0", 17])
def test_what_is_no_address_is_refused(collector: Collector, ip: object) -> None:
    """It is never the server's own that counts instead."""

    async def main(client: httpx.AsyncClient) -> None:
        answer = await client.post("/event", headers=BEARER, json={**VIEW, "ip": ip})
        assert (422, ["ip"]) == (answer.status_code, list(fields(answer)))

    collector.run(main, TOKEN)

    assert ([], {"invalid": 1}) == (collector.events, collector.refused)


def test_the_rate_of_an_address_is_not_that_of_a_server_for_all_its_visitors(collector: Collector) -> None:
    """What it sends for them is not limited; what it sends for itself is."""
    collector.limiter = RateLimiter(1 / 60, burst=2)

    async def main(client: httpx.AsyncClient) -> None:
        for_visitors = [await client.post("/event", headers=BEARER, json=FOR_VISITOR) for _ in range(5)]
        own = [await client.post("/event", headers=BEARER, json=VIEW) for _ in range(3)]
        assert [202] * 5 == [answer.status_code for answer in for_visitors]
        assert [202, 202, 429] == [answer.status_code for answer in own]

    collector.run(main, TOKEN)


def test_browsers_are_not_invited_to_send_a_token(collector: Collector) -> None:
    """A page has no business with it, so a preflight does not allow the header."""

    async def main(client: httpx.AsyncClient) -> None:
        asked = {
            "origin": "https://shop.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type",
        }
        for path in ("/event", "/events"):
            assert "content-type" == (await client.options(path, headers=asked)).headers["access-control-allow-headers"]

    collector.run(main, TOKEN)


def test_unknown_fields_are_ignored_and_told_if_asked(collector: Collector) -> None:
    """A typo then shows; without being asked the answer stays as it was."""
    with_typo: dict[str, Any] = {**VIEW, "titel": "Shop", "Props": {"a": 1}}

    async def main(client: httpx.AsyncClient) -> None:
        answers = [
            await client.post("/event", json=with_typo),
            await client.post("/event?explain=0&colour=blue", json=with_typo),
            await client.post("/event?explain=1", json=with_typo),
            await client.post("/event?explain=1", json=VIEW),
            await client.post("/events?explain=1", json=[VIEW, with_typo, {**VIEW, "titel": 1, "x": 2}, {"y": 3}]),
        ]
        assert [202] * 5 == [answer.status_code for answer in answers]
        assert [
            {"status": "accepted"},
            {"status": "accepted"},
            {"status": "accepted", "ignored": ["titel", "Props"]},
            {"status": "accepted", "ignored": []},
        ] == [answer.json() for answer in answers[:-1]]
        assert (3, ["titel", "Props", "x"]) == (answers[-1].json()["accepted"], answers[-1].json()["ignored"])

    collector.run(main)

    assert 7 == len(collector.events)


def test_a_strict_client_is_refused_for_an_unknown_field(collector: Collector) -> None:
    """Each is named, with the known one that is nearest, beside what else is wrong; of many events each for itself."""
    wrong = {"site_id": "shop", "event_typ": "page_view", "referer": "x", "titel": 1, "path": 5}

    async def main(client: httpx.AsyncClient) -> None:
        accepted = await client.post("/event?strict=1&explain=1", json=VIEW)
        one = await client.post("/event?strict=1", json=wrong)
        many = await client.post("/events?strict=1", json=[{**VIEW, "titel": 1}, VIEW])

        assert {"status": "accepted", "ignored": []} == accepted.json()
        assert 422 == one.status_code
        assert ("is required", "is not known; did you mean referrer?") == (
            fields(one)["event_type"],
            fields(one)["referer"],
        )
        assert "is not known; did you mean event_type?" == fields(one)["event_typ"]
        assert fields(one)["titel"].startswith("is not known; known are site_id, event_type, path, ")
        assert {"event_type", "path", "event_typ", "referer", "titel"} == set(fields(one))
        [refused] = many.json()["refused"]
        assert (1, 0, "titel") == (many.json()["accepted"], refused["index"], refused["errors"][0]["field"])

    collector.run(main)

    assert (2, {"invalid": 2}) == (len(collector.events), collector.refused)


@pytest.mark.parametrize("path", ["/event", "/events"])
def test_an_option_that_is_neither_on_nor_off_is_refused(collector: Collector, path: str) -> None:
    """Whoever writes `strict=yes` would else be served leniently, and not know it."""

    async def main(client: httpx.AsyncClient) -> None:
        answer = await client.post(f"{path}?strict=yes&explain=", json=VIEW)
        assert (422, ["strict", "explain"]) == (answer.status_code, list(fields(answer)))

    collector.run(main)

    assert [] == collector.events


def test_thousands_of_unknown_fields_cost_what_they_weigh(collector: Collector) -> None:
    """The answer names all of them, and is not many times as long as the request."""
    body = json.dumps({**VIEW, **{f"f{number}": 0 for number in range(5_000)}})

    async def main(client: httpx.AsyncClient) -> None:
        answer = await client.post("/event?strict=1", content=body, headers={"content-type": "application/json"})
        assert (422, 5_000) == (answer.status_code, len(fields(answer)))
        assert len(answer.content) < 5 * len(body)

    collector.run(main)


def test_a_name_that_is_no_text_is_answered(collector: Collector) -> None:
    """It is ignored as long as nobody asks for it."""
    body = b'{"site_id": "shop", "event_type": "page_view", "\xff": 1}'

    async def main(client: httpx.AsyncClient) -> None:
        for query, status in (("", 202), ("?explain=1", 400), ("?strict=1", 400)):
            answer = await client.post(f"/event{query}", content=body, headers={"content-type": "text/plain"})
            assert status == answer.status_code

    collector.run(main)

    assert (1, {"not_json": 2}) == (len(collector.events), collector.refused)
