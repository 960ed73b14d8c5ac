"""What a query answers, whichever database it is put to: the same as the definition of each part, in plain Python."""

import os
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from figures import KINDS, MIDNIGHT, Row, figures_of
from figures import Figures as Database
from footfall.database.buckets import Interval, buckets
from footfall.database.dimensions import EVENT_COLUMNS, NAME, PAGE, PROP, TIME
from footfall.database.filter import MAX_PATTERN, All, AnyOf, Filter, Goal, HasDone, Not, Operator, Where
from footfall.database.query import Figures, Order, Query
from footfall.entry import PAGE_VIEW

EXAMPLES = int(os.environ.get("QUERY_EXAMPLES", "40"))
"""So many of each database; a long series is for whoever changes the compilers."""
HOUR = timedelta(hours=1)
TEXTS = ["", "/", "/a", "/A", "/ab", "%", "_", "\\", "'", '"', "é", "😀", "a/b~c"]
METRICS = ["events", "pageviews", "visitors"]
DIMENSIONS = [PAGE, NAME, f"{PROP}plan", f"{PROP}a/b~c", f'{PROP}"']
NUMBERS = count()

ROWS = st.lists(
    st.builds(
        Row,
        path=st.sampled_from(TEXTS),
        visitor=st.integers(0, 3),
        time=st.builds(
            lambda hours, microseconds: MIDNIGHT + timedelta(hours=hours, microseconds=microseconds),
            st.integers(-30, 30),
            st.sampled_from([0, 1, 3_599_999_999]),
        ),
        site_id=st.sampled_from(["site", "site", "site", "other"]),
        event_type=st.sampled_from([PAGE_VIEW, "click"]),
        referrer=st.none() | st.sampled_from(TEXTS[1:]),
        source=st.none() | st.sampled_from(["Google", "news.example"]),
        props=st.none()
        | st.dictionaries(
            st.sampled_from(["plan", "a/b~c", '"']),
            st.sampled_from([*TEXTS, None, True, False, 0, 7, -1.5]),
            min_size=1,
        ).map(lambda props: msgspec.json.encode(props).decode()),
    ),
    max_size=15,
)
LEAVES = st.builds(
    Where,
    dimension=st.sampled_from(DIMENSIONS),
    operator=st.sampled_from([Operator.IS, Operator.CONTAINS]),
    values=st.lists(st.sampled_from([*TEXTS, PAGE_VIEW, "Google", "true", "7", "-1.5"]), min_size=1, max_size=2).map(
        tuple
    ),
)
FILTERS: st.SearchStrategy[Filter] = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(All, st.lists(inner, max_size=2).map(tuple))
        | st.builds(AnyOf, st.lists(inner, max_size=2).map(tuple))
        | st.builds(Not, inner)
    ),
    max_leaves=4,
)


@st.composite
def queries(draw: st.DrawFn) -> Query:
    """Any query of the site `site`."""
    dimensions = tuple(draw(st.lists(st.sampled_from([*DIMENSIONS, TIME]), max_size=3, unique=True)))
    metrics = tuple(draw(st.lists(st.sampled_from(sorted(METRICS)), min_size=1, max_size=3, unique=True)))
    start = draw(st.none() | st.integers(-30, 30).map(lambda hours: MIDNIGHT + hours * HOUR))
    end = draw(st.none() | st.integers(-30, 30).map(lambda hours: MIDNIGHT + hours * HOUR))
    starts: tuple[datetime, ...] = ()
    if TIME in dimensions:
        start = start or MIDNIGHT - 30 * HOUR
        interval = draw(st.sampled_from([Interval.HOUR, Interval.DAY]))
        starts = (start, *buckets(interval, start, end or MIDNIGHT + 31 * HOUR)[1:])
    order = st.builds(Order, st.sampled_from([*metrics, *dimensions]), st.booleans())
    return Query(
        site_id="site",
        metrics=metrics,
        dimensions=dimensions,
        filter=draw(FILTERS),
        with_bots=True,
        start=start,
        end=end,
        buckets=starts,
        order=tuple(draw(st.lists(order, max_size=2, unique_by=lambda one: one.name))),
        limit=draw(st.none() | st.integers(1, 4)),
        offset=draw(st.integers(0, 2)) if dimensions else 0,
    )


