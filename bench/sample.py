"""Hits and events as sites have them: many visitors, fewer browsers and pages, a long tail of each."""

import random
import time
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import accumulate, count, islice
from typing import Final, TypeVar

from footfall.event import Entry, Event, Hit, encode_entries
from footfall.queue.base import Batch

_T = TypeVar("_T")

BATCH_ENTRIES: Final = 500
_BATCHES: Final = 120
"""Different ones; they come again with new positions."""

_AGENTS: Final = [
    template.format(version)
    for version in range(139, 99, -1)
    for template in (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 Safari/537.36",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "CriOS/{}.0.6478.54 Mobile/15E148 Safari/604.1",
        "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 Mobile Safari/537.36",
        "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:{0}.0) Gecko/20100101 Firefox/{0}.0",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{0}.0.0.0 "
        "Safari/537.36 Edg/{0}.0.0.0",
    )
]
_SITES: Final = ["shop.example", "blog.example", "docs.example", "news.example", "app.example"]
_PATHS: Final = ["/", "/pricing", *(f"/articles/{number}-what-we-learned" for number in range(400))]
_REFERRERS: Final = [None, "https://www.google.com/", "https://news.ycombinator.com/item?id=42", "https://t.co/Qx7"]


def hits(number: int) -> Iterator[Entry]:
    """Hits alone."""
    return islice(_hits(random.Random(1)), number)


def hits_and_events(number: int) -> Iterator[Entry]:
    """One of each in turn."""
    rng = random.Random(2)
    pairs = zip(_hits(rng), _events(rng), strict=True)
    return islice((entry for pair in pairs for entry in pair), number)


@cache
def payloads(*, with_events: bool) -> list[bytes]:
    """Encoded batches."""
    entries = (hits_and_events if with_events else hits)(BATCH_ENTRIES * _BATCHES)
    return [encode_entries(list(islice(entries, BATCH_ENTRIES))) for _ in range(_BATCHES)]


def batches(number: int, *, with_events: bool) -> list[Batch]:
    """Batches as a sink gets them from the queue."""
    made = payloads(with_events=with_events)
    now = time.time_ns()
    return [Batch("bench", at + 1, now, BATCH_ENTRIES, made[at % _BATCHES]) for at in range(number)]


def _hits(rng: random.Random) -> Iterator[Hit]:
    for number in count():
        page = f"https://{_pick(rng, _SITES)}{_pick(rng, _PATHS)}"
        if rng.random() < 0.1:
            page += f"?utm_source=mail&utm_id={rng.randrange(10**9)}"
        site_id = page.split("/")[2] if rng.random() < 0.5 else None
        yield Hit(_time(number), _address(rng), page.encode(), _pick(rng, _AGENTS).encode(), site_id)


def _events(rng: random.Random) -> Iterator[Event]:
    for number in count():
        is_view = rng.random() < 0.7
        yield Event(
            _time(number),
            _address(rng),
            _pick(rng, _AGENTS).encode(),
            _pick(rng, _SITES),
            "page_view" if is_view else "purchase",
            _pick(rng, _PATHS),
            f"user-{rng.randrange(5_000)}" if rng.random() < 0.3 else None,
            referrer=_pick(rng, _REFERRERS),
            props=None if is_view else {"plan": "team", "seats": rng.randrange(50), "amount": rng.random() * 900},
        )


def _pick(rng: random.Random, values: Sequence[_T]) -> _T:
    """The first most often, by Zipf's law."""
    return rng.choices(values, cum_weights=_weights(len(values)))[0]


@cache
def _weights(number: int) -> list[float]:
    return list(accumulate(1 / rank for rank in range(1, number + 1)))


def _time(number: int) -> int:
    return time.time_ns() + number * 10_000


def _address(rng: random.Random) -> str:
    number = rng.randrange(30_000)
    return f"203.{number // 256}.{number % 256}.7"
