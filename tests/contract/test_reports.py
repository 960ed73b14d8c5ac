"""What a report says, whichever database it is read from."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from itertools import count
from time import monotonic

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from figures import DAY, MIDNIGHT, ROLLED_KINDS, Figures, Row, figures_of
from footfall.database.reports import PathViews, Reports, Stats
from footfall.entry import PAGE_VIEW

NOTHING = Stats(0, 0, [])
NUMBERS = count()


DAYS = st.dates(DAY, DAY + timedelta(days=4))
ROWS = st.builds(
    Row,
    path=st.sampled_from(["/", "/a", "/b", "/B"]),
    visitor=st.integers(0, 3),
    time=st.builds(datetime.combine, DAYS, st.times()),
    site_id=st.sampled_from(["site", "site", "other"]),
    event_type=st.sampled_from([PAGE_VIEW, PAGE_VIEW, "click"]),
)


@pytest.fixture(params=ROLLED_KINDS)
def figures(request: pytest.FixtureRequest) -> Iterator[Figures]:
    with figures_of(request) as figures:
        yield figures


@pytest.fixture(params=ROLLED_KINDS, scope="module")
def kept_figures(request: pytest.FixtureRequest) -> Iterator[Figures]:
    """One database for many examples: each takes sites of its own."""
    with figures_of(request) as figures:
        yield figures


@pytest.fixture
def reports(figures: Figures) -> Reports:
    return figures.reports()


def all_time(reports: Reports, site_id: str = "site", limit: int = 10) -> Stats:
    return reports.stats(site_id, first=None, last=None, limit=limit)


def expected(rows: Sequence[Row], first: date | None, last: date | None, limit: int) -> Stats:
    """The contract, in Python."""
    counted = [
        row
        for row in rows
        if row.site_id == "site"
        and row.event_type == PAGE_VIEW
        and (first is None or first <= row.time.date())
        and (last is None or row.time.date() <= last)
    ]
    views = Counter(row.path for row in counted)
    top = sorted(views.items(), key=lambda item: (-item[1], item[0]))[:limit]
    return Stats(len(counted), len({row.visitor for row in counted}), [PathViews(*item) for item in top])


def test_only_page_views_of_the_site_count(figures: Figures, reports: Reports) -> None:
    """Other events, and other sites, change none of the figures."""
    figures.add(Row("/a"), Row("/a", 2), Row("/b"), Row("/b", 3, event_type="click"), Row("/b", 4, site_id="Site"))

    assert Stats(3, 2, [PathViews("/a", 2), PathViews("/b", 1)]) == all_time(reports)


def test_a_site_never_seen_gives_zeros(reports: Reports) -> None:
    """It is no error to ask for it."""
    assert all_time(reports, "never-seen") == NOTHING


def test_visitors_are_told_apart_exactly(figures: Figures, reports: Reports) -> None:
    """Two visitors whose 128-bit numbers differ in one bit are two."""
    visitors = [-(2**127), 2**127 - 1, 2**127 - 2, 2**64, 2**64 + 1, 0, 1, -1]
    figures.add(*(Row(visitor=visitor) for visitor in visitors + visitors))

    assert len(visitors) == all_time(reports).unique_users


def test_ties_are_in_the_order_of_code_points(figures: Figures, reports: Reports) -> None:
    """Paths viewed equally often have one order, whatever language the machine speaks."""
    paths = ["", "/", "/B", "/Z", "/a", "/a/", "/b", "/é", "/\uffff", "/😀"]
    figures.add(*(Row(path) for path in reversed(paths)))

    assert [PathViews(path, 1) for path in paths] == all_time(reports).top_paths


def test_as_many_paths_as_asked_for(figures: Figures, reports: Reports) -> None:
    """The limit cuts the list of paths, and nothing else."""
    figures.add(Row("/a"), Row("/b"), Row("/b"), Row("/c"))

    assert Stats(4, 1, [PathViews("/b", 2), PathViews("/a", 1)]) == all_time(reports, limit=2)


def test_a_day_is_from_midnight_to_midnight_utc(figures: Figures, reports: Reports) -> None:
    """The first microsecond of a day belongs to it, that of the next day does not."""
    microsecond, day = timedelta(microseconds=1), timedelta(days=1)
    figures.add(
        Row("/before", time=MIDNIGHT - microsecond),
        Row("/first", time=MIDNIGHT),
        Row("/last", time=MIDNIGHT + day - microsecond),
        Row("/after", time=MIDNIGHT + day),
    )

    stats = reports.stats("site", first=DAY, last=DAY, limit=10)

    assert [PathViews("/first", 1), PathViews("/last", 1)] == stats.top_paths


@pytest.mark.parametrize(("first", "last"), [(date.min, date.max), (date.min, None), (None, date.max)])
def test_the_ends_of_the_calendar_are_days_too(
    figures: Figures, reports: Reports, first: date | None, last: date | None
) -> None:
    """A range as wide as can be asked for holds everything."""
    figures.add(Row(), Row(time=datetime.combine(date.min, time.min)), Row(time=datetime.combine(date.max, time.max)))

    assert reports.stats("site", first=first, last=last, limit=10).total_views == 3


@settings(max_examples=50, deadline=None)
@given(st.lists(ROWS, max_size=20), st.none() | DAYS, st.none() | DAYS, st.integers(1, 5))
def test_the_figures_are_those_of_the_contract(
    kept_figures: Figures, rows: list[Row], first: date | None, last: date | None, limit: int
) -> None:
    """Over any events, days and limit the figures are what counting by hand gives."""
    number = next(NUMBERS)
    kept_figures.add(*(replace(row, site_id=f"{row.site_id}-{number}") for row in rows))

    stats = kept_figures.reports().stats(f"site-{number}", first=first, last=last, limit=limit)

    assert expected(rows, first, last, limit) == stats


@pytest.mark.parametrize(
    "site_id", ["' OR 1=1 --", "'; DROP TABLE events; --", "$site_id", "?", "%", "site\0", "si\\te", 'site"']
)
def test_a_site_id_is_only_ever_a_text(figures: Figures, reports: Reports, site_id: str) -> None:
    """SQL in it finds nothing but a site of that very name."""
    figures.add(Row(), Row("/odd", 7, site_id=site_id))

    assert Stats(1, 1, [PathViews("/odd", 1)]) == all_time(reports, site_id)
    assert all_time(reports).total_views == 1


def test_figures_fit_together_while_events_arrive(figures: Figures, reports: Reports) -> None:
    """A report made during writing is of one moment: its paths add up to its views."""
    enough = threading.Event()

    def write() -> None:
        visitor = 0
        while not enough.is_set():
            visitor += 1
            figures.add(Row("/a", visitor), Row("/b", visitor))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        made = [all_time(reports)]
        while len(made) < 20 or len({report.total_views for report in made}) < 5:
            made.append(all_time(reports))
    finally:
        enough.set()
        writer.join()

    for report in made:
        users = report.unique_users
        paths = [PathViews("/a", users), PathViews("/b", users)] if users else []
        assert Stats(2 * users, users, paths) == report
    assert sorted(report.total_views for report in made) == [report.total_views for report in made]


def test_several_threads_may_read(figures: Figures, reports: Reports) -> None:
    """One reader serves threads at the same time, each with the figures of its own site."""
    sites = [f"site-{number}" for number in range(4)]
    figures.add(*(Row(site_id=site, visitor=visitor) for site in sites for visitor in range(len(sites))))
    found: dict[str, list[Stats]] = {site: [] for site in sites}

    def read(site: str) -> None:
        for _ in range(20):
            found[site].append(all_time(reports, site))

    threads = [threading.Thread(target=read, args=(site,)) for site in sites]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert dict.fromkeys(sites, [Stats(4, 4, [PathViews("/", 4)])] * 20) == found


def test_a_report_that_takes_too_long_is_given_up(figures: Figures) -> None:
    """It ends with TimeoutError, in about the time it was given."""
    figures.make_slow()
    began = monotonic()

    with pytest.raises(TimeoutError):
        all_time(figures.reports(0.05))

    assert monotonic() - began < 10


def test_a_database_that_answers_is_no_trouble(figures: Figures) -> None:
    """Nor is one without a row."""
    assert None is figures.reports().trouble()
