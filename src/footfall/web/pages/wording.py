"""How pages write numbers, durations and days. A script then writes them as the reader's language has it."""

from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from footfall.database.buckets import Interval
from footfall.web.query_api.date_range import local

Value = int | float | None

_DURATIONS: Final = frozenset({"visit_duration", "time_on_page"})
_PERCENTAGES: Final = frozenset({"bounce_rate", "percentage", "conversion_rate", "scroll_depth"})
_DECIMALS: Final = frozenset({"views_per_visit"})


def kind_of(metric: str) -> str:
    """How a metric is written: as a `duration` in seconds, a `percentage`, a `decimal` or a `count`."""
    if metric in _DURATIONS:
        return "duration"
    if metric in _PERCENTAGES:
        return "percentage"
    return "decimal" if metric in _DECIMALS else "count"


def short(value: Value, metric: str) -> str:
    """A figure, at most six characters wide: `1.4M`, `12.3k`, `2m 05s`, `41%`."""
    if value is None:
        return "\N{EN DASH}"
    match kind_of(metric):
        case "duration":
            return _duration(round(value))
        case "percentage":
            return f"{value:g}%"
        case "decimal":
            return f"{value:.2f}".rstrip("0").rstrip(".")
        case _:
            return _compact(round(value))


def whole(value: Value, metric: str) -> str:
    """A figure with all its digits."""
    return f"{value:,}" if value is not None and kind_of(metric) == "count" else short(value, metric)


def change(now: Value, before: Value) -> int | None:
    """By how many percent a figure has changed; None if there was nothing before that it could be compared with."""
    if now is None or not before:
        return None
    return round((now - before) / before * 100)


def moment(start: datetime, interval: Interval, zone: ZoneInfo) -> str:
    """A bucket's name in full."""
    there = local(start, zone)
    match interval:
        case Interval.HOUR:
            return f"{there:%a} {there.day} {there:%b}, {there:%H:%M}"
        case Interval.DAY:
            return f"{there:%a} {there.day} {there:%b %Y}"
        case Interval.WEEK:
            return f"Week of {there.day} {there:%b %Y}"
        case _:
            return f"{there:%B %Y}"


def tick(start: datetime, interval: Interval, zone: ZoneInfo) -> str:
    """A bucket's name below a chart."""
    there = local(start, zone)
    match interval:
        case Interval.HOUR:
            return f"{there:%H:%M}"
        case Interval.MONTH:
            return f"{there:%b %Y}"
        case _:
            return f"{there.day} {there:%b}"


def _compact(number: int) -> str:
    for size, letter in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k")):
        if number >= size:
            text = f"{number / size:.1f}" if number < 100 * size else f"{number / size:.0f}"
            return text.removesuffix(".0") + letter
    return str(number)


def _duration(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {rest:02}s" if minutes else f"{rest}s"
