from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from footfall.web.query_api.date_range import (
    EARLIEST,
    LATEST,
    Period,
    between,
    days,
    last_24_hours,
    named,
    on_same_weekday,
    previous,
    year_before,
)

TODAY = date(2025, 11, 12)
BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia", "America/Havana"]


def span(period: Period) -> list[str]:
    """The first and the last day."""
    assert period.has_whole_days
    return [period.first_day.isoformat(), period.last_day.isoformat()]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("day", ["2025-11-12", "2025-11-12"]),
        ("1d", ["2025-11-11", "2025-11-11"]),
        ("7d", ["2025-11-05", "2025-11-11"]),
        ("28d", ["2025-10-15", "2025-11-11"]),
        ("30d", ["2025-10-13", "2025-11-11"]),
        ("91d", ["2025-08-13", "2025-11-11"]),
        ("5000d", ["2012-03-05", "2025-11-11"]),
        ("month", ["2025-11-01", "2025-11-30"]),
        ("1mo", ["2025-10-01", "2025-10-31"]),
        ("6mo", ["2025-05-01", "2025-10-31"]),
        ("12mo", ["2024-11-01", "2025-10-31"]),
        ("100mo", ["2017-07-01", "2025-10-31"]),
        ("year", ["2025-01-01", "2025-12-31"]),
        ("all", ["2024-02-29", "2025-11-12"]),
    ],
)
def test_a_name_stands_for_days_of_the_calendar(name: str, expected: list[str]) -> None:
    """A number of days ends yesterday, one of months with the last month, and everything else holds today."""
    assert expected == span(named(name, TODAY, BERLIN, first_day=date(2024, 2, 29)))


@pytest.mark.parametrize("first_day", [TODAY, TODAY + timedelta(days=1), date(9999, 12, 31)])
def test_all_is_today_where_nothing_is_older(first_day: date) -> None:
    """An event of the future does not turn the range round."""
    assert ["2025-11-12", "2025-11-12"] == span(named("all", TODAY, BERLIN, first_day=first_day))


@pytest.mark.parametrize(
    ("zone", "day", "texts", "hours"),
    [
        ("UTC", "2025-11-12", ["2025-11-12T00:00:00+00:00", "2025-11-12T23:59:59+00:00"], 24),
        ("Asia/Kathmandu", "2025-11-12", ["2025-11-12T00:00:00+05:45", "2025-11-12T23:59:59+05:45"], 24),
        ("America/St_Johns", "2025-11-02", ["2025-11-02T00:00:00-02:30", "2025-11-02T23:59:59-03:30"], 25),
        ("Europe/Berlin", "2025-03-30", ["2025-03-30T00:00:00+01:00", "2025-03-30T23:59:59+02:00"], 23),
        ("America/Santiago", "2024-09-08", ["2024-09-08T01:00:00-03:00", "2024-09-08T23:59:59-03:00"], 23),
        ("America/Havana", "2025-11-02", ["2025-11-02T00:00:00-04:00", "2025-11-02T23:59:59-05:00"], 25),
        ("Australia/Lord_Howe", "2025-04-06", ["2025-04-06T00:00:00+11:00", "2025-04-06T23:59:59+10:30"], 24.5),
    ],
)
def test_a_day_is_as_long_as_the_clocks_make_it(zone: str, day: str, texts: list[str], hours: float) -> None:
    """It begins at midnight, or where clocks skip midnight, right after; and ends where the next begins."""
    period = between(day, day, ZoneInfo(zone))

    assert texts == period.texts
    assert timedelta(hours=hours) == period.end - period.start


@given(zone=st.sampled_from(ZONES), day=st.dates(EARLIEST, LATEST - timedelta(days=1)))
def test_days_follow_one_another_without_a_gap(zone: str, day: date) -> None:
    """In any time zone, each ends with the moment in which the next begins."""
    zoned = ZoneInfo(zone)
    after = day + timedelta(days=1)
    assert days(day, day, zoned).end == days(after, after, zoned).start
    assert days(day, after, zoned).start == days(day, day, zoned).start


def test_moments_are_included_to_the_second() -> None:
    """Both of them, wherever their offsets are from, and the answer has them by the site's clock."""
    period = between("2025-11-12T09:30:00+05:45", "2025-11-12T04:00:00.5Z", BERLIN)

    assert not period.has_whole_days
    assert datetime(2025, 11, 12, 3, 45) == period.start  # noqa: DTZ001 - as in a query
    assert datetime(2025, 11, 12, 4, 0, 1) == period.end  # noqa: DTZ001 - as above
    assert ["2025-11-12T04:45:00+01:00", "2025-11-12T05:00:00+01:00"] == period.texts


