"""A range of time cut into labelled buckets: the dimension `time` of a request."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from footfall.database.buckets import Interval, buckets
from footfall.web.query_api.date_range import Period, local

_HOURS_UNTIL: Final = timedelta(hours=48)
_DAYS_UNTIL: Final = timedelta(days=40)
_WEEKS_UNTIL: Final = timedelta(weeks=52)


class Times(Struct, frozen=True):
    """The buckets of a range.

    Attributes:
        starts: when each begins, UTC without a zone; the first is the start of the range.
        labels: what an answer calls each.
    """

    starts: tuple[datetime, ...]
    labels: tuple[str, ...]

    @property
    def by_start(self) -> Mapping[datetime, str]:
        """The label of the bucket that begins then."""
        return dict(zip(self.starts, self.labels, strict=True))

    @property
    def places(self) -> Mapping[datetime, int]:
        """The place, counted from 0, of the bucket that begins then."""
        return {start: place for place, start in enumerate(self.starts)}


def interval_of(dimension: str, period: Period) -> Interval:
    """How long the buckets of a dimension are; those of `time` suit the length of the range."""
    if dimension != "time":
        return Interval(dimension.removeprefix("time:"))
    length = period.end - period.start
    if length <= _HOURS_UNTIL:
        return Interval.HOUR
    if length <= _DAYS_UNTIL:
        return Interval.DAY
    return Interval.WEEK if length <= _WEEKS_UNTIL else Interval.MONTH


def times(interval: Interval, period: Period) -> Times:
    """The buckets of a range.

    An hour that occurs twice, because clocks are set back, is one bucket. So labels are unique, but for those of
    minutes, which then occur twice.

    Raises:
        ValueError: there are too many.
    """
    starts: list[datetime] = []
    labels: list[str] = []
    for start in buckets(interval, period.start, period.end, period.zone):
        name = _label(interval, local(start, period.zone), period)
        if not labels or name != labels[-1]:
            starts.append(start)
            labels.append(name)
    return Times(tuple(starts), tuple(labels))


def _label(interval: Interval, begin: datetime, period: Period) -> str:
    match interval:
        case Interval.MINUTE:
            return f"{begin.date().isoformat()} {begin:%H:%M:00}"
        case Interval.HOUR:
            return f"{begin.date().isoformat()} {begin:%H:00:00}"
        case Interval.DAY:
            return begin.date().isoformat()
        case Interval.WEEK:
            monday = begin.date() - timedelta(days=begin.weekday())
            return max(monday, period.first_day).isoformat()
        case Interval.MONTH:
            return begin.date().replace(day=1).isoformat()
