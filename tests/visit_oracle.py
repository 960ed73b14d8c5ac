"""What a query answers, worked out in plain Python from the definitions: no SQL, and nothing of what compiles it."""

import re
from collections.abc import Iterable, Sequence
from datetime import timedelta
from fractions import Fraction
from typing import Any

import msgspec
from msgspec import Struct

from figures import Row
from footfall.database.channel import CHANNEL_COLUMNS, channel_of
from footfall.database.filter import All, AnyOf, Filter, HasDone, Not, Operator, Where
from footfall.database.query import Figures, Query

GAP = timedelta(minutes=30)
MICROSECOND = timedelta(microseconds=1)
COLUMNS = {"event:page": "path", "event:name": "event_type", "event:hostname": "hostname"}
OF_VISITS = {"bounce_rate", "visit_duration", "views_per_visit"}
PARTS = {"percentage", "conversion_rate", "group_conversion_rate"}


class Visit(Struct, eq=False):
    """The events of a visit, in the order of their times."""

    events: list[Row]

    @property
    def views(self) -> list[Row]:
        return [row for row in self.events if row.event_type == "page_view"]

    @property
    def is_bounce(self) -> bool:
        others = {"page_view", "engagement"}
        return len(self.views) == 1 and all(
            row.event_type in others or row.is_interactive is False for row in self.events
        )

    @property
    def duration(self) -> timedelta:
        return self.events[-1].time - self.events[0].time

    def first(self, column: str) -> str:
        """What the first page view says, else the first event; at one moment, the least by path, referrer and value."""
        told = self.views or self.events
        return min((row.time, row.path, row.referrer or "", text(row, column)) for row in told)[3]

    def last(self, column: str) -> str:
        return max((row.time, row.path, text(row, column)) for row in self.views or self.events)[2]

    def value(self, dimension: str) -> str:
        name = dimension.removeprefix("visit:")
        match name:
            case "entry_page" | "exit_page":
                return self.first("path") if name == "entry_page" else self.last("path")
            case "entry_page_hostname" | "exit_page_hostname":
                return self.first("hostname") if name == "entry_page_hostname" else self.last("hostname")
            case "channel":
                return channel_of({column: self.first(column) for column in CHANNEL_COLUMNS})
            case "bot":
                return self.events[0].bot or ""
        return self.first(name)


Fact = tuple[Row, Visit]


def text(row: Row, column: str) -> str:
    return getattr(row, column) or ""


def visits_of(rows: Iterable[Row]) -> list[Visit]:
    """Cut where a visitor's day ends, and where nothing happens for half an hour."""
    found: list[Visit] = []
    for row in sorted(rows, key=lambda row: (row.visitor, row.bot or "", row.time)):
        last = found[-1].events[-1] if found else None
        if (
            last is not None
            and (last.visitor, last.bot or "", last.time.date()) == (row.visitor, row.bot or "", row.time.date())
            and row.time - last.time < GAP
        ):
            found[-1].events.append(row)
        else:
            found.append(Visit([row]))
    return found


def answered(rows: Sequence[Row], query: Query) -> list[Figures]:
    """The whole answer to a query, of all rows that there are."""
    return _Oracle(rows, query).answer()


