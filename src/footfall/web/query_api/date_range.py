"""The time that a request asks about: days of a time zone's calendar, or moments, as a range of UTC."""

import calendar
import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct

NAMED: Final = ("day", "24h", "month", "year", "all")
"""Ranges with a name, besides those of a number of days or months."""
DAYS: Final = "^([1-9][0-9]{0,2}|[1-4][0-9]{3}|5000)d$"
MONTHS: Final = "^([1-9][0-9]?|100)mo$"
"""So many days or months, as in `7d` and `12mo`: at most 5,000 and 100."""
DATE: Final = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
MOMENT: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})$"

_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
EARLIEST: Final = date(1, 1, 3)
LATEST: Final = date(9999, 12, 29)
"""Whatever the time zone, the days between these are moments that Python can hold."""


class Period(Struct, frozen=True):
    """A range of time.

    Attributes:
        start: when it begins, UTC without a zone.
        end: when it is over, likewise; not in it.
        zone: whose calendar and clock count.
        has_whole_days: it begins and ends at midnight there.
    """

    start: datetime
    end: datetime
    zone: ZoneInfo
    has_whole_days: bool = True

    @property
    def first_day(self) -> date:
        """The day in which it begins."""
        return local(self.start, self.zone).date()

    @property
    def last_day(self) -> date:
        """The day in which it ends."""
        return local(max(self.end - timedelta(microseconds=1), self.start), self.zone).date()

    @property
    def texts(self) -> list[str]:
        """Its first and its last second, ISO 8601 with the zone's offset."""
        last = max(self.end - _SECOND, self.start)
        return [local(moment, self.zone).isoformat(timespec="seconds") for moment in (self.start, last)]


def local(moment: datetime, zone: ZoneInfo) -> datetime:
    """What the clocks of a time zone show at a moment that is UTC without a zone."""
    return moment.replace(tzinfo=UTC).astimezone(zone)


def utc(moment: datetime) -> datetime:
    """The moment, UTC without a zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def days(first: date, last: date, zone: ZoneInfo) -> Period:
    """All of the days from the first to the last.

    Raises:
        ValueError: the last is before the first, or one is too far from today to be counted with.
    """
    if first > last:
        raise ValueError(f"{first} is after {last}")
    for day in (first, last):
        if not EARLIEST <= day <= LATEST:
            raise ValueError(f"must lie between {EARLIEST.isoformat()} and {LATEST.isoformat()}")
    return Period(_midnight(first, zone), _midnight(last + _DAY, zone), zone)


def named(name: str, today: date, zone: ZoneInfo, *, first_day: date) -> Period:
    """The days that a name stands for, which is not `24h`.

    So many days (`7d`) end yesterday, and so many months (`6mo`) with the last month, as Plausible has it. `month` and
    `year` are the whole calendar month and year of today, so they may end in the future.

    Args:
        name: one of `NAMED`, or as `DAYS` or `MONTHS` say.
        today: which day it is.
        zone: where.
        first_day: when `all` begins.
    """
    match name:
        case "day":
            return days(today, today, zone)
        case "month":
            return days(today.replace(day=1), month_end(today), zone)
        case "year":
            return days(today.replace(month=1, day=1), today.replace(month=12, day=31), zone)
        case "all":
            return days(min(max(first_day, EARLIEST), today), today, zone)
    if name.endswith("mo"):
        last_month = today.replace(day=1) - _DAY
        return days(months_before(last_month, int(name.removesuffix("mo")) - 1), last_month, zone)
    return days(today - int(name.removesuffix("d")) * _DAY, today - _DAY, zone)


def last_24_hours(now: datetime, zone: ZoneInfo) -> Period:
    """The 24 hours that end with the present second."""
    end = now.replace(microsecond=0) + _SECOND
    return Period(end - _DAY, end, zone, has_whole_days=False)


def between(first: str, last: str, zone: ZoneInfo) -> Period:
    """From one to another, both included: two days (`DATE`), or two moments (`MOMENT`), to the second.

    Raises:
        ValueError: one is neither, they are not of the same kind, in the wrong order or too far away.
    """
    if re.fullmatch(DATE, first) and re.fullmatch(DATE, last):
        return days(_date(first), _date(last), zone)
    if not (re.fullmatch(MOMENT, first) and re.fullmatch(MOMENT, last)):
        raise ValueError("must be two days, as in 2025-11-12, or two moments, as in 2025-11-12T09:30:00+01:00")
    start, end = _moment(first), _moment(last)
    if start > end:
        raise ValueError(f"{first} is after {last}")
    for moment in (start, end):
        days(moment.date(), moment.date(), zone)  # that can be counted with
    return Period(start, end.replace(microsecond=0) + _SECOND, zone, has_whole_days=False)


def month_end(day: date) -> date:
    """The last day of its month."""
    return day.replace(day=calendar.monthrange(day.year, day.month)[1])


def months_before(day: date, months: int) -> date:
    """The first day of the month so many months before that of `day`."""
    years, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    return date(years, month + 1, 1)


def previous(period: Period, today: date) -> Period:
    """As long a time, right before a period; of its days, those to come do not count.

    Raises:
        ValueError: it is too far away.
    """
    return _shifted(period, today, -_length(period, today))


def year_before(period: Period, today: date) -> Period:
    """The same time 365 days before; as `previous`."""
    return _shifted(period, today, -365 * _DAY)


def on_same_weekday(compared: Period, period: Period) -> Period:
    """The time nearest to `compared` that begins on the same day of the week as `period`, which it is not itself."""
    ahead = (period.first_day.weekday() - compared.first_day.weekday()) % 7
    move = ahead if ahead <= 3 else ahead - 7
    if compared.first_day + move * _DAY >= period.first_day:
        move -= 7
    return _moved(compared, move * _DAY)


def _length(period: Period, today: date) -> timedelta:
    if not period.has_whole_days:
        return period.end - period.start
    return _last_day_until(period, today) - period.first_day + _DAY


def _shifted(period: Period, today: date, by: timedelta) -> Period:
    if not period.has_whole_days:
        return _moved(period, by)
    return _moved(days(period.first_day, _last_day_until(period, today), period.zone), by)


def _last_day_until(period: Period, today: date) -> date:
    return max(period.first_day, min(period.last_day, today))


def _moved(period: Period, by: timedelta) -> Period:
    try:
        if period.has_whole_days:
            return days(period.first_day + by, period.last_day + by, period.zone)
        return Period(period.start + by, period.end + by, period.zone, has_whole_days=False)
    except OverflowError:
        raise ValueError("lies too far in the past") from None


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """When a day begins; where clocks skip midnight, that is when they do."""
    return utc(datetime.combine(day, time.min, zone))


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text} is not a day of the calendar") from None


def _moment(text: str) -> datetime:
    try:
        return utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise ValueError(f"{text} is not a moment of the calendar") from None
