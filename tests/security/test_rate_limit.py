"""Limits of what one address may send, where a rate is set."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from harness import Footfall, eventually

PER_MINUTE = 20
VIEW = {"site_id": "limited", "event_type": "page_view"}


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Footfall]:
    """A Footfall with a rate, and a proxy that it trusts."""
    settings = {"RATE_LIMIT_PER_MINUTE": str(PER_MINUTE), "TRUSTED_PROXIES": "127.0.0.3"}
    instance = Footfall(tmp_path, **{f"FOOTFALL__COLLECTOR__{name}": value for name, value in settings.items()})
    yield instance.start()
    instance.kill()


def client(footfall: Footfall, address: str, **headers: str) -> httpx.Client:
    transport = httpx.HTTPTransport(local_address=address)
    return httpx.Client(base_url=footfall.url, transport=transport, headers=headers, timeout=30)


def sent_until_refused(sender: httpx.Client, **headers: str) -> int:
    """How many events are taken before one is not; a token more comes every 3 s meanwhile."""
    taken = 0
    while (answer := sender.post("/event", json=VIEW, headers=headers)).status_code == 202:
        taken += 1
    assert (429, "application/problem+json") == (answer.status_code, answer.headers["content-type"])
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    return taken


def test_an_address_that_sends_more_than_its_rate_is_refused(limited: Footfall) -> None:
    """Images are served all the same, events get 429; what is not recorded is counted; others are not concerned."""
    with client(limited, "127.0.0.1") as eager, client(limited, "127.0.0.2") as other:
        for _ in range(PER_MINUTE // 2):
            assert 200 == eager.get("/track?site_id=limited").status_code
        events = sent_until_refused(eager)
        assert events >= PER_MINUTE // 2
        images = [eager.get("/track?site_id=limited") for _ in range(PER_MINUTE)]
        assert {(200, "image/gif")} == {(image.status_code, image.headers["content-type"]) for image in images}
        assert 202 == other.post("/event", json=VIEW).status_code
    limited.settle()
    asked = PER_MINUTE // 2 + events + 1 + PER_MINUTE + 1
    eventually(asked, lambda: limited.ledger()["received"] + limited.ledger()["refused"].get("rate_limited", 0))
    ledger = limited.ledger()
    assert {"rate_limited"} == ledger["refused"].keys()
    assert ledger["received"] == limited.stats("limited")["total_views"]
    assert ledger["refused"]["rate_limited"] > 1


def test_many_events_count_as_many(limited: Footfall) -> None:
    """What is taken together uses up the rate together, and a large body is not refused for ever."""
    with client(limited, "127.0.0.1") as sender:
        assert 1_000 == sender.post("/events", json=[VIEW] * 1_000).json()["accepted"]
        assert 429 == sender.post("/event", json=VIEW).status_code
        assert 429 == sender.post("/events", json=[VIEW] * 3).status_code
    eventually({"rate_limited": 4}, lambda: limited.ledger()["refused"])


def test_visitors_behind_a_trusted_proxy_are_limited_each(limited: Footfall) -> None:
    """By the address that it tells."""
    with client(limited, "127.0.0.3") as proxy:
        for visitor in ("203.0.113.1", "203.0.113.2"):
            assert sent_until_refused(proxy, **{"X-Forwarded-For": visitor}) >= PER_MINUTE


def test_a_proxy_that_is_not_trusted_is_not_limited(limited: Footfall) -> None:
    """It would be limited for all its visitors together."""
    with client(limited, "127.0.0.1", **{"X-Forwarded-For": "203.0.113.1"}) as proxy:
        statuses = {proxy.post("/event", json=VIEW).status_code for _ in range(10 * PER_MINUTE)}
        assert {202} == statuses


def test_there_is_no_limit_by_default(served: Footfall) -> None:
    """Nobody knows how many share an address."""
    with client(served, "127.0.0.1") as sender:
        assert {202} == {sender.post("/event", json=VIEW).status_code for _ in range(300)}
