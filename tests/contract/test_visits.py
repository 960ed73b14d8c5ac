"""Visits and all that is counted of them: the same from both databases as by hand, in whatever order events arrive."""

import gzip
import os
import random
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count, product
from pathlib import Path
from time import time_ns
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from figures import EPOCH, KINDS, MIDNIGHT, Row, figures_of
from figures import Figures as Database
from footfall.database.buckets import Interval, buckets
from footfall.database.dimensions import DIMENSIONS, GOAL, PROP, TIME
from footfall.database.filter import All, AnyOf, Filter, Goal, HasDone, Not, Operator, Where
from footfall.database.metrics import METRICS
from footfall.database.query import Order, Query
from footfall.entry import Event, encode_entries
from footfall.queue.base import Batch
from visit_oracle import answered

LOG = Path(__file__).parents[1] / "data" / "access.log.gz"
NUMBERS = count()
STRIDE = int(os.environ.get("VISIT_STRIDE", "13"))
"""Every thirteenth query is asked, which has each dimension and each filter; with 1 it is all of them."""
PAGES = ["/", "/a", "/A/b", "/é"]
MINUTE = timedelta(minutes=1)
IS, CONTAINS, MATCHES = Operator
GOALS = (
    Goal("Sign up", Where("event:name", IS, ("signup",))),
    Goal("Read", Where("event:page", MATCHES, ("^/a", "é$"), is_case_sensitive=False)),
)
FILTERS: list[Filter] = [
    All(),
    Where("event:page", IS, ("/a", "/é")),
    Where("event:page", CONTAINS, ("A/",), is_case_sensitive=False),
    Where("event:page", IS, ("/É",), is_case_sensitive=False),
    Where("visit:source", IS, ("Google", "")),
    Where("visit:entry_page", MATCHES, ("^/.$",)),
    Where("visit:exit_page", IS, ("/",)),
    Where("visit:bot", IS, ("Crawler",)),
    Where("visit:channel", IS, ("Organic Search",)),
    Where(f"{PROP}plan", IS, ("team",)),
    Not(Where("event:name", IS, ("page_view",))),
    AnyOf((Where("visit:country", IS, ("DE",)), Where("event:name", IS, ("signup",)))),
    HasDone(Where("event:name", IS, ("signup",))),
    All((Where(GOAL, IS, ("Sign up",)), Where("visit:browser", IS, ("Firefox",)))),
    All((Where("event:page", IS, ("/a",)), Not(HasDone(Where("event:page", IS, ("/",)))))),
]


def generated(seed: int, length: int, days: int = 4) -> list[Row]:
    """Events of a few visitors, many of them at the same moment or just half an hour apart, and around midnight."""
    chance = random.Random(seed)
    moments = [MIDNIGHT]
    while len(moments) < length:
        step = chance.choice([0, 0, 1, 5, 29, 30, 31, 200]) * MINUTE + chance.choice([-1, 0, 0, 1]) * timedelta(
            microseconds=1
        )
        moments.append(max(MIDNIGHT, MIDNIGHT + (moments[-1] + step - MIDNIGHT) % timedelta(days=days)))
    return [row_at(moment, chance) for moment in moments]


def row_at(moment: datetime, chance: random.Random) -> Row:
    event_type = chance.choice(["page_view", "page_view", "page_view", "signup", "scroll", "engagement"])
    is_ping = event_type == "engagement"
    return Row(
        path=chance.choice(PAGES),
        visitor=chance.randrange(4),
        time=moment,
        event_type=event_type,
        referrer=chance.choice([None, "https://google.com/", "https://news.example/1"]),
        source=chance.choice([None, "Google", "news.example"]),
        props=chance.choice([None, None, '{"plan":"team","seats":3}', '{"plan":"one"}']),
        hostname=chance.choice([None, "blog.example", "shop.example"]),
        utm_source=chance.choice([None, None, "mail"]),
        utm_medium=chance.choice([None, None, "email", "cpc"]),
        utm_campaign=chance.choice([None, None, "Spring"]),
        click_id=chance.choice([None, None, "gclid"]),
        browser=chance.choice([None, "Firefox", "Chrome"]),
        country=chance.choice([None, "DE", "FR"]),
        bot=chance.choice([None, None, None, "Crawler"]),
        scroll_depth=chance.choice([None, 0, 55, 100]) if is_ping else None,
        engaged_ms=chance.choice([None, 0, 1_500, 40_000]) if is_ping else None,
        device=chance.choice([None, "mobile", "desktop"]),
        city=chance.choice([None, "Zürich", "Ulm"]),
        is_interactive=False if event_type == "scroll" else chance.choice([None, True]),
    )


