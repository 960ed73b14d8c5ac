"""Answers from the derived tables: what `/stats` asks, the page views and their visitors, and the pages.

A range of whole UTC days is made of parts that do not overlap: months from the tables by month, other clean days from
the tables by day, and everything else from the events. Which those are is read within the same transaction
(`footfall.database.duckdb.days`), so the answer is that of the events, whatever has been rolled up.

Visitors are counted exactly. Those without a user id have another number on each UTC day, so those of months add up.
The others are looked for in all parts.
"""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, Final

import duckdb
from msgspec import Struct

from footfall.database.dimensions import NAME, PAGE
from footfall.database.filter import Operator, Where
from footfall.database.query import Figures, Order, Query
from footfall.entry import PAGE_VIEW

_VIEWS: Final = Where(NAME, Operator.IS, (PAGE_VIEW,))
_DAY: Final = timedelta(days=1)
_MAX_RUNS: Final = 100
"""More runs of clean days than these are not taken: the statement would be long."""

_Range = tuple[date, date]
"""From a day on, and before which."""


class Parts(Struct, frozen=True):
    """What a range of a site is made of.

    Attributes:
        months: the first days of months that are read from the tables by month.
        days: other runs of clean days.
        events: the rest, as ranges of time; None for no beginning or no end.
    """

    months: Sequence[date]
    days: Sequence[_Range]
    events: Sequence[tuple[datetime | None, datetime | None]]


def answer_rolled(cursor: duckdb.DuckDBPyConnection, query: Query) -> list[Figures] | None:
    """The answer to a query, or None if it asks for something else; call it within a transaction."""
    if query.filter != _VIEWS or not all(edge is None or edge.time() == time.min for edge in (query.start, query.end)):
        return None
    if query.offset or query.goals:
        return None
    if not query.dimensions and set(query.metrics) <= {"pageviews", "visitors"}:
        found = _totals(cursor, query)
        return [Figures((), tuple(found[name] for name in query.metrics))]
    is_by_views = query.order in ((), (Order("pageviews", is_descending=True),))
    if query.dimensions == (PAGE,) and query.metrics == ("pageviews",) and is_by_views:
        return _pages(cursor, query)
    return None


def parts_of(cursor: duckdb.DuckDBPyConnection, site_id: str, start: date | None, end: date | None) -> Parts:
    """What the range of days from `start` to before `end` is made of now."""
    bound = {"site": site_id, "start": start or date.min, "end": end or date.max}
    clean = cursor.execute(
        "SELECT DISTINCT day FROM rolled_days WHERE day >= $start AND day < $end "
        "AND day NOT IN (SELECT day FROM dirty_days WHERE site_id = $site) ORDER BY day",
        bound,
    ).fetchall()
    runs: list[_Range] = []
    for (day,) in clean:
        if runs and runs[-1][1] == day:
            runs[-1] = runs[-1][0], day + _DAY
        else:
            runs.append((day, day + _DAY))
    runs = sorted(sorted(runs, key=lambda run: run[0] - run[1])[:_MAX_RUNS])
    edges = [None if start is None else _midnight(start)]
    edges += [_midnight(day) for run in runs for day in run]
    edges.append(None if end is None else _midnight(end))
    pairs = zip(edges[::2], edges[1::2], strict=True)
    events = [(since, until) for since, until in pairs if since is None or until is None or since < until]
    rolled = cursor.execute(
        "SELECT DISTINCT month FROM rolled_months WHERE site_id = $site AND month >= $start AND month < $end "
        "AND month NOT IN (SELECT date_trunc('month', day) FROM dirty_days WHERE site_id = $site) ORDER BY month",
        bound,
    ).fetchall()
    months: list[date] = []
    days: list[_Range] = []
    for since, until in runs:
        rest = since
        for (month,) in rolled:
            after = (month + 31 * _DAY).replace(day=1)
            if rest <= month and after <= until:
                if rest < month:
                    days.append((rest, month))
                months.append(month)
                rest = after
        if rest < until:
            days.append((rest, until))
    return Parts(months, days, events)


