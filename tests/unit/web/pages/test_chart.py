"""Where the points, lines and labels of a chart are."""
# ruff: noqa: DTZ001 - pages are made of moments that are UTC without saying so

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from footfall.database.buckets import Interval
from footfall.web.pages.chart import Chart, Series, chart_of
from footfall.web.pages.span import Period, of_days, of_period
from footfall.web.pages.wording import Value

UTC = ZoneInfo("UTC")


def drawn(figures: list[Value], *, metric: str = "visitors", present: datetime = datetime(2030, 1, 1)) -> Chart:
    span = of_days(date(2026, 3, 1), date(2026, 3, len(figures)), UTC)
    return chart_of(
        metric,
        Series(span.buckets(Interval.DAY), tuple(figures)),
        None,
        interval=Interval.DAY,
        zone=UTC,
        end=span.end,
        present=present,
    )


def test_points_stand_from_the_left_to_the_right_and_the_greatest_highest() -> None:
    """Each bucket is a point with its name and figure; the top of the chart is a level."""
    chart = drawn([0, 50, 100])

    assert [(point.x, point.y) for point in chart.points] == [(0, 100), (50, 50), (100, 0)]
    assert [(point.name, point.text) for point in chart.points][-1] == ("Tue 3 Mar 2026", "100")
    assert chart.levels[-1].at == 0


@given(st.lists(st.none() | st.integers(0, 10**12), min_size=1, max_size=28))
def test_every_point_is_inside_of_the_chart(figures: list[Value]) -> None:
    """Whatever the figures are, no point is above the highest level, of which there are few."""
    chart = drawn(figures)

    assert all(0 <= point.y <= 100 for point in chart.points)
    assert 2 <= len(chart.levels) <= 6


@pytest.mark.parametrize(
    ("metric", "figures", "levels"),
    [
        ("visitors", [0], ["0", "1"]),
        ("visitors", [3], ["0", "1", "2", "3"]),
        ("visitors", [1_400], ["0", "500", "1k", "1.5k"]),
        ("bounce_rate", [31], ["0%", "25%", "50%", "75%", "100%"]),
        ("visit_duration", [150], ["0s", "1m 00s", "2m 00s", "3m 00s"]),
    ],
)
def test_levels_are_round(metric: str, figures: list[Value], levels: list[str]) -> None:
    """The lines across the chart stand at numbers that people would choose."""
    assert [level.text for level in drawn(figures, metric=metric).levels] == levels


def test_the_bucket_that_is_not_over_is_told_apart() -> None:
    """The line to a day that still goes on is a piece of its own, and days to come are not drawn."""
    chart = drawn([5, 6, 7, 0], present=datetime(2026, 3, 3, 12))

    assert chart.line.count("L") == 1
    assert chart.unfinished.count("L") == 1
    assert [point.text for point in chart.points] == ["5", "6", "7", ""]


def test_a_day_with_two_hours_of_one_name_has_a_point_for_each() -> None:
    """When clocks are set back, the hour that comes twice is two buckets."""
    berlin = ZoneInfo("Europe/Berlin")
    span = of_period(Period.DAY, date(2026, 10, 25), berlin)
    starts = span.buckets(Interval.HOUR)

    chart = chart_of(
        "visitors",
        Series(starts, (1,) * len(starts)),
        None,
        interval=Interval.HOUR,
        zone=berlin,
        end=span.end,
        present=datetime(2030, 1, 1),
    )

    assert len(chart.points) == 25
    assert [point.name for point in chart.points][2:4] == ["Sun 25 Oct, 02:00", "Sun 25 Oct, 02:00"]
