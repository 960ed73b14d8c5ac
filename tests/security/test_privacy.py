"""What of a visitor is kept, where and for how long; and whose word on another day is taken."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import duckdb
import httpx
import pytest

from harness import Footfall, eventually

TOKEN = "a-token-of-more-than-16-characters"
RESET = "https://shop.example/reset?token=s3cret&mail=a%40b.example#top"


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


def stored(footfall: Footfall, query: str) -> list[tuple[Any, ...]]:
    """An answer of the database; no process has it open."""
    with closing(duckdb.connect(footfall.data_dir / "footfall.duckdb", read_only=True)) as database:
        return database.execute(query).fetchall()


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


# Queries of referrers.


def test_what_a_referrer_asked_for_is_not_in_the_database(footfall: Footfall) -> None:
    """Reset tokens and mail addresses travel there. Page and source stay, and the visits log has what was sent."""
    footfall.start()
    track(footfall, "a", Referer=RESET)
    post(footfall, referrer=RESET)
    post(footfall, referrer="https://www.google.com/search?q=footfall")
    footfall.settle()
    assert 0 == footfall.stop()

    assert [
        ("https://shop.example/reset", None),
        ("https://shop.example/reset", "shop.example"),
        ("https://www.google.com/search", "Google"),
    ] == stored(footfall, "SELECT referrer, source FROM events ORDER BY referrer, source NULLS FIRST")
    assert [RESET] == [line.split("|")[1] for line in footfall.lines()]
    assert b"s3cret" not in (footfall.data_dir / "footfall.duckdb").read_bytes()


def test_each_output_can_be_told_to_keep_or_to_strip_them(footfall: Footfall) -> None:
    """`database.referrer_queries` and `storage.referrer_queries` stand for themselves; a rebuild strips, too."""
    footfall.set(FOOTFALL__DATABASE__REFERRER_QUERIES="keep", FOOTFALL__STORAGE__REFERRER_QUERIES="strip").start()
    track(footfall, "a", Referer=RESET)
    footfall.settle()
    assert 0 == footfall.stop()

    assert [(RESET,)] == stored(footfall, "SELECT referrer FROM events")
    assert ["https://shop.example/reset"] == [line.split("|")[1] for line in footfall.lines()]

    footfall.unset("FOOTFALL__DATABASE__REFERRER_QUERIES")
    assert 0 == footfall.command("rebuild").returncode
    assert [("https://shop.example/reset",)] == stored(footfall, "SELECT referrer FROM events")


# Addresses.

VISITORS = ["203.0.113.77", "2001:db8:1:2::3"]


def test_the_visits_log_can_do_without_whole_addresses(footfall: Footfall) -> None:
    """A line keeps its four fields, and a rebuild finds it, whatever the setting was when it was written."""
    footfall.set(FOOTFALL__COLLECTOR__TRUSTED_PROXIES="127.0.0.1", FOOTFALL__STORAGE__REFERRER_QUERIES="strip")
    for addresses in ("whole", "truncated", "none"):
        footfall.set(FOOTFALL__STORAGE__ADDRESSES=addresses).start()
        for address in VISITORS:
            track(footfall, "a", X_Forwarded_For=address, Referer=RESET)
        footfall.settle()
        figures = footfall.stats("a"), footfall.ledger()
        assert 0 == footfall.stop()

    written = [*VISITORS, "203.0.113.0", "2001:db8:1::", "null", "null"]
    assert written == [line.split("|")[3] for line in footfall.lines()]
    assert [6, 2] == [figures[0]["total_views"], figures[0]["unique_users"]]
    footfall.set(FOOTFALL__STORAGE__ADDRESSES="whole", FOOTFALL__STORAGE__REFERRER_QUERIES="keep")
    assert 0 == footfall.command("rebuild").returncode
    footfall.start()
    assert figures == (footfall.stats("a"), footfall.ledger())


def test_a_log_without_addresses_can_be_rebuilt_from(footfall: Footfall) -> None:
    """Its hits count; visitors are told apart by their user agents."""
    footfall.visits_log.write_text(
        "2025-11-12T10:00:00.0000000Z|https://blog.example/1|one|null\n"
        "2025-11-12T10:00:01.0000000Z|https://blog.example/2|two|null\n"
        "2025-11-12T10:00:02.0000000Z|https://blog.example/2|two|203.0.113.0\n"
    )

    rebuilt = footfall.command("rebuild")

    assert (0, [(3, 3)]) == (
        rebuilt.returncode,
        stored(footfall, "SELECT count(*), count(DISTINCT visitor) FROM events WHERE site_id = 'blog.example'"),
    ), rebuilt


def test_the_queue_forgets_what_both_outputs_have(footfall: Footfall) -> None:
    """Its batches hold addresses, and stay for a rebuild no longer than `queue.margin_hours`."""
    footfall.set(FOOTFALL__QUEUE__MARGIN_HOURS="0").start()
    track(footfall, "a")
    footfall.settle()
    assert 0 == footfall.stop()
    footfall.start()  # the last checkpoint of the database was made at the end

    def batches() -> int:
        with closing(sqlite3.connect(footfall.data_dir / "queue.sqlite")) as queue:
            count: int = queue.execute("SELECT count(*) FROM batches").fetchone()[0]
            return count

    eventually(0, batches)
    assert 1 == footfall.stats("a")["total_views"]


# Events that come again, and of another day.


def test_an_event_id_that_comes_from_elsewhere_is_told_apart(plain: Footfall) -> None:
    """A client that tries again is a duplicate; an id that somebody guessed is a conflict. Each counts once."""
    for address in ("203.0.113.1", "203.0.113.1", "198.51.100.9", "203.0.113.1"):
        post(plain, site_id="ids", event_id="1", user_id="u", headers={"X-Forwarded-For": address})
    plain.settle()
    for address in ("203.0.113.1", "198.51.100.9"):
        post(plain, site_id="ids", event_id="1", user_id="u", headers={"X-Forwarded-For": address})
    plain.settle()

    assert 1 == plain.stats("ids")["total_views"]
    assert {"duplicate": 3, "conflict": 2} == plain.ledger()["sinks"]["database"]["skipped"]


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


def test_days_that_a_stranger_names_make_no_salts(footfall: Footfall) -> None:
    """A secret is kept for the days around today, and one more for all others."""
    footfall.start()
    events = [
        {"site_id": "a", "event_type": "page_view", "timestamp": f"{year:04}-01-01T00:00:00Z"}
        for year in range(1, 1001)
    ]
    assert 1_000 == httpx.post(footfall.url + "/events", json=events).json()["accepted"]
    post(footfall)
    footfall.settle()
    assert 0 == footfall.stop()

    assert [(1_001,)] == stored(footfall, "SELECT count(DISTINCT visitor) FROM events")
    assert [(2,)] == stored(footfall, "SELECT count(*) FROM salts")
