"""The stretch of time that a page shows, with what comes before and after it."""
# ruff: noqa: DTZ001 - pages are made of moments that are UTC without saying so

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest

from footfall.database.buckets import Interval
from footfall.web.pages.span import Comparison, Period, last_24_hours, of_all, of_days, of_period

BERLIN = ZoneInfo("Europe/Berlin")
KATHMANDU = ZoneInfo("Asia/Kathmandu")


@pytest.mark.parametrize(
    ("period", "day", "first", "last"),
    [
        (Period.DAY, date(2026, 3, 29), date(2026, 3, 29), date(2026, 3, 29)),
        (Period.DAYS_7, date(2026, 3, 1), date(2026, 2, 23), date(2026, 3, 1)),
        (Period.DAYS_28, date(2026, 11, 25), date(2026, 10, 29), date(2026, 11, 25)),
        (Period.MONTH, date(2024, 2, 7), date(2024, 2, 1), date(2024, 2, 29)),
        (Period.YEAR, date(2026, 11, 25), date(2026, 1, 1), date(2026, 12, 31)),
    ],
)
def test_a_period_has_whole_days(period: Period, day: date, first: date, last: date) -> None:
    """A number of days ends with the day, which counts; a month and a year are those of the day."""
    span = of_period(period, day, BERLIN)

    assert (span.first, span.last) == (first, last)


def test_a_day_has_the_hours_of_its_zone() -> None:
    """A day begins at midnight there, a quarter to an hour included, and has 23 hours when clocks are set forward."""
    nepal = of_period(Period.DAY, date(2026, 11, 25), KATHMANDU)
    spring = of_period(Period.DAY, date(2026, 3, 29), BERLIN)

    assert (nepal.start, nepal.end) == (datetime(2026, 11, 24, 18, 15), datetime(2026, 11, 25, 18, 15))
    assert len(spring.buckets(Interval.HOUR)) == 23


@pytest.mark.parametrize(
    "period", [Period.DAY, Period.DAYS_7, Period.DAYS_28, Period.DAYS_91, Period.MONTH, Period.YEAR]
)
def test_spans_follow_each_other_without_a_gap(period: Period) -> None:
    """The span before ends where this one begins, and the one after it is this one again."""
    span = of_period(period, date(2026, 3, 31), BERLIN)
    earlier = span.earlier

    assert earlier is not None
    assert earlier.end == span.start
    assert earlier.later == span


def test_chosen_days_are_followed_by_as_many() -> None:
    """Days that somebody chose have as many before and after them."""
    span = of_days(date(2026, 3, 10), date(2026, 3, 12), BERLIN)

    assert span.earlier == of_days(date(2026, 3, 7), date(2026, 3, 9), BERLIN)
    assert span.later == of_days(date(2026, 3, 13), date(2026, 3, 15), BERLIN)


def test_a_span_is_compared_with_the_one_before_or_a_year_before() -> None:
    """The year before has the same days of the calendar, the 28th of February for the 29th."""
    span = of_period(Period.MONTH, date(2024, 2, 1), BERLIN)

    assert span.compared(Comparison.PREVIOUS) == of_period(Period.MONTH, date(2024, 1, 1), BERLIN)
    assert span.compared(Comparison.YEAR) == of_days(date(2023, 2, 1), date(2023, 2, 28), BERLIN)
    assert span.compared(Comparison.NONE) is None


def test_all_time_is_compared_with_nothing() -> None:
    """There is nothing before the first event, and nothing after today."""
    span = of_all(date(2024, 1, 1), date(2026, 11, 25), BERLIN)

    assert (span.first, span.last) == (date(2024, 1, 1), date(2026, 11, 25))
    assert (span.earlier, span.later, span.compared(Comparison.YEAR)) == (None, None, None)


def test_the_last_24_hours_end_with_the_present_hour() -> None:
    """The hour that is not over counts, so there are 24 buckets."""
    span = last_24_hours(datetime(2026, 11, 25, 13, 20), BERLIN)

    assert span.end == datetime(2026, 11, 25, 14)
    assert len(span.buckets(Interval.HOUR)) == 24


@pytest.mark.parametrize(
    ("first", "last", "interval"),
    [
        (date(2026, 3, 1), date(2026, 3, 2), Interval.HOUR),
        (date(2026, 3, 1), date(2026, 3, 31), Interval.DAY),
        (date(2026, 1, 1), date(2026, 3, 31), Interval.DAY),
        (date(2026, 1, 1), date(2026, 6, 30), Interval.WEEK),
        (date(2026, 1, 1), date(2026, 12, 31), Interval.MONTH),
        (date(2010, 1, 1), date(2026, 12, 31), Interval.MONTH),
    ],
)
def test_a_chart_has_as_many_points_as_can_be_told_apart(first: date, last: date, interval: Interval) -> None:
    """Short spans are shown by hours, long ones by months."""
    span = of_days(first, last, BERLIN)

    assert span.default_interval is interval
    assert len(span.buckets(interval)) <= 210
