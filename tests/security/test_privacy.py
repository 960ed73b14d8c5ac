"""What of a visitor is kept, where and for how long; and whose word on another day is taken."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from harness import Footfall, eventually

TOKEN = "a-token-of-more-than-16-characters"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Footfall]:
    """A Footfall that believes this machine whose hit it is; each test takes a `site_id` of its own."""
    instance = Footfall(tmp_path_factory.mktemp("plain"), FOOTFALL__COLLECTOR__TRUSTED_PROXIES="127.0.0.1")
    yield instance.start()
    instance.kill()


def track(footfall: Footfall, site_id: str, **headers: str) -> None:
    """A hit: whatever it is, the image is served."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    response = httpx.get(f"{footfall.url}/track?site_id={site_id}&path=/", headers=headers)
    assert (200, "image/gif") == (response.status_code, response.headers["content-type"])


def post(footfall: Footfall, *, headers: dict[str, str] | None = None, **event: object) -> httpx.Response:
    return httpx.post(
        footfall.url + "/event", json={"site_id": "a", "event_type": "page_view"} | event, headers=headers or {}
    )


# Signals.


def test_who_asks_not_to_be_counted_is_not_where_that_is_honoured(footfall: Footfall) -> None:
    """The image is served, an event is told why it was not recorded, and the ledger counts each request."""
    footfall.set(FOOTFALL__COLLECTOR__HONOUR_PRIVACY_SIGNALS="true").start()

    for signal in ({"Sec-GPC": "1"}, {"DNT": "1"}, {"DNT": "1", "Sec-GPC": "0"}, {"dnt": "1;x"}):
        track(footfall, "a", **signal)
        one = post(footfall, headers=signal)
        many = httpx.post(footfall.url + "/events", json=[{"site_id": "a"}], headers=signal)
        assert [(403, "application/problem+json")] * 2 == [
            (answer.status_code, answer.headers["content-type"]) for answer in (one, many)
        ]
        assert "Global Privacy Control" in one.json()["detail"]
    assert httpx.codes.ACCEPTED == post(footfall, headers={"DNT": "0", "Sec-GPC": "0"}).status_code

    eventually((1, {"privacy_signal": 12}), lambda: (footfall.ledger()["received"], footfall.ledger()["refused"]))


def test_signals_are_not_looked_at_unless_that_was_asked_for(plain: Footfall) -> None:
    """By default everybody is counted alike."""
    track(plain, "signals", DNT="1", Sec_GPC="1")
    assert httpx.codes.ACCEPTED == post(plain, site_id="signals", headers={"Sec-GPC": "1"}).status_code

    plain.settle()
    assert 2 == plain.stats("signals")["total_views"]


def test_an_old_timestamp_needs_the_token_where_an_age_is_set(footfall: Footfall) -> None:
    """A stranger can't write into reports of long ago; who holds the token can, one by one or many at once."""
    footfall.set(FOOTFALL__COLLECTOR__MAX_AGE_HOURS="24", FOOTFALL__REPORTING__TOKEN=TOKEN).start()
    new: dict[str, Any] = {"site_id": "a", "event_type": "page_view"}
    old = new | {"timestamp": "0001-01-01T00:00:00Z"}
    bearer = {"Authorization": f"Bearer {TOKEN}"}

    answers = [post(footfall, **old), post(footfall, headers={"Authorization": "Bearer guess"}, **old)]
    many = httpx.post(footfall.url + "/events", json=[old, new]).json()
    taken = [post(footfall, headers=bearer, **old), post(footfall, **new)]
    taken.append(httpx.post(footfall.url + "/events", json=[old, new], headers=bearer))

    assert [422, 422] == [answer.status_code for answer in answers]
    [error] = answers[0].json()["errors"]
    assert ("timestamp", True) == (error["field"], "Authorization: Bearer" in error["detail"])
    assert (1, [0]) == (many["accepted"], [refused["index"] for refused in many["refused"]])
    assert [202, 202, 202] == [answer.status_code for answer in taken]
    ledger = httpx.get(footfall.url + "/ledger", headers=bearer).json()
    assert (5, {"too_old": 3}) == (ledger["received"], ledger["refused"])
