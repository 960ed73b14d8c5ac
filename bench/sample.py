"""Hits and events as sites have them: many visitors, fewer browsers and pages, a long tail of each."""

import random
import time
from collections.abc import Sequence
from functools import cache
from typing import Final, TypeVar

from footfall.entry import Entry, Event, Hit, encode_entries
from footfall.queue.base import Batch

_T = TypeVar("_T")

BATCH_ENTRIES: Final = 500
_BATCHES: Final = 120
"""Different ones; they come again at later positions."""

_WEBKIT: Final = "AppleWebKit/537.36 (KHTML, like Gecko)"
_AGENTS: Final = [
    template.format(version).encode()
    for version in range(139, 99, -1)
    for template in (
        f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_WEBKIT} Chrome/{{}}.0.0.0 Safari/537.36",
        f"Mozilla/5.0 (Linux; Android 10; K) {_WEBKIT} Chrome/{{}}.0.0.0 Mobile Safari/537.36",
        f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) {_WEBKIT} CriOS/{{}}.0 Mobile/15E148 Safari/604.1",
        f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_WEBKIT} Chrome/{{0}}.0.0.0 Safari/537.36 Edg/{{0}}.0.0.0",
        "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:{0}.0) Gecko/20100101 Firefox/{0}.0",
    )
]
_SITES: Final = ["shop.example", "blog.example", "docs.example", "news.example", "app.example"]
_PATHS: Final = ["/", "/pricing", *(f"/articles/{number}-what-we-learned" for number in range(400))]
_REFERRERS: Final = [None, "https://www.google.com/", "https://news.ycombinator.com/item?id=42", "https://t.co/Qx7"]


def entries(number: int, *, hits_only: bool = False) -> list[Entry]:
    """Hits, and between them, unless it is `hits_only`, as many events."""
    rng = random.Random(1)
    return [_hit(rng) if hits_only or at % 2 else _event(rng) for at in range(number)]


def batches(number: int, *, hits_only: bool) -> list[Batch]:
    """Batches as a sink gets them from the queue."""
    made = _payloads(hits_only=hits_only)
    return [Batch("bench", at + 1, time.time_ns(), BATCH_ENTRIES, made[at % _BATCHES]) for at in range(number)]


@cache
def _payloads(*, hits_only: bool) -> list[bytes]:
    made = entries(_BATCHES * BATCH_ENTRIES, hits_only=hits_only)
    return [encode_entries(made[start : start + BATCH_ENTRIES]) for start in range(0, len(made), BATCH_ENTRIES)]


def _hit(rng: random.Random) -> Hit:
    site_id = _pick(rng, _SITES)
    page = f"https://{site_id}{_pick(rng, _PATHS)}"
    if rng.random() < 0.1:
        page += f"?utm_source=mail&utm_id={rng.randrange(10**9)}"
    return Hit(time.time_ns(), _address(rng), page.encode(), _pick(rng, _AGENTS), rng.choice([site_id, None]))


def _event(rng: random.Random) -> Event:
    is_view = rng.random() < 0.7
    return Event(
        time.time_ns(),
        _address(rng),
        _pick(rng, _AGENTS),
        _pick(rng, _SITES),
        "page_view" if is_view else "purchase",
        _pick(rng, _PATHS),
        f"user-{rng.randrange(5_000)}" if rng.random() < 0.3 else None,
        referrer=_pick(rng, _REFERRERS),
        props=None if is_view else {"plan": "team", "seats": rng.randrange(50), "amount": rng.random() * 900},
    )


def _pick(rng: random.Random, values: Sequence[_T]) -> _T:
    """The first most often, about as Zipf's law has it."""
    return values[int((len(values) + 1) ** rng.random()) - 1]


def _address(rng: random.Random) -> str:
    return f"203.0.{rng.randrange(120)}.{rng.randrange(256)}"