def goes(query: dict[str, Any]) -> bool:
    try:
        Query(**query)
    except ValueError:
        return False
    return True


def every_query(site_id: str) -> list[Query]:
    """Each metric by each dimension and two at once, of each filter, as far as they go together."""
    start, end = MIDNIGHT + 7 * 60 * MINUTE + 10 * MINUTE, MIDNIGHT + timedelta(days=2, hours=3)
    by_dimension: list[tuple[str, ...]] = [(), *((name,) for name in DIMENSIONS), (f"{PROP}plan",)]
    by_dimension += [(TIME, "visit:source"), ("event:page", "visit:country"), (GOAL, "visit:channel")]
    queries = []
    for dimensions, (number, condition) in product(by_dimension, enumerate(FILTERS)):
        is_cut = number % 2 == 1 or TIME in dimensions
        interval = Interval.DAY if number % 3 else Interval.HOUR
        first = MIDNIGHT if number % 4 == 0 else start
        common: dict[str, Any] = {
            "site_id": site_id,
            "dimensions": dimensions,
            "filter": condition,
            "goals": GOALS,
            "with_bots": number % 5 == 0,
            "start": first if is_cut else None,
            "end": end if is_cut else None,
            "buckets": buckets(interval, first, end) if TIME in dimensions else (),
        }
        metrics = tuple(name for name in METRICS if goes({**common, "metrics": (name,)}))
        queries.append(Query(**common, metrics=metrics))
        if number == 0:
            queries += [Query(**common, metrics=(name,)) for name in metrics]
    return queries


@pytest.fixture(params=KINDS, scope="module")
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """One database for all examples: each takes a site of its own."""
    with figures_of(request) as figures:
        yield figures


def test_every_metric_dimension_and_filter_is_as_by_hand(database: Database) -> None:
    """What goes together is worked out in plain Python, too, and equal to the last digit."""
    site_id = f"site-{next(NUMBERS)}"
    rows = [replace(row, site_id=site_id) for row in generated(1, 120)]
    database.add(*rows)
    queries = every_query(site_id)[::STRIDE]
    reports = database.reports()

    for query in queries:
        [found] = reports.answer([query])
        assert answered(rows, query) == found, query


@settings(max_examples=3, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**6), order=st.randoms(use_true_random=False), parts=st.integers(1, 4))
def test_visits_do_not_depend_on_the_order_of_arrival(
    database: Database, seed: int, order: random.Random, parts: int
) -> None:
    """The same events in another order, in other batches, late or early, make the same visits."""
    rows = generated(seed, 40)
    sites = []
    for shuffled in (rows, order.sample(rows, len(rows))):
        site_id = f"site-{next(NUMBERS)}"
        sites.append(site_id)
        for part in range(parts):
            database.add(*(replace(row, site_id=site_id) for row in shuffled[part::parts]))
    metrics = ("visitors", "visits", "pageviews", "bounce_rate", "visit_duration")
    dimensions: list[tuple[str, ...]] = [(), ("visit:entry_page_hostname", "visit:source")]

    answers = [
        database.reports().answer(
            [
                Query(site_id=site_id, metrics=metrics if not names else ("visits", "bounce_rate"), dimensions=names)
                for names in dimensions
            ]
        )
        for site_id in sites
    ]

    assert answers[0] == answers[1]
    own = [replace(row, site_id=sites[0]) for row in rows]
    assert answered(own, Query(site_id=sites[0], metrics=metrics)) == answers[0][0]


RECEIVED_NS = time_ns()
"""Ids of events that were received long ago are forgotten."""
LINE = re.compile(r'(\S+) \S+ \S+ \[([^]]+)\] "\S+ ([^ ?#"]*)')


