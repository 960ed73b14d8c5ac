"""A year of events, made straight into a real database: what the reports are measured on.

The queue and the sink would take a quarter of an hour for 100 million events. Here NumPy makes a day at a time, as
visits, and DuckDB takes them as Arrow tables into `events`, by the columns of the schema. So memory holds a day, not
the year. `bench.reports` also builds a smaller database through the queue and the sink, to know what that costs.

What is in it, all by a seed:

- Sites and, within a site, pages are chosen as Zipf's law has it: the first of 50 sites has 22 % of all events.
- A visit has 1 to 30 events, 3.3 on average, of which one in eight is a `click` and the rest are views. Its source,
  campaign, browser and so on belong to the visit; its visitor has one device.
- Half of the visitors have a user id and keep their number; the others get a new one each UTC day, as salts do it. Each
  site has an audience of its own, up to three quarters of all visitors; people come back.
- Rows are in the order of time, as they arrive, except for 1 %, which come hours to two days late.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from msgspec import Struct
from numpy.typing import NDArray

from footfall.database.duckdb.file import open_database
from footfall.database.schema import NAMES

START: Final = datetime(2025, 1, 1)  # noqa: DTZ001 - the database holds UTC without saying so
DAYS: Final = 365
SITES: Final = tuple(f"site-{number:02}.example" for number in range(50))
"""From the largest to the smallest."""

_DAY_US: Final = 86_400_000_000
_START_US: Final = 1_735_689_600_000_000
_EVENTS_PER_VISIT: Final = 3.3
_MAX_VISIT: Final = 30
_GAP_S: Final = 70.0
_LATE: Final = 0.01
_VISITORS: Final = 1_000_000
_PAGES: Final = 20_000

_Array = NDArray[Any]

_LABELS: Final[dict[str, Sequence[str | None]]] = {
    "source": [None, "Google", "Bing", "X", "Reddit", "Hacker News", "ChatGPT", "Facebook"]
    + [f"news-{number}.example" for number in range(400)],
    "utm_campaign": [None, None, None, None, "spring", "launch", "newsletter-7"]
    + [f"campaign-{number}" for number in range(60)],
    "utm_source": [None, None, None, None, "newsletter", "google", "bing"] + [f"partner-{n}" for n in range(60)],
    "utm_medium": [None, None, None, None, "email", "cpc", "cpc"]
    + [("cpc", "social", "email")[n % 3] for n in range(60)],
    "browser": ["Chrome", "Mobile Safari", "Safari", "Chrome Mobile", "Firefox", "Edge", "Samsung Internet", "Opera"],
    "os": ["Windows", "iOS", "Mac OS X", "Android", "Linux", "Chrome OS"],
    "device": ["desktop", "mobile", "desktop", "mobile", "desktop", "tablet"],
    "country": ["US", "DE", "GB", "FR", "IN", "BR", "JP", "CA", "ES", "IT", "NL", "PL", "SE", "AU", "MX", "KR"]
    + [f"{a}{b}" for a in "ABCEGHKLMN" for b in "ACDGMRTZ"],
    "region": [None, *(f"Region {number}" for number in range(300))],
    "browser_version": [str(version) for version in range(142, 112, -1)],
    "os_version": [None, "10", "18", "17", "15", "14"],
    "language": ["en", "de", "fr", "es", "pt", "ja", "it", "nl", "pl", "sv"],
    "screen": ["desktop", "mobile", "desktop", "mobile", "laptop", "tablet"],
}
_LABELS["user_agent"] = [
    f"Mozilla/5.0 (Some System 10; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) {browser}/{version}.0.0.0"
    for browser in _LABELS["browser"]
    for version in _LABELS["browser_version"]
]


class Scale(Struct, frozen=True):
    """How much is made.

    Attributes:
        events: about so many.
        seed: another one makes another year.
        days: from `START` on.
    """

    events: int
    seed: int = 1
    days: int = DAYS


def build(path: Path, scale: Scale) -> int:
    """Make the database; return how many events it has. Nothing that is derived from events is made."""
    rows = 0
    with closing(open_database(path)) as database:
        for table in tables(scale):
            database.begin()
            insert(database, table)
            database.commit()
            rows += table.num_rows
            database.execute("CHECKPOINT")
    return rows


def insert(database: duckdb.DuckDBPyConnection, table: pa.Table) -> None:
    """Add rows of `tables` to `events`."""
    names = [name for name in NAMES if name in table.column_names]
    columns = [f'"{name}"' for name in names]
    database.register("made", table)
    database.execute(
        f"INSERT INTO events ({', '.join(columns)}, visitor) "
        f"SELECT {', '.join(columns)}, high::HUGEINT * 18446744073709551616 + low FROM made"
    )
    database.unregister("made")


def tables(scale: Scale) -> Iterator[pa.Table]:
    """The rows, in the order of their arrival; the two halves of `visitor` are the columns `high` and `low`."""
    draw = np.random.default_rng(scale.seed)
    shares = _zipf(len(SITES), 1.0)
    audiences = np.maximum(2_000, (_VISITORS * np.minimum(0.75, shares * 3.4))).astype(np.int64)
    pages = np.cumsum(_zipf(_PAGES, 1.1))
    cumulated = {name: np.cumsum(_zipf(len(values), 1.0)) for name, values in _LABELS.items()}
    left: list[dict[str, _Array]] = []
    for day in range(scale.days + 2):
        made = _day(draw, day, scale, shares, audiences, pages, cumulated) if day < scale.days else None
        came = _arrivals(draw, day, made, left)
        if len(came["time"]):
            yield _table(came)


def _day(
    draw: np.random.Generator,
    day: int,
    scale: Scale,
    shares: _Array,
    audiences: _Array,
    pages: _Array,
    cumulated: dict[str, _Array],
) -> dict[str, _Array]:
    """A day's events, unordered: each is of a visit."""
    visits = int(draw.poisson(scale.events / scale.days / _EVENTS_PER_VISIT))
    site = np.searchsorted(np.cumsum(shares), draw.random(visits)).clip(0, len(SITES) - 1)
    # Some people come far more often than others.
    person = (draw.random(visits) ** 1.7 * audiences[site]).astype(np.int64)
    length = np.minimum(draw.geometric(1 / _EVENTS_PER_VISIT, visits), _MAX_VISIT)
    start = draw.random(visits) * _DAY_US
    owned = {  # of a person, so always the same
        name: np.searchsorted(cumulated[name], _unit(person, place)) % len(_LABELS[name])
        for place, name in enumerate(("browser", "os", "country", "language", "region", "browser_version"))
    }
    owned["device"] = owned["screen"] = owned["os_version"] = owned["os"]
    owned["user_agent"] = owned["browser"] * len(_LABELS["browser_version"]) + owned["browser_version"]
    drawn = {
        name: np.searchsorted(cumulated[name], draw.random(visits)) % len(_LABELS[name])
        for name in ("source", "utm_campaign")
    }
    drawn["utm_source"] = drawn["utm_medium"] = drawn["utm_campaign"]

    of_visit = np.repeat(np.arange(visits), length)
    first = np.cumsum(length) - length
    gaps = draw.exponential(_GAP_S * 1e6, len(of_visit))
    gaps[first] = 0
    passed = np.cumsum(gaps)
    time = (start[of_visit] + passed - passed[first][of_visit]).astype(np.int64)
    time = np.minimum(time, _DAY_US - 1) // 1_000_000 * 1_000_000
    is_view = draw.random(len(of_visit)) > 0.125
    is_view[first] = True
    known = person % 2 == 0
    number = (site * 10_000_000 + person).astype(np.uint64)
    # Without a user id, the day's salt makes another number of the same visitor.
    number = np.where(known, number, number + np.uint64(1_000_000_000_000) * np.uint64(day + 1))
    events = {
        "time": _START_US + day * _DAY_US + time,
        "site_id": site[of_visit],
        "event_type": is_view.astype(np.int8),
        "path": np.searchsorted(pages, draw.random(len(of_visit))).clip(0, _PAGES - 1),
        "high": _mixed(number, 1)[of_visit].view(np.int64),
        "low": _mixed(number, 2)[of_visit],
        "user_id": np.where(known, person, -1)[of_visit],
    }
    return events | {name: values[of_visit] for name, values in (owned | drawn).items()}


