import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import duckdb
import pytest
from footfall.reporting.queries import PathViews, Reader, Stats
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from footfall.event import PAGE_VIEW
from footfall.sinks.duckdb_file import open_database

DAY = date(2025, 11, 12)
MIDNIGHT = datetime.combine(DAY, time.min)  # without a zone: a TIMESTAMP holds UTC and does not say so
NOTHING = Stats(0, 0, [])


class Row(Struct, frozen=True):
    """What the figures depend on in a row of `events`."""

    path: str = "/"
    visitor: int = 1
    time: datetime = MIDNIGHT
    site_id: str = "site"
    event_type: str = PAGE_VIEW


DAYS = st.dates(DAY, DAY + timedelta(days=4))
ROWS = st.builds(
    Row,
    path=st.sampled_from(["/", "/a", "/b", "/B"]),
    visitor=st.integers(0, 3),
    time=st.builds(datetime.combine, DAYS, st.times()),
    site_id=st.sampled_from(["site", "site", "other"]),
    event_type=st.sampled_from([PAGE_VIEW, PAGE_VIEW, "click"]),
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with open_database(tmp_path / "footfall.duckdb") as database:
        yield database


@pytest.fixture
def reader(database: duckdb.DuckDBPyConnection) -> Reader:
    return Reader(database, limit_s=30)


def add(database: duckdb.DuckDBPyConnection, *rows: Row) -> None:
    database.begin()
    for row in rows:
        database.execute(
            "INSERT INTO events (time, received_at, site_id, event_type, path, visitor) VALUES (?, ?, ?, ?, ?, ?)",
            [row.time, row.time, row.site_id, row.event_type, row.path, row.visitor],
        )
    database.commit()


def all_time(reader: Reader, site_id: str = "site", limit: int = 10) -> Stats:
    return reader.stats(site_id, first=None, last=None, limit=limit)


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


def test_only_page_views_of_the_site_count(database: duckdb.DuckDBPyConnection, reader: Reader) -> None:
    """Other events, and other sites, change none of the figures."""
    add(database, Row("/a"), Row("/a", 2), Row("/b"), Row("/b", 3, event_type="click"), Row("/b", 4, site_id="Site"))

    assert Stats(3, 2, [PathViews("/a", 2), PathViews("/b", 1)]) == all_time(reader)


def test_a_site_never_seen_gives_zeros(reader: Reader) -> None:
    """It is no error to ask for it."""
    assert all_time(reader, "never-seen") == NOTHING


def test_visitors_are_told_apart_exactly(database: duckdb.DuckDBPyConnection, reader: Reader) -> None:
    """Two visitors whose 128-bit numbers differ in one bit are two."""
    visitors = [-(2**127), 2**127 - 1, 2**127 - 2, 2**64, 2**64 + 1, 0, 1, -1]
    add(database, *(Row(visitor=visitor) for visitor in visitors + visitors))

    assert len(visitors) == all_time(reader).unique_users


def test_ties_are_in_the_order_of_code_points(database: duckdb.DuckDBPyConnection, reader: Reader) -> None:
    """Paths viewed equally often have one order, whatever language the machine speaks."""
    paths = ["", "/", "/B", "/Z", "/a", "/a/", "/b", "/é", "/\uffff", "/😀"]
    add(database, *(Row(path) for path in reversed(paths)))

    assert [PathViews(path, 1) for path in paths] == all_time(reader).top_paths


def test_as_many_paths_as_asked_for(database: duckdb.DuckDBPyConnection, reader: Reader) -> None:
    """The limit cuts the list of paths, and nothing else."""
    add(database, Row("/a"), Row("/b"), Row("/b"), Row("/c"))

    assert Stats(4, 1, [PathViews("/b", 2), PathViews("/a", 1)]) == all_time(reader, limit=2)


def test_a_day_is_from_midnight_to_midnight_utc(database: duckdb.DuckDBPyConnection, reader: Reader) -> None:
    """The first microsecond of a day belongs to it, that of the next day does not."""
    microsecond, day = timedelta(microseconds=1), timedelta(days=1)
    add(
        database,
        Row("/before", time=MIDNIGHT - microsecond),
        Row("/first", time=MIDNIGHT),
        Row("/last", time=MIDNIGHT + day - microsecond),
        Row("/after", time=MIDNIGHT + day),
    )

    stats = reader.stats("site", first=DAY, last=DAY, limit=10)

    assert [PathViews("/first", 1), PathViews("/last", 1)] == stats.top_paths


@pytest.mark.parametrize(("first", "last"), [(date.min, date.max), (date.min, None), (None, date.max)])
def test_the_ends_of_the_calendar_are_days_too(
    database: duckdb.DuckDBPyConnection, reader: Reader, first: date | None, last: date | None
) -> None:
    """A range as wide as can be asked for holds everything."""
    add(database, Row(), Row(time=datetime.combine(date.min, time.min)), Row(time=datetime.combine(date.max, time.max)))

    assert reader.stats("site", first=first, last=last, limit=10).total_views == 3


@settings(max_examples=50, deadline=None)
@given(st.lists(ROWS, max_size=20), st.none() | DAYS, st.none() | DAYS, st.integers(1, 5))
def test_the_figures_are_those_of_the_contract(
    rows: list[Row], first: date | None, last: date | None, limit: int
) -> None:
    """Over any events, days and limit the figures are what counting by hand gives."""
    with TemporaryDirectory() as folder, open_database(Path(folder) / "footfall.duckdb") as database:
        add(database, *rows)

        stats = Reader(database, limit_s=30).stats("site", first=first, last=last, limit=limit)

    assert expected(rows, first, last, limit) == stats


@pytest.mark.parametrize(
    "site_id", ["' OR 1=1 --", "'; DROP TABLE events; --", "$site_id", "?", "%", "site\0", "si\\te", 'site"']
)
def test_a_site_id_is_only_ever_a_text(database: duckdb.DuckDBPyConnection, reader: Reader, site_id: str) -> None:
    """SQL in it finds nothing but a site of that very name."""
    add(database, Row(), Row("/odd", 7, site_id=site_id))

    assert Stats(1, 1, [PathViews("/odd", 1)]) == all_time(reader, site_id)
    assert all_time(reader).total_views == 1


def test_figures_fit_together_while_events_arrive(database: duckdb.DuckDBPyConnection, reader: Reader) -> None:
    """A report made during writing is of one moment: its paths add up to its views."""
    enough = threading.Event()

    def write() -> None:
        cursor = database.cursor()
        visitor = 0
        while not enough.is_set():
            visitor += 1
            add(cursor, Row("/a", visitor), Row("/b", visitor))
        cursor.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        reports = [all_time(reader)]
        while len(reports) < 20 or len({report.total_views for report in reports}) < 5:
            reports.append(all_time(reader))
    finally:
        enough.set()
        writer.join()

    for report in reports:
        users = report.unique_users
        paths = [PathViews("/a", users), PathViews("/b", users)] if users else []
        assert Stats(2 * users, users, paths) == report
    assert sorted(report.total_views for report in reports) == [report.total_views for report in reports]


def test_several_threads_may_read(database: duckdb.DuckDBPyConnection, reader: Reader) -> None:
    """One reader serves threads at the same time, each with the figures of its own site."""
    sites = [f"site-{number}" for number in range(4)]
    add(database, *(Row(site_id=site, visitor=visitor) for site in sites for visitor in range(len(sites))))
    found: dict[str, list[Stats]] = {site: [] for site in sites}

    def read(site: str) -> None:
        for _ in range(20):
            found[site].append(all_time(reader, site))

    threads = [threading.Thread(target=read, args=(site,)) for site in sites]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert dict.fromkeys(sites, [Stats(4, 4, [PathViews("/", 4)])] * 20) == found


def test_a_report_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    """It ends with TimeoutError, and the database is none the worse for it."""
    with duckdb.connect(tmp_path / "slow.duckdb") as database:
        database.execute(
            "CREATE VIEW events AS SELECT 'site' AS site_id, 'page_view' AS event_type, '/' AS path, "
            "i % 100 AS visitor, TIMESTAMP '2025-11-12' AS time FROM range(1_000_000_000_000) days(i)"
        )
        began = monotonic()

        with pytest.raises(TimeoutError):
            all_time(Reader(database, limit_s=0.05))

        assert monotonic() - began < 10
        assert database.execute("SELECT 42").fetchone() == (42,)


def test_the_limit_is_for_reports_alone(database: duckdb.DuckDBPyConnection) -> None:
    """Whoever writes to the same database has all the time it needs."""
    all_time(Reader(database, limit_s=5))

    assert database.execute("SELECT current_setting('max_execution_time')").fetchone() == (0,)
