"""A range of time cut into the minutes, hours, days, weeks or months of a calendar."""

from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Final

MAX_BUCKETS: Final = 2_000


class Interval(StrEnum):
    """A bucket of time, as a calendar has it; a week begins on Monday."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


def buckets(interval: Interval, start: datetime, end: datetime, zone: tzinfo = UTC) -> tuple[datetime, ...]:
    """When the buckets from `start` to `end` begin, the first at `start`, by the calendar and clock of a time zone.

    All moments are UTC without a zone, as in `Query`.

    Raises:
        ValueError: there are more than `MAX_BUCKETS`.
    """
    begins: list[datetime] = []
    moment = start
    while moment < end:
        if len(begins) == MAX_BUCKETS:
            raise ValueError(f"there are more than {MAX_BUCKETS:,} buckets of one {interval}")
        begins.append(moment)
        moment = _next(interval, moment, zone)
    return tuple(begins)


def _next(interval: Interval, moment: datetime, zone: tzinfo) -> datetime:
    """The first moment after this one at which a bucket begins."""
    if interval is Interval.MINUTE:
        return moment + timedelta(minutes=1) - timedelta(seconds=moment.second, microseconds=moment.microsecond)
    local = moment.replace(tzinfo=UTC).astimezone(zone)
    if interval is Interval.HOUR:  # which is the same length of time everywhere, whatever clocks do
        return (
            moment
            + timedelta(hours=1)
            - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        )
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    match interval:
        case Interval.DAY:
            later = midnight + timedelta(days=1)
        case Interval.WEEK:
            later = midnight + timedelta(days=7 - midnight.weekday())
        case _:
            later = (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
    return later.astimezone(UTC).replace(tzinfo=None)