def value_of(row: Row, dimension: str, query: Query) -> Any:
    """What a row has of a dimension."""
    if dimension == TIME:
        return max(start for start in query.buckets if start <= row.time)
    if dimension.startswith(PROP):
        value = msgspec.json.decode(row.props or "{}").get(dimension.removeprefix(PROP))
        return "" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return getattr(row, EVENT_COLUMNS[dimension]) or ""


def holds(condition: Filter, row: Row, query: Query) -> bool:
    match condition:
        case All(filters):
            return all(holds(one, row, query) for one in filters)
        case AnyOf(filters):
            return any(holds(one, row, query) for one in filters)
        case Not(filter=inner):
            return not holds(inner, row, query)
        case Where(dimension, Operator.IS, values):
            return value_of(row, dimension, query) in values
        case Where(dimension, _, values):
            return any(value in value_of(row, dimension, query) for value in values)
    raise AssertionError(condition)


def counted(rows: Sequence[Row], metric: str) -> int:
    match metric:
        case "events":
            return sum(row.event_type != "engagement" for row in rows)
        case "pageviews":
            return sum(row.event_type == PAGE_VIEW for row in rows)
        case "visitors":
            return len({row.visitor for row in rows})
    raise AssertionError(metric)


def expected(rows: Sequence[Row], query: Query) -> list[Figures]:
    """What `Query` says, of all rows there are."""
    groups: dict[tuple[Any, ...], list[Row]] = {} if query.dimensions else {(): []}
    for row in rows:
        if (
            row.site_id == query.site_id
            and (query.start is None or row.time >= query.start)
            and (query.end is None or row.time < query.end)
            and holds(query.filter, row, query)
        ):
            key = tuple(value_of(row, dimension, query) for dimension in query.dimensions)
            groups.setdefault(key, []).append(row)
    found = [Figures(key, tuple(counted(group, name) for name in query.metrics)) for key, group in groups.items()]
    for order in reversed(query.whole_order):
        names = [*query.dimensions, *query.metrics]
        place = names.index(order.name)
        found.sort(key=lambda row, place=place: (*row.dimensions, *row.metrics)[place], reverse=order.is_descending)  # type: ignore[misc]
    return found[query.offset :][: query.limit]


@pytest.fixture(params=KINDS, scope="module")
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """One database for many examples: each takes sites of its own."""
    with figures_of(request) as figures:
        yield figures


@settings(max_examples=EXAMPLES, deadline=None)
@given(rows=ROWS, asked=st.lists(queries(), min_size=1, max_size=3))
def test_a_query_answers_what_its_definition_says(database: Database, rows: list[Row], asked: list[Query]) -> None:
    """Any metrics by any dimensions, of any filter and range, in any order, cut anywhere, several at once."""
    number = next(NUMBERS)
    database.add(*(replace(row, site_id=f"{row.site_id}-{number}") for row in rows))

    answers = database.reports().answer([replace(query, site_id=f"site-{number}") for query in asked])

    assert [expected(rows, query) for query in asked] == answers


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"metrics": ("count(*)",)}, "there is no metric 'count(*)'; there are: visitors, visits,"),
        ({"metrics": ()}, "a query needs a metric"),
        ({"dimensions": ("visitor",)}, "there is no dimension 'visitor'; there are: time, event:page,"),
        ({"dimensions": ("event:page; DROP TABLE events",)}, "there is no dimension"),
        ({"dimensions": (PROP,)}, "there is no dimension"),
        ({"order": (Order(PAGE),)}, "there is no metric or dimension 'event:page' in the query; there are: visitors"),
        ({"dimensions": (TIME,)}, "by time, a query needs a start and buckets from there on"),
        ({"dimensions": (TIME,), "start": MIDNIGHT, "buckets": (MIDNIGHT + HOUR,)}, "buckets from there on"),
        (
            {"metrics": ("pageviews",), "dimensions": ("visit:entry_page",)},
            "'pageviews' counts events, and can't be told apart by 'visit:entry_page'",
        ),
        (
            {"metrics": ("bounce_rate",), "dimensions": (NAME,)},
            "'bounce_rate' is of visits, and can't be told apart by 'event:name'",
        ),
        ({"metrics": ("views_per_visit",), "dimensions": (PAGE,)}, "can't be asked of 'event:page'"),
        ({"metrics": ("views_per_visit",), "filter": Where(PAGE, Operator.IS, ("/",))}, "can't be asked of 'event:pag"),
        ({"metrics": ("percentage",)}, "'percentage' needs a dimension"),
        ({"metrics": ("conversion_rate",)}, "'conversion_rate' needs 'event:goal'"),
        ({"metrics": ("scroll_depth",)}, "'scroll_depth' needs 'event:page'"),
        ({"metrics": ("time_on_page",), "filter": Not(Where(PAGE, Operator.IS, ("/",)))}, "'time_on_page' needs"),
        ({"dimensions": ("event:goal",)}, "needs goals, and the site has none"),
        ({"filter": Where("event:goal", Operator.IS, ("x",))}, "there is no goal 'x'"),
        ({"filter": HasDone(Where("event:goal", Operator.IS, ("x",)))}, "there is no goal 'x'"),
    ],
)
def test_a_query_is_made_of_names_that_go_together(wrong: dict[str, Any], text: str) -> None:
    """Any other is refused before a database sees it, and the text says what is wrong."""
    with pytest.raises(ValueError, match=re.escape(text)):
        Query(**{"site_id": "site", "metrics": ("visitors",), **wrong})