def _totals(cursor: duckdb.DuckDBPyConnection, query: Query) -> dict[str, int]:
    parts = _parts(cursor, query)
    bound = _bound(query, parts)
    no_bots = "" if query.with_bots else "AND NOT is_bot"
    statement = f"""
        WITH seen AS (
            SELECT visitor FROM month_visitors WHERE {_months()} {no_bots}
            UNION ALL
            SELECT visitor FROM visits WHERE site_id = $site AND visit_pageviews > 0 AND {_days(parts)}
                {"" if query.with_bots else "AND bot = ''"}
            UNION ALL
            SELECT visitor FROM events WHERE {_of_events(query, parts)}
        )
        SELECT
            (SELECT coalesce(sum(pageviews), 0) FROM month_pages WHERE {_months()} {no_bots})
            + (SELECT coalesce(sum(pageviews), 0) FROM page_views
                WHERE site_id = $site AND {_days(parts)} {no_bots})
            + (SELECT count(*) FROM events WHERE {_of_events(query, parts)}),
            (SELECT count(DISTINCT visitor) FROM seen)
            + (SELECT coalesce(sum({"visitors_with_bots" if query.with_bots else "visitors"}), 0)
                FROM month_anonymous WHERE {_months()})
    """
    [(pageviews, visitors)] = cursor.execute(statement, bound).fetchall()
    return {"pageviews": int(pageviews), "visitors": int(visitors)}


def _pages(cursor: duckdb.DuckDBPyConnection, query: Query) -> list[Figures]:
    parts = _parts(cursor, query)
    no_bots = "" if query.with_bots else "AND NOT is_bot"
    statement = f"""
        SELECT path, CAST(sum(views) AS BIGINT) AS pageviews FROM (
            SELECT path, pageviews AS views FROM month_pages WHERE {_months()} {no_bots}
            UNION ALL
            SELECT path, pageviews FROM page_views WHERE site_id = $site AND {_days(parts)} {no_bots}
            UNION ALL
            SELECT path, count(*) FROM events WHERE {_of_events(query, parts)} GROUP BY path
        ) GROUP BY path ORDER BY pageviews DESC, path
        {"" if query.limit is None else f"LIMIT {int(query.limit)}"}
    """
    rows = cursor.execute(statement, _bound(query, parts)).fetchall()
    return [Figures((path,), (pageviews,)) for path, pageviews in rows]


def _parts(cursor: duckdb.DuckDBPyConnection, query: Query) -> Parts:
    start = None if query.start is None else query.start.date()
    return parts_of(cursor, query.site_id, start, None if query.end is None else query.end.date())


def _bound(query: Query, parts: Parts) -> dict[str, Any]:
    bound: dict[str, Any] = {"site": query.site_id, "months": list(parts.months)}
    for name, ranges in (("day", parts.days), ("time", parts.events)):
        for number, (since, until) in enumerate(ranges):
            bound |= {f"{name}{number}a": since} if since is not None else {}
            bound |= {f"{name}{number}b": until} if until is not None else {}
    return bound


def _months() -> str:
    return "site_id = $site AND month IN (SELECT unnest($months::DATE[]))"


def _days(parts: Parts) -> str:
    ranges = [f"(day >= $day{number}a AND day < $day{number}b)" for number in range(len(parts.days))]
    return f"({' OR '.join(ranges) or 'FALSE'})"


def _of_events(query: Query, parts: Parts) -> str:
    ranges = []
    for number, (since, until) in enumerate(parts.events):
        edges = [] if since is None else [f"time >= $time{number}a"]
        edges += [] if until is None else [f"time < $time{number}b"]
        ranges.append(f"({' AND '.join(edges) or 'TRUE'})")
    no_bots = "" if query.with_bots else "AND coalesce(bot, '') = ''"
    return f"site_id = $site AND event_type = 'page_view' AND ({' OR '.join(ranges) or 'FALSE'}) {no_bots}"


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min)