def _arrivals(
    draw: np.random.Generator, day: int, made: dict[str, _Array] | None, left: list[dict[str, _Array]]
) -> dict[str, _Array]:
    """What arrives on a day: its own events but for those that are late, and late ones of the days before."""
    if made is not None:
        rows = len(made["time"])
        delay = np.where(draw.random(rows) < _LATE, draw.random(rows) * 2 * _DAY_US, 0).astype(np.int64)
        left.append(made | {"arrival": made["time"] + delay})
    end = _START_US + (day + 1) * _DAY_US
    due = [{name: values[part["arrival"] < end] for name, values in part.items()} for part in left]
    left[:] = [{name: values[part["arrival"] >= end] for name, values in part.items()} for part in left]
    left[:] = [part for part in left if len(part["time"])]
    joined = {name: np.concatenate([part[name] for part in due]) for name in due[0]} if due else {"time": np.empty(0)}
    if "arrival" in joined:
        order = np.argsort(joined.pop("arrival"), kind="stable")
        joined = {name: values[order] for name, values in joined.items()}
    return joined


def _table(came: dict[str, _Array]) -> pa.Table:
    columns: dict[str, pa.Array] = {
        "time": pa.array(came["time"], pa.timestamp("us")),
        "site_id": _texts(came["site_id"], SITES),
        "event_type": _texts(came["event_type"], ("click", "page_view")),
        "path": _texts(came["path"], _PATHS),
        "high": pa.array(came["high"]),
        "low": pa.array(came["low"]),
        "user_id": pa.array(np.char.add("user-", came["user_id"].astype(np.str_)), mask=came["user_id"] < 0),
    }
    for name, values in _LABELS.items():
        if name in came:
            columns[name] = _texts(came[name], values)
    columns["hostname"] = columns["site_id"]
    return pa.table(columns)