def test_a_filter_is_made_of_names_that_go_together() -> None:
    """Any other is refused, and the text says what is wrong."""
    path = Where(PAGE, Operator.IS, ("/",))
    with pytest.raises(ValueError, match="there is no dimension 'visitor'; there are: time, event:page,"):
        Where("visitor", Operator.IS, ("1",))
    with pytest.raises(ValueError, match="'event:page' needs a value"):
        Where(PAGE, Operator.IS, ())
    with pytest.raises(ValueError, match="'time' can't be filtered"):
        Where(TIME, Operator.IS, ("2025",))
    with pytest.raises(ValueError, match="'event:goal' can only be compared by 'is'"):
        Where("event:goal", Operator.CONTAINS, ("x",))
    with pytest.raises(ValueError, match="a pattern for 'event:page' is longer than 1,000 characters"):
        Where(PAGE, Operator.MATCHES, ("x" * (MAX_PATTERN + 1),))
    with pytest.raises(ValueError, match="dimensions of events, not by 'visit:source'"):
        HasDone(All((path, Where("visit:source", Operator.IS, ("Google",)))))
    with pytest.raises(ValueError, match="can't be asked of what a visitor has done"):
        HasDone(Not(HasDone(path)))
    with pytest.raises(ValueError, match="the goal 'Buy' can only be told by dimensions of events"):
        Goal("Buy", Where("visit:source", Operator.IS, ("Google",)))


def test_buckets_follow_the_calendar_of_a_time_zone() -> None:
    """A day on which clocks change has another length, a week begins on Monday, and the first bucket with the range."""
    berlin = ZoneInfo("Europe/Berlin")
    start, end = datetime(2025, 10, 25, 10), datetime(2025, 11, 4)  # noqa: DTZ001 - as in a query

    def local(interval: Interval) -> list[str]:
        found = buckets(interval, start, end, berlin)
        return [f"{one.replace(tzinfo=UTC).astimezone(berlin):%m-%d %H}" for one in found]

    assert ["10-25 12", "10-26 00", "10-27 00"] == local(Interval.DAY)[:3]
    assert ["10-25 12", "10-27 00", "11-03 00"] == local(Interval.WEEK)
    assert ["10-25 12", "11-01 00"] == local(Interval.MONTH)
    assert [MIDNIGHT + timedelta(seconds=30), MIDNIGHT + timedelta(minutes=1)] == list(
        buckets(Interval.MINUTE, MIDNIGHT + timedelta(seconds=30), MIDNIGHT + timedelta(minutes=2))
    )
    assert ["10-26 01", "10-26 02", "10-26 02", "10-26 03"] == local(Interval.HOUR)[13:17]
    with pytest.raises(ValueError, match="more than 2,000 buckets of one hour"):
        buckets(Interval.HOUR, start, datetime(2026, 11, 4))  # noqa: DTZ001 - as above