def test_24_hours_end_with_the_present_second() -> None:
    """They are hours, whatever clocks do meanwhile."""
    period = last_24_hours(datetime(2025, 10, 26, 12, 0, 0, 5), BERLIN)  # noqa: DTZ001 - as above

    assert ["2025-10-25T14:00:01+02:00", "2025-10-26T13:00:00+01:00"] == period.texts


@pytest.mark.parametrize(
    ("first", "last", "reason"),
    [
        ("2025-11-13", "2025-11-12", "2025-11-13 is after 2025-11-12"),
        ("2025-02-30", "2025-03-01", "2025-02-30 is not a day of the calendar"),
        ("0001-01-01", "2025-03-01", "must lie between 0001-01-03 and 9999-12-29"),
        ("2025-01-01", "9999-12-31", "must lie between"),
        ("2025-11-12", "2025-11-12T00:00:00Z", "must be two days, .*, or two moments"),
        ("2025-11-12T00:00:00", "2025-11-13T00:00:00", "must be two days, .*, or two moments"),
        ("2025-11-12T10:00:00Z", "2025-11-12T10:00:00+01:00", "is after"),
        ("2025-11-12T25:00:00Z", "2025-11-13T00:00:00Z", "2025-11-12T25:00:00Z is not a moment"),
        ("0001-01-01T00:00:00+01:00", "2025-11-13T00:00:00Z", "is not a moment"),
        ("0001-01-01T00:00:00-01:00", "2025-11-13T00:00:00Z", "must lie between"),
        ("2025-11-12T00:00:00Z", "9999-12-31T23:59:59Z", "must lie between"),
    ],
)
def test_what_the_calendar_does_not_have_is_refused(first: str, last: str, reason: str) -> None:
    """The text says what is wrong with it."""
    with pytest.raises(ValueError, match=reason):
        between(first, last, BERLIN)


@pytest.mark.parametrize(
    ("first", "last", "before", "year"),
    [
        ("2025-11-03", "2025-11-09", ["2025-10-27", "2025-11-02"], ["2024-11-03", "2024-11-09"]),
        ("2025-11-01", "2025-11-30", ["2025-10-20", "2025-10-31"], ["2024-11-01", "2024-11-12"]),
        ("2025-11-20", "2025-11-30", ["2025-11-19", "2025-11-19"], ["2024-11-20", "2024-11-20"]),
        ("2025-03-30", "2025-03-30", ["2025-03-29", "2025-03-29"], ["2024-03-30", "2024-03-30"]),
    ],
)
def test_days_are_compared_with_as_many_before(first: str, last: str, before: list[str], year: list[str]) -> None:
    """Right before, or 365 days before; days to come are compared with nothing."""
    period = between(first, last, BERLIN)

    assert before == span(previous(period, TODAY))
    assert year == span(year_before(period, TODAY))


def test_moments_are_compared_with_as_long_before() -> None:
    """To the second, and not by the calendar."""
    period = between("2025-10-26T00:00:00+02:00", "2025-10-26T23:59:59+01:00", BERLIN)

    assert ["2025-10-24T23:00:00+02:00", "2025-10-25T23:59:59+02:00"] == previous(period, TODAY).texts


@given(
    first=st.dates(date(2000, 1, 1), date(2025, 1, 1)),
    length=st.integers(0, 60),
    zone=st.sampled_from(ZONES),
    mode=st.sampled_from([previous, year_before]),
)
def test_a_comparison_may_begin_on_the_same_weekday(first: date, length: int, zone: str, mode: object) -> None:
    """It is moved by less than a week, stays as long, and never begins where the period itself does."""
    assert callable(mode)
    period = days(first, first + timedelta(days=length), ZoneInfo(zone))
    plain = mode(period, TODAY)
    moved = on_same_weekday(plain, period)

    assert moved.first_day.weekday() == period.first_day.weekday()
    assert moved.last_day - moved.first_day == plain.last_day - plain.first_day
    assert moved.first_day < period.first_day
    assert abs(moved.first_day - plain.first_day) <= timedelta(days=7)


def test_a_comparison_before_all_times_is_refused() -> None:
    """It is no error of the program."""
    for mode in (previous, year_before):
        with pytest.raises(ValueError, match=r"between|too far"):
            mode(between("0001-01-05", "0400-01-05", BERLIN), TODAY)
        with pytest.raises(ValueError, match="too far"):
            mode(between("0001-01-05T00:00:00Z", "0400-01-05T00:00:00Z", BERLIN), TODAY)


def test_a_period_is_utc() -> None:
    """Without a zone, as a query has it."""
    assert days(TODAY, TODAY, BERLIN).start == datetime(2025, 11, 11, 23, tzinfo=UTC).replace(tzinfo=None)