class _Oracle:
    def __init__(self, rows: Sequence[Row], query: Query) -> None:
        self.query = query
        own = [row for row in rows if row.site_id == query.site_id and (query.counts_bots or not row.bot)]
        self.facts: list[Fact] = [
            (row, visit)
            for visit in visits_of(own)
            for row in visit.events
            if (query.start is None or row.time >= query.start) and (query.end is None or row.time < query.end)
        ]
        self.made: dict[Any, Any] = {}
        """What was worked out before."""
        self.goals = {goal.name: goal.filter for goal in query.goals}

    def answer(self) -> list[Figures]:
        query = self.query
        groups = self.groups(query.dimensions, query.filter).items()
        found = [Figures(key, tuple(self.metric(name, key, facts) for name in query.metrics)) for key, facts in groups]
        for order in reversed(query.whole_order):
            place = [*query.dimensions, *query.metrics].index(order.name)

            def value(row: Figures, place: int = place) -> Any:
                return (*row.dimensions, *row.metrics)[place]

            known = [row for row in found if value(row) is not None]
            known.sort(key=value, reverse=order.is_descending)
            found = known + [row for row in found if value(row) is None]
        return found[query.offset :][: query.limit]

    def groups(
        self, dimensions: tuple[str, ...], condition: Filter, *, by_entry: bool = False
    ) -> dict[tuple[Any, ...], list[Fact]]:
        asked = dimensions, condition, by_entry
        if asked not in self.made:
            self.made[asked] = self.grouped(dimensions, condition, by_entry=by_entry)
        found: dict[tuple[Any, ...], list[Fact]] = self.made[asked]
        return found

    def grouped(
        self, dimensions: tuple[str, ...], condition: Filter, *, by_entry: bool
    ) -> dict[tuple[Any, ...], list[Fact]]:
        groups: dict[tuple[Any, ...], list[Fact]] = {} if dimensions else {(): []}
        for fact in self.facts:
            if "event:name" in dimensions and fact[0].event_type == "engagement":
                continue
            if self.fits(condition, fact, by_entry=by_entry):
                for key in self.keys(dimensions, fact, by_entry=by_entry):
                    groups.setdefault(key, []).append(fact)
        return groups

    def keys(self, dimensions: Sequence[str], fact: Fact, *, by_entry: bool) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = [()]
        for dimension in dimensions:
            values: list[Any]
            if dimension == "event:goal":
                values = [name for name, goal in self.goals.items() if self.fits(goal, fact)]
            elif dimension == "time":
                values = [max(start for start in self.query.buckets if start <= fact[0].time)]
            else:
                values = [self.value(dimension, fact, by_entry=by_entry)]
            found = [(*key, value) for key in found for value in values]
        return found

    def value(self, dimension: str, fact: Fact, *, by_entry: bool = False) -> str:
        row, visit = fact
        if dimension.startswith("event:props:"):
            value = msgspec.json.decode(row.props or "{}").get(dimension.removeprefix("event:props:"))
            return "" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()
        if dimension == "event:page" and by_entry:
            return visit.first("path")
        return text(row, COLUMNS[dimension]) if dimension in COLUMNS else visit.value(dimension)

    def fits(  # noqa: PLR0911 - a case for each kind of filter
        self, condition: Filter, fact: Fact, *, by_entry: bool = False
    ) -> bool:
        match condition:
            case All(filters):
                return all(self.fits(one, fact, by_entry=by_entry) for one in filters)
            case AnyOf(filters):
                return any(self.fits(one, fact, by_entry=by_entry) for one in filters)
            case Not(inner):
                return not self.fits(inner, fact, by_entry=by_entry)
            case HasDone(inner):
                if condition not in self.made:
                    self.made[condition] = {other[0].visitor for other in self.facts if self.fits(inner, other)}
                return fact[0].visitor in self.made[condition]
            case Where(dimension, operator, values, is_case_sensitive):
                if dimension == "event:goal":
                    return any(self.fits(self.goals[name], fact) for name in values)
                value = self.value(dimension, fact, by_entry=by_entry)
                patterns = [one if operator is Operator.MATCHES else re.escape(one) for one in values]
                flags = re.DOTALL | (0 if is_case_sensitive else re.IGNORECASE)
                if operator is Operator.IS:
                    return any(re.fullmatch(pattern, value, flags) for pattern in patterns)
                return any(re.search(pattern, value, flags) for pattern in patterns)
        raise AssertionError(condition)

    def metric(  # noqa: C901, PLR0911, PLR0912 - a case for each metric
        self, name: str, key: tuple[Any, ...], facts: list[Fact]
    ) -> int | float | None:
        query = self.query
        visitors = len({row.visitor for row, _ in facts})
        if name in OF_VISITS:
            facts = self.groups(query.dimensions, query.filter, by_entry=True).get(key, [])
        visits = {id(visit): visit for _, visit in facts}.values()
        match name:
            case "visitors":
                return visitors
            case "visits":
                return len(visits)
            case "pageviews":
                return sum(row.event_type == "page_view" for row, _ in facts)
            case "events":
                return sum(row.event_type != "engagement" for row, _ in facts)
            case "views_per_visit":
                return rounded(sum(len(visit.views) for visit in visits), len(visits), 2) or 0
            case "bounce_rate":
                return rounded(100 * sum(visit.is_bounce for visit in visits), len(visits)) or 0
            case "visit_duration":
                return rounded(sum(visit.duration // MICROSECOND for visit in visits), 1_000_000 * len(visits))
            case "percentage":
                return rounded(100 * visitors, self.visitors((), (), query.filter), 1)
            case "conversion_rate":
                return rounded(100 * visitors, self.visitors((), (), without_goals(query.filter)), 1) or 0
            case "group_conversion_rate":
                kept = [place for place, one in enumerate(query.dimensions) if not of_goal(one)]
                names = tuple(query.dimensions[place] for place in kept)
                whole = self.visitors(names, tuple(key[place] for place in kept), without_goals(query.filter))
                return rounded(100 * visitors, whole, 1) or 0
            case "scroll_depth":
                deepest: dict[Any, int] = {}
                for row, visit in facts:
                    if row.scroll_depth is not None:
                        page = id(visit), row.path
                        deepest[page] = max(deepest.get(page, 0), row.scroll_depth)
                return rounded(sum(deepest.values()), len(deepest))
            case "time_on_page":
                told = [row for row, _ in facts if row.engaged_ms is not None]
                readers = {(row.visitor, row.path) for row in told}
                return rounded(sum(row.engaged_ms or 0 for row in told), 1_000 * len(readers))
        raise AssertionError(name)

    def visitors(self, dimensions: tuple[str, ...], key: tuple[Any, ...], condition: Filter) -> int:
        facts = self.groups(dimensions, condition).get(key, [])
        return len({row.visitor for row, _ in facts})


def of_goal(dimension: str) -> bool:
    return dimension == "event:goal" or dimension.startswith("event:props:")


def without_goals(condition: Filter) -> Filter:
    """Filters in the tests join goals and props with others by `All` alone."""
    if isinstance(condition, All):
        return All(tuple(one for one in condition.filters if not (isinstance(one, Where) and of_goal(one.dimension))))
    return All() if isinstance(condition, Where) and of_goal(condition.dimension) else condition


def rounded(dividend: int, divisor: int, decimals: int = 0) -> int | float | None:
    """To the nearest, a half upwards; None for a divisor of 0."""
    if not divisor:
        return None
    scaled = int(Fraction(dividend * 10**decimals, divisor) + Fraction(1, 2))
    return scaled / 10**decimals if decimals else scaled
