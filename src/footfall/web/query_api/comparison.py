"""The same figures of another time beside those that were asked for."""

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Final

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from footfall.database.dimensions import TIME
from footfall.database.filter import All, Operator, Where
from footfall.database.metrics import METRICS
from footfall.database.query import Figures, Query
from footfall.web.query_api import date_range
from footfall.web.query_api.date_range import Period
from footfall.web.query_api.filters import label
from footfall.web.query_api.request import Comparison
from footfall.web.query_api.times import Times

Number = int | float | None

NOTHING: Final[Mapping[str, Number]] = {
    name: None if name in {"visit_duration", "scroll_depth", "time_on_page"} else 0 for name in METRICS
}
"""What each metric is where there are no events."""
_PERCENT: Final = ("bounce_rate", "percentage", "conversion_rate", "group_conversion_rate", "scroll_depth")
"""Metrics whose change is a difference; that of others is a percentage."""
_OF_WHOLE: Final = ("percentage", "conversion_rate", "group_conversion_rate")
"""Metrics that look at more than the rows that are shown."""


class Compared(Struct, frozen=True):
    """The row of the other time, and by how much the figures have changed since then.

    Attributes:
        metrics: its figures.
        dimensions: its labels, of which only that of the time differs.
        change: percent, or points of percent; None where nothing can be said.
    """

    metrics: list[Number]
    dimensions: list[str]
    change: list[Number]


def other_period(comparison: Comparison, period: Period, today: date) -> Period:
    """The time to compare with.

    Raises:
        ValueError: the calendar does not have it, or it is too far away.
    """
    match comparison.mode:
        case "previous_period":
            other = date_range.previous(period, today)
        case "year_over_year":
            other = date_range.year_before(period, today)
        case _:
            assert comparison.dates is not None
            other = date_range.between(*comparison.dates, period.zone)
    return date_range.on_same_weekday(other, period) if comparison.matches_weekday else other


def narrowed(query: Query, rows: Sequence[Figures]) -> Query:
    """A query for the rows that go with those that were found, and for as few others as can be."""
    every = replace(query, order=(), limit=None, offset=0)
    if set(query.metrics) & set(_OF_WHOLE):
        return every
    wheres = tuple(
        Where(name, Operator.IS, tuple(dict.fromkeys(str(row.dimensions[index]) for row in rows)))
        for index, name in enumerate(query.dimensions)
        if name != TIME and rows
    )
    return replace(every, filter=All((query.filter, *wheres)))


def compare(
    query: Query, rows: Sequence[Figures], cut: Times | None, others: Sequence[Figures], other_cut: Times | None
) -> list[Compared | UnsetType]:
    """What goes with each row; nothing with that of a bucket of time which the other time does not have."""
    places = {} if cut is None else cut.places
    other_places = {} if other_cut is None else other_cut.places
    by_key = {_key(row, other_places): row.metrics for row in others}
    found: list[Compared | UnsetType] = []
    for row in rows:
        key = _key(row, places)
        numbers = [part for part in key if isinstance(part, int)]
        if other_cut is not None and numbers[0] >= len(other_cut.labels):
            found.append(UNSET)
            continue
        before = by_key.get(key) or tuple(NOTHING[name] for name in query.metrics)
        labels = [
            other_cut.labels[part] if isinstance(part, int) and other_cut is not None else label(name, str(part))
            for name, part in zip(query.dimensions, key, strict=True)
        ]
        values = zip(query.metrics, before, row.metrics, strict=True)
        found.append(Compared(list(before), labels, [change(*one) for one in values]))
    return found


def change(metric: str, old: Number, new: Number) -> Number:
    """By how much a figure has changed: percent as a whole number, or points where it is a percentage itself."""
    if old is None or new is None:
        return None
    if metric in _PERCENT:
        return round(new - old, 1)
    if old == 0:
        return 100 if new else 0
    percent = (new - old) / old * 100
    return int(math.copysign(math.floor(abs(percent) + 0.5), percent))


def _key(row: Figures, places: Mapping[datetime, int]) -> tuple[str | int, ...]:
    """What a row is about; a bucket of time by its place."""
    return tuple(places[value] if isinstance(value, datetime) else value for value in row.dimensions)