def event_of(row: Row, number: int) -> Event:
    """What a client sends for a row, received just now, with an id by which it is known when it comes again."""
    occurred_us = (row.time - EPOCH) // timedelta(microseconds=1)
    return Event(
        received_ns=RECEIVED_NS,
        address=None,
        user_agent=b"",
        site_id=row.site_id,
        event_type=row.event_type,
        path=row.path,
        user_id=f"user {row.visitor}",
        occurred_us=occurred_us,
        props={"plan": "team"} if row.props else None,
        event_id=f"event {number}",
        scroll_depth=row.scroll_depth,
        engaged_ms=row.engaged_ms,
        interactive=row.is_interactive,
    )


def sent(row: Row, site_id: str) -> Row:
    """What is stored of a row that is sent by `event_of`."""
    names = ("path", "visitor", "time", "event_type", "scroll_depth", "engaged_ms", "is_interactive")
    props = '{"plan":"team"}' if row.props else None
    return Row(**{name: getattr(row, name) for name in names}, site_id=site_id, props=props)


@settings(max_examples=3, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**6), order=st.randoms(use_true_random=False), parts=st.integers(1, 5))
def test_late_and_repeated_batches_change_no_visit(
    database: Database, seed: int, order: random.Random, parts: int
) -> None:
    """A month that comes late and in any order, with events and batches repeated, is answered as by hand."""
    site_id, source = f"site-{next(NUMBERS)}", f"source {next(NUMBERS)}"
    rows = [sent(row, site_id) for row in generated(seed, 60, days=30)]
    events = [event_of(row, number) for number, row in enumerate(rows)]
    arriving = order.sample(events, len(events)) + order.sample(events, 10)
    batches = [
        Batch(source, number + 1, 0, len(part), encode_entries(part))
        for number, part in enumerate(arriving[first::parts] for first in range(parts))
    ]
    with closing(database.sink()) as sink:
        for batch in batches:
            sink.write([batch])
            sink.write(order.sample(batches[: batch.sequence], 1))
    queries = [
        Query(site_id=site_id, metrics=("visitors", "visits", "pageviews", "events", "bounce_rate", "visit_duration")),
        Query(site_id=site_id, metrics=("visits", "bounce_rate"), dimensions=("visit:entry_page", "visit:exit_page")),
        Query(site_id=site_id, metrics=("visitors", "scroll_depth", "time_on_page"), dimensions=("event:page",)),
    ]

    assert [answered(rows, query) for query in queries] == database.reports().answer(queries)


def test_a_real_log_is_as_by_hand(database: Database) -> None:
    """Each line of a site's access log is a page view of its address: the same visits as in plain Python."""
    site_id = f"site-{next(NUMBERS)}"
    visitors: dict[str, int] = {}
    rows = []
    with gzip.open(LOG, "rt", errors="replace") as lines:
        for found in map(LINE.match, lines):
            if found is not None:
                moment = datetime.strptime(found[2], "%d/%b/%Y:%H:%M:%S %z").astimezone(UTC).replace(tzinfo=None)
                path = found[3] if found[3].startswith("/") else "/"
                rows.append(Row(path, visitors.setdefault(found[1], len(visitors)), moment, site_id))
    events = [event_of(row, number) for number, row in enumerate(rows)]
    with closing(database.sink()) as sink:
        sink.write([Batch("log", 1, 0, len(events), encode_entries(events))])
    start, end = datetime(2015, 5, 18, 22), datetime(2015, 5, 19, 22)  # noqa: DTZ001 - a day in Berlin, as in a query
    whole = ("visitors", "visits", "bounce_rate", "visit_duration")
    queries = [
        Query(site_id=site_id, metrics=(*whole, "pageviews", "views_per_visit")),
        Query(site_id=site_id, metrics=(*whole, "pageviews"), start=start, end=end),
        Query(site_id=site_id, metrics=(*whole, "pageviews", "percentage"), dimensions=("event:page",), limit=50),
        Query(site_id=site_id, metrics=whole, dimensions=("visit:entry_page",), start=start, end=end),
        Query(site_id=site_id, metrics=whole, dimensions=("visit:exit_page",), order=(Order("bounce_rate"),)),
        Query(
            site_id=site_id,
            metrics=whole,
            dimensions=(TIME,),
            start=start,
            end=end,
            buckets=buckets(Interval.HOUR, start, end),
            filter=HasDone(Where("event:page", CONTAINS, ("/PRESENTATIONS/",), is_case_sensitive=False)),
        ),
    ]

    assert len(rows) > 9_900
    assert [answered(rows, query) for query in queries] == database.reports().answer(queries)