_PATHS: Final = tuple(
    f"/{('blog', 'docs', 'product', 'help')[number % 4]}/{'a-page-with-a-usual-name'[: 5 + number % 18]}-{number}"
    for number in range(_PAGES)
)


def _texts(places: _Array, texts: Sequence[str | None]) -> pa.DictionaryArray:
    code_of, present = _dictionary(tuple(texts))
    codes = code_of[places]
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), present)


@cache
def _dictionary(texts: tuple[str | None, ...]) -> tuple[_Array, pa.Array]:
    """The code of each text, -1 for None, and the texts by their codes."""
    code_of = {text: code for code, text in enumerate(dict.fromkeys(text for text in texts if text is not None))}
    codes = np.array([-1 if text is None else code_of[text] for text in texts], np.int32)
    return codes, pa.array(list(code_of), pa.string())


def _zipf(count: int, exponent: float) -> _Array:
    weights: _Array = 1.0 / np.arange(1, count + 1) ** exponent
    weights /= weights.sum()
    return weights


def _mixed(numbers: _Array, salt: int) -> _Array:
    """A hash of numbers: the finalizer of SplitMix64 (https://prng.di.unimi.it/splitmix64.c)."""
    with np.errstate(over="ignore"):
        mixed: _Array = numbers + np.uint64(salt) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed


def _unit(numbers: _Array, salt: int) -> _Array:
    """Numbers from 0 to 1 that always are the same for the same ones."""
    mixed: _Array = (_mixed(numbers.astype(np.uint64), salt + 10) >> np.uint64(11)) / 2.0**53
    return mixed
