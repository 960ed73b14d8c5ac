"""The stretch of time that a page shows: a day, some days, a month, a year, in the site's time zone."""

from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct

from footfall.database.buckets import Interval, buckets
from footfall.web.query_api.date_range import days, local


class Period(StrEnum):
    """How long a span is; all but `CUSTOM`, `ALL` and `HOURS_24` are told apart by their last day."""

    DAY = "day"
    HOURS_24 = "24h"
    DAYS_7 = "7d"
    DAYS_28 = "28d"
    DAYS_91 = "91d"
    MONTH = "month"
    YEAR = "year"
    ALL = "all"
    CUSTOM = "custom"


class Comparison(StrEnum):
    """What the figures of a span are compared with."""

    PREVIOUS = "previous"
    YEAR = "year"
    NONE = "none"


MAX_HOURLY: Final = timedelta(days=3)
"""The longest span that is shown by the hour."""
MAX_DAILY: Final = timedelta(days=93)
MAX_WEEKLY: Final = timedelta(days=3 * 366)

_DAYS: Final = {Period.DAY: 1, Period.DAYS_7: 7, Period.DAYS_28: 28, Period.DAYS_91: 91}


class Span(Struct, frozen=True):
    """A stretch of time.

    Attributes:
        period: how long it is.
        zone: whose calendar and clock count.
        start: when it begins, UTC without a zone.
        end: when it is over.
    """

    period: Period
    zone: ZoneInfo
    start: datetime
    end: datetime

    @property
    def first(self) -> date:
        """The first day."""
        return local(self.start, self.zone).date()

    @property
    def last(self) -> date:
        """The last day."""
        return local(self.end - timedelta(microseconds=1), self.zone).date()

    @property
    def default_interval(self) -> Interval:
        """The buckets that a chart of it has, unless somebody asks for others."""
        return self.intervals[0]

    @property
    def intervals(self) -> tuple[Interval, ...]:
        """The buckets that a chart of it may have, the most telling ones first."""
        length = self.end - self.start
        if length <= MAX_HOURLY:
            return (Interval.HOUR,)
        if length <= timedelta(days=32):
            return (
                (Interval.DAY, Interval.HOUR, Interval.WEEK)
                if length <= timedelta(days=8)
                else (
                    Interval.DAY,
                    Interval.WEEK,
                )
            )
        if length <= MAX_DAILY:
            return (Interval.DAY, Interval.WEEK, Interval.MONTH)
        if length <= MAX_WEEKLY:
            return (
                (Interval.MONTH, Interval.WEEK, Interval.DAY)
                if length > timedelta(days=300)
                else (
                    Interval.WEEK,
                    Interval.DAY,
                    Interval.MONTH,
                )
            )
        return (Interval.MONTH,)

    def buckets(self, interval: Interval) -> tuple[datetime, ...]:
        """When its buckets begin, UTC without a zone."""
        return buckets(interval, self.start, self.end, self.zone)

    def compared(self, comparison: Comparison) -> "Span | None":
        """The span that it is compared with, of the same length; None if with none."""
        if comparison is Comparison.NONE or self.period is Period.ALL:
            return None
        if comparison is Comparison.YEAR:
            return _of_days(Period.CUSTOM, _a_year_before(self.first), _a_year_before(self.last), self.zone)
        return self.earlier

    @property
    def earlier(self) -> "Span | None":
        """The one right before it; None if there is no such."""
        if self.period is Period.ALL:
            return None
        if self.period is Period.HOURS_24:
            return Span(self.period, self.zone, self.start - timedelta(hours=24), self.start)
        before = self.first - timedelta(days=1)
        if self.period is Period.CUSTOM:
            return _of_days(self.period, before - (self.last - self.first), before, self.zone)
        return of_period(self.period, before, self.zone)

    @property
    def later(self) -> "Span | None":
        """The one right after it; None if there is no such."""
        if self.period in {Period.ALL, Period.HOURS_24}:
            return None
        after = self.last + timedelta(days=1)
        if self.period in _DAYS or self.period is Period.CUSTOM:
            length = self.last - self.first
            return _of_days(self.period, after, after + length, self.zone)
        return of_period(self.period, after, self.zone)


def of_period(period: Period, day: date, zone: ZoneInfo) -> Span:
    """The days up to `day`; the month or the year that `day` is in.

    Raises:
        ValueError: a period that a day does not tell.
            Likewise if it begins or ends too far from today to be counted with.
    """
    if days := _DAYS.get(period):
        return _of_days(period, day - timedelta(days=days - 1), day, zone)
    if period is Period.MONTH:
        after = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
        return _of_days(period, day.replace(day=1), after - timedelta(days=1), zone)
    if period is Period.YEAR:
        return _of_days(period, day.replace(month=1, day=1), day.replace(month=12, day=31), zone)
    raise ValueError(f"no day tells the period {period}")


def of_days(first: date, last: date, zone: ZoneInfo) -> Span:
    """All days from `first` to `last`."""
    return _of_days(Period.CUSTOM, first, last, zone)


def last_24_hours(now: datetime, zone: ZoneInfo) -> Span:
    """The 24 hours up to the end of the present one; `now` is UTC without a zone."""
    end = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    return Span(Period.HOURS_24, zone, end - timedelta(hours=24), end)


def of_all(first: date, last: date, zone: ZoneInfo) -> Span:
    """From the day of a site's first event on."""
    span = _of_days(Period.ALL, first, last, zone)
    return Span(Period.ALL, zone, span.start, span.end)


def today(now: datetime, zone: ZoneInfo) -> date:
    """The day that `now` (UTC without a zone) is in."""
    return local(now, zone).date()


def _of_days(period: Period, first: date, last: date, zone: ZoneInfo) -> Span:
    whole = days(first, last, zone)
    return Span(period, zone, whole.start, whole.end)


def _a_year_before(day: date) -> date:
    try:
        return day.replace(year=day.year - 1)
    except ValueError:  # 29 February
        return day.replace(year=day.year - 1, day=28)
