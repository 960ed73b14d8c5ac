from datetime import date, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from footfall.database.buckets import Interval
from footfall.web.query_api.date_range import between, days
from footfall.web.query_api.times import interval_of, times


@pytest.mark.parametrize(
    ("first", "last", "interval"),
    [
        ("2025-11-12", "2025-11-13", Interval.HOUR),
        ("2025-11-12T00:00:00Z", "2025-11-14T00:00:00Z", Interval.DAY),
        ("2025-11-01", "2025-12-10", Interval.DAY),
        ("2025-11-01", "2025-12-11", Interval.WEEK),
        ("2024-11-04", "2025-11-02", Interval.WEEK),
        ("2024-11-04", "2025-11-03", Interval.MONTH),
    ],
)
def test_time_suits_the_length_of_the_range(first: str, last: str, interval: Interval) -> None:
    """Hours up to two days, days up to forty, weeks up to 52, else months."""
    assert interval is interval_of("time", between(first, last, ZoneInfo("UTC")))


@pytest.mark.parametrize("interval", list(Interval))
def test_an_interval_can_be_named(interval: Interval) -> None:
    """Whatever the length of the range."""
    assert interval is interval_of(f"time:{interval}", between("2025-11-12", "2025-11-13", ZoneInfo("UTC")))


@pytest.mark.parametrize(
    ("zone", "first", "last", "interval", "labels"),
    [
        ("UTC", "2025-11-12", "2025-11-14", Interval.DAY, ["2025-11-12", "2025-11-13", "2025-11-14"]),
        ("UTC", "2025-11-12", "2025-11-23", Interval.WEEK, ["2025-11-12", "2025-11-17"]),
        ("UTC", "2025-10-31", "2025-12-01", Interval.MONTH, ["2025-10-01", "2025-11-01", "2025-12-01"]),
        (
            "Asia/Kathmandu",
            "2025-11-12T00:30:00+05:45",
            "2025-11-12T02:00:00+05:45",
            Interval.HOUR,
            ["2025-11-12 00:00:00", "2025-11-12 01:00:00", "2025-11-12 02:00:00"],
        ),
        ("Pacific/Apia", "2011-12-29", "2011-12-31", Interval.DAY, ["2011-12-29", "2011-12-31"]),
        (
            "America/St_Johns",
            "2025-03-09T01:00:00-03:30",
            "2025-03-09T03:30:00-02:30",
            Interval.HOUR,
            ["2025-03-09 01:00:00", "2025-03-09 03:00:00"],
        ),
    ],
)
def test_buckets_have_the_labels_of_the_calendar(
    zone: str, first: str, last: str, interval: Interval, labels: list[str]
) -> None:
    """By the local clock; a first week that began before the range has the range's first day."""
    assert labels == list(times(interval, between(first, last, ZoneInfo(zone))).labels)


@pytest.mark.parametrize(
    ("zone", "hours"), [("Europe/Berlin", 2), ("America/St_Johns", 2), ("Australia/Lord_Howe", 1.5)]
)
def test_an_hour_that_occurs_twice_is_one_bucket(zone: str, hours: float) -> None:
    """So nothing of it hides behind an equal label."""
    day = {"Europe/Berlin": "2025-10-26", "America/St_Johns": "2025-11-02", "Australia/Lord_Howe": "2025-04-06"}[zone]
    cut = times(Interval.HOUR, between(day, day, ZoneInfo(zone)))
    lengths = [later - sooner for sooner, later in zip(cut.starts, cut.starts[1:], strict=False)]

    assert 24 == len(cut.labels) == len(set(cut.labels))
    assert [timedelta(hours=hours)] == [length for length in lengths if length != timedelta(hours=1)]


@given(
    zone=st.sampled_from(["UTC", "Asia/Kathmandu", "America/St_Johns", "America/Havana", "Pacific/Apia"]),
    first=st.dates(date(1990, 1, 1), date(2030, 1, 1)),
    length=st.integers(0, 70),
    interval=st.sampled_from([Interval.HOUR, Interval.DAY, Interval.WEEK, Interval.MONTH]),
)
def test_labels_are_unique_and_ascend(zone: str, first: date, length: int, interval: Interval) -> None:
    """In any time zone; the first bucket begins with the range, and all lie in it."""
    period = days(first, first + timedelta(days=length), ZoneInfo(zone))
    cut = times(interval, period)

    assert sorted(set(cut.labels)) == list(cut.labels)
    assert sorted(set(cut.starts)) == list(cut.starts)
    assert period.start == cut.starts[0]
    assert cut.starts[-1] < period.end


def test_a_minute_for_each_of_two_days_is_too_much() -> None:
    """The text says what the bound is."""
    with pytest.raises(ValueError, match="more than 2,000 buckets of one minute"):
        times(Interval.MINUTE, between("2025-11-12", "2025-11-13", ZoneInfo("UTC")))
