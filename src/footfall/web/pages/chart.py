"""A line chart as SVG: where each point, line and label is. The template draws it, with a table of the same figures.

Positions are percentages of the chart's width and height, so that it fits any screen and needs neither a script nor a
style attribute, which the pages' Content-Security-Policy forbids.
"""

from collections.abc import Sequence
from datetime import datetime
from math import ceil, floor, log10
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct

from footfall.database.buckets import Interval
from footfall.web.pages.wording import Value, kind_of, moment, short, tick, whole

_LINES: Final = 4
"""Horizontal lines above the lowest, about."""
_LABELS: Final = 7
"""Names of buckets below, at most."""


class Point(Struct, frozen=True):
    """One bucket.

    Attributes:
        x: from 0 at the left to 100 at the right.
        y: from 0 at the top to 100 at the bottom.
        before_y: that of the bucket that it is compared with; None without one.
        name: of the bucket.
        text: its figure.
        before_name: of the bucket that it is compared with.
        before_text: that one's figure.
    """

    x: float
    y: float
    before_y: float | None
    name: str
    text: str
    before_name: str = ""
    before_text: str = ""


class Mark(Struct, frozen=True):
    """A label, and where it stands."""

    at: float
    text: str
    anchor: str = "middle"


class Chart(Struct, frozen=True):
    """What the template draws.

    Attributes:
        points: the buckets, from the left to the right.
        line: the figures' line as an SVG path; of finished buckets only.
        unfinished: the piece that leads to the bucket that is not over yet; empty if there is none.
        area: what is below the line.
        before: the line of what is compared with; empty without any.
        levels: the horizontal lines, from below.
        labels: names of buckets.
    """

    points: tuple[Point, ...]
    line: str
    unfinished: str
    area: str
    before: str
    levels: tuple[Mark, ...]
    labels: tuple[Mark, ...]


class Series(Struct, frozen=True):
    """Figures over time: one for each bucket, and when the buckets begin."""

    starts: tuple[datetime, ...]
    figures: tuple[Value, ...]


def chart_of(
    metric: str,
    now: Series,
    before: Series | None,
    *,
    interval: Interval,
    zone: ZoneInfo,
    end: datetime,
    present: datetime,
) -> Chart:
    """Draw a metric over time.

    Args:
        metric: what the figures are.
        now: those of the span.
        before: those of the span that it is compared with.
        interval: how long buckets are.
        zone: whose calendar names them.
        end: when the last bucket is over.
        present: this moment, UTC without a zone. What lies after it is not drawn.
    """
    earlier = before or Series((), ())
    top = _round_up([*(value or 0 for value in now.figures), *(value or 0 for value in earlier.figures)], metric)
    width = max(len(now.starts) - 1, 1)
    points = []
    for index, (start, value) in enumerate(zip(now.starts, now.figures, strict=True)):
        has_before = index < len(earlier.starts)
        points.append(
            Point(
                x=round(100 * index / width, 3) if len(now.starts) > 1 else 50,
                y=_height(value, top),
                before_y=_height(earlier.figures[index], top) if has_before else None,
                name=moment(start, interval, zone),
                text=whole(value, metric) if start <= present else "",
                before_name=moment(earlier.starts[index], interval, zone) if has_before else "",
                before_text=whole(earlier.figures[index], metric) if has_before else "",
            )
        )
    drawn = [point for point, start in zip(points, now.starts, strict=True) if start <= present]
    is_unfinished = bool(drawn) and present < (*now.starts, end)[len(drawn)]
    finished = drawn[:-1] if is_unfinished else drawn
    levels = _levels(top, metric)
    return Chart(
        points=tuple(points),
        line=_path([(point.x, point.y) for point in finished]),
        unfinished=_path([(point.x, point.y) for point in drawn[-2:]]) if is_unfinished else "",
        area=_area([(point.x, point.y) for point in drawn]),
        before=_path([(point.x, point.before_y) for point in points if point.before_y is not None]),
        levels=tuple(Mark(_height(level, top), short(level, metric)) for level in levels),
        labels=_labels(now.starts, interval, zone),
    )


def _height(value: Value, top: float) -> float:
    return round(100 - 100 * (value or 0) / top, 3)


def _round_up(values: Sequence[float], metric: str) -> float:
    """The least height of the chart that holds all values, and ends at a level."""
    greatest = max(values, default=0)
    if kind_of(metric) == "percentage":
        return 100
    step = _step(greatest, metric)
    return max(step * ceil(greatest / step), step)


def _step(greatest: float, metric: str) -> float:
    if greatest <= 0:
        return 1
    if kind_of(metric) == "duration":
        steps = (1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400)
        return next((step for step in steps if greatest / step <= _LINES), 86_400)
    size = 10.0 ** floor(log10(greatest / _LINES))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if greatest / (size * factor) <= _LINES)
    return step if kind_of(metric) == "decimal" else max(1, ceil(step))


def _levels(top: float, metric: str) -> list[float]:
    step = 25 if kind_of(metric) == "percentage" else _step(top, metric)
    return [step * number for number in range(round(top / step) + 1)]


def _labels(starts: Sequence[datetime], interval: Interval, zone: ZoneInfo) -> tuple[Mark, ...]:
    if len(starts) < 2:
        return tuple(Mark(50, tick(start, interval, zone)) for start in starts)
    every = ceil(len(starts) / _LABELS)
    if interval is Interval.HOUR:
        every = next((hours for hours in (1, 2, 3, 4, 6, 12, 24) if hours >= every), every)
    marks = []
    for index in range(0, len(starts), every):
        at = round(100 * index / (len(starts) - 1), 3)
        anchor = "start" if index == 0 else "end" if at > 97 else "middle"
        marks.append(Mark(at, tick(starts[index], interval, zone), anchor))
    return tuple(marks)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{'L' if number else 'M'}{x:g},{y:g}" for number, (x, y) in enumerate(points))


def _area(points: Sequence[tuple[float, float]]) -> str:
    if len(points) < 2:
        return ""
    return f"{_path(points)} L{points[-1][0]:g},100 L{points[0][0]:g},100 Z"
