"""Roll-ups: whatever of them has been made, however it was cut short, reports say what the events say."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from footfall.database.duckdb import roll_up as module
from footfall.database.duckdb.days import RolledDays
from footfall.database.duckdb.file import open_database
from footfall.database.duckdb.reader import DuckdbReports
from footfall.database.duckdb.roll_up import RollUp
from footfall.database.duckdb.writer import DuckdbSink
from footfall.database.reports import Stats
from footfall.entry import Event, encode_entries
from footfall.failpoint import VARIABLE, Failpoint
from footfall.queue.base import Batch

START = datetime(2025, 1, 30, 12, tzinfo=UTC)
LATER = datetime(2025, 3, 20)  # noqa: DTZ001 - as the database has it
SITES = ["a.example", "b.example"]
RANGES = [
    (None, None),
    (date(2025, 1, 30), date(2025, 1, 30)),
    (date(2025, 1, 31), date(2025, 3, 1)),
    (date(2025, 2, 1), date(2025, 2, 28)),
    (None, date(2025, 2, 15)),
    (date(2025, 2, 20), None),
]


def event(hours: float, site_id: str = SITES[0], user_id: str | None = None, address: str = "192.0.2.1") -> Event:
    """An event some hours after `START`; each user has a page of its own besides."""
    moment = START + timedelta(hours=hours)
    seconds = int(moment.timestamp())
    path = f"/{user_id or int(hours) % 5}"
    return Event(
        seconds * 10**9, address, b"curl/8", site_id, "page_view", path=path, user_id=user_id,
        occurred_us=seconds * 1_000_000,
    )  # fmt: skip


EVENTS = [
    event(hours, SITES[hours % 2], f"user-{hours % 7}" if hours % 3 else None, f"192.0.2.{hours % 4}")
    for day in (0, 1, 2, 12, 30, 31)
    for hours in range(24 * day, 24 * day + 9, 2 + day % 2)
]
"""Six days from January to March, of users who come back and of people without a user id."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "footfall.duckdb"


@pytest.fixture
def database(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with closing(open_database(path)) as database:
        yield database


@pytest.fixture
def days(database: duckdb.DuckDBPyConnection) -> RolledDays:
    return RolledDays(database)


@pytest.fixture
def sink(database: duckdb.DuckDBPyConnection, days: RolledDays) -> Iterator[DuckdbSink]:
    with closing(DuckdbSink(database, days=days)) as sink:
        yield sink


@pytest.fixture
def roll_up(database: duckdb.DuckDBPyConnection, days: RolledDays) -> RollUp:
    return RollUp(database, days, lambda: LATER)


def write(sink: DuckdbSink, *events: Event) -> None:
    progress = sink.progress().get("q")
    sequence, before = (progress.sequence, progress.dealt_with) if progress else (0, 0)
    sink.write([Batch("q", sequence + 1, 0, len(events), encode_entries(list(events)), before=before)])


def answers(database: duckdb.DuckDBPyConnection) -> list[Stats]:
    reports = DuckdbReports(database, limit_s=30)
    return [reports.stats(site_id, first=first, last=last, limit=100) for site_id in SITES for first, last in RANGES]


def answers_without(database: duckdb.DuckDBPyConnection) -> list[Stats]:
    """What is answered where nothing is rolled up."""
    with closing(database.cursor()) as cursor:
        cursor.begin()
        kept = cursor.execute("SELECT day FROM rolled_days").fetchall()
        cursor.execute("DELETE FROM rolled_days")
        cursor.commit()
        found = answers(database)
        for row in kept:
            cursor.execute("INSERT INTO rolled_days VALUES (?)", row)
    return found


def count(database: duckdb.DuckDBPyConnection, what: str) -> int:
    with closing(database.cursor()) as cursor:
        [(number,)] = cursor.execute(f"SELECT count(*) FROM {what}").fetchall()
    return int(number)


def test_answers_are_the_same_after_each_step(
    database: duckdb.DuckDBPyConnection, sink: DuckdbSink, roll_up: RollUp
) -> None:
    """Days are rolled up one by one, then months, and no answer changes."""
    write(sink, *EVENTS)
    before = answers(database)
    assert len(EVENTS) == before[0].total_views + before[len(RANGES)].total_views
    while roll_up.step():
        assert before == answers(database)
    assert 6 == count(database, "rolled_days")
    assert 3 == count(database, "rolled_months"), "March is not over, and one site has nothing in February"


def test_rolled_up_rows_are_what_is_read(
    database: duckdb.DuckDBPyConnection, sink: DuckdbSink, roll_up: RollUp
) -> None:
    """Where everything is clean, the events are not needed."""
    write(sink, *EVENTS)
    before = answers(database)
    while roll_up.step():
        pass
    database.execute("DELETE FROM events")
    assert before == answers(database)


def test_a_late_event_counts_at_once_and_only_its_day_is_made_again(
    database: duckdb.DuckDBPyConnection, sink: DuckdbSink, roll_up: RollUp, days: RolledDays
) -> None:
    """It makes its day dirty in the transaction of its row; the next steps make that day, and its month, again."""
    write(sink, *EVENTS)
    while roll_up.step():
        pass
    before = answers(database)
    late = event(24 * 12 + 1, SITES[1], "somebody-new")
    write(sink, late, late)

    assert before[len(RANGES)].total_views + 2 == answers(database)[len(RANGES)].total_views
    assert answers_without(database) == answers(database)
    assert {(START + timedelta(hours=24 * 12 + 1)).date(): [SITES[1]]} == days.dirty()
    assert roll_up.step()
    assert {} == days.dirty()
    assert answers_without(database) == answers(database)
    assert roll_up.step()
    assert not roll_up.step()
    assert answers_without(database) == answers(database)


def test_an_event_that_comes_during_a_roll_up_is_not_lost(
    database: duckdb.DuckDBPyConnection,
    sink: DuckdbSink,
    roll_up: RollUp,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither the first time a day is rolled up nor when it is made again."""
    write(sink, *EVENTS)
    written = 0

    def reach(point: Failpoint, part: str = "") -> None:  # noqa: ARG001 - as the real one
        nonlocal written
        if point is Failpoint.ROLL_UP_READ and written < 9:
            written += 1
            write(sink, event(24 * 12, SITES[0], f"during-{written}"))

    monkeypatch.setattr(module, "reach", reach)
    while roll_up.step():
        pass
    assert answers_without(database) == answers(database)
    assert 9 == written
    assert sum(one.site_id == SITES[0] for one in EVENTS) + 9 == answers(database)[0].total_views


@pytest.mark.crash
@pytest.mark.parametrize(
    ("point", "time"),
    [
        (Failpoint.ROLL_UP_READ, 3),
        (Failpoint.ROLL_UP_MADE, 3),
        (Failpoint.ROLL_UP_COMMITTED, 3),
        (f"{Failpoint.ROLL_UP_MADE}.month", 1),
    ],
)
def test_a_kill_in_a_roll_up_changes_no_answer(path: Path, point: str, time: int) -> None:
    """Whatever a killed roll-up left, answers are those of the events, then and once it has gone on."""
    with closing(open_database(path)) as database:
        with closing(DuckdbSink(database)) as sink:
            write(sink, *EVENTS)
        expected = answers(database)
    rolling = (
        "from pathlib import Path\nfrom datetime import datetime\n"
        "from footfall.database.duckdb.file import open_database\n"
        "from footfall.database.duckdb.days import RolledDays\n"
        "from footfall.database.duckdb.roll_up import RollUp\n"
        f"database = open_database(Path({str(path)!r}))\n"
        f"roll_up = RollUp(database, RolledDays(database), lambda: datetime(2025, 3, 20))\n"
        "while roll_up.step(): pass\n"
    )
    environment = {VARIABLE: f"{point}:{time}", "PYTHONPATH": ":".join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", rolling], check=False, env=environment, timeout=60)
    assert -9 == ended.returncode

    with closing(open_database(path)) as database:
        assert expected == answers(database)
        roll_up = RollUp(database, RolledDays(database), lambda: LATER)
        while roll_up.step():
            pass
        assert expected == answers(database)


def test_what_is_dropped_is_nowhere_and_made_again(
    database: duckdb.DuckDBPyConnection, sink: DuckdbSink, roll_up: RollUp, days: RolledDays
) -> None:
    """Whoever erases events drops their days in the same transaction, and nobody is left in a derived table."""
    write(sink, *EVENTS)
    while roll_up.step():
        pass
    of_user = "FROM events WHERE user_id = 'user-1'"
    with closing(database.cursor()) as cursor, days.changing():
        cursor.begin()
        lost: list[Any] = cursor.execute(f"SELECT DISTINCT site_id, time::DATE {of_user}").fetchall()
        [visitors] = cursor.execute(f"SELECT list(DISTINCT visitor) {of_user}").fetchall()
        assert 0 < len(lost)
        cursor.execute(f"DELETE {of_user}")
        days.drop(cursor, lost)
        cursor.commit()
    for table in ("visits", "month_visitors"):
        with closing(database.cursor()) as cursor:
            left = f"SELECT count(*) FROM {table} WHERE visitor IN (SELECT unnest(?::HUGEINT[]))"
            assert [(0,)] == cursor.execute(left, visitors).fetchall()
    assert answers_without(database) == answers(database)
    while roll_up.step():
        pass
    assert answers_without(database) == answers(database)


def test_today_is_not_rolled_up(database: duckdb.DuckDBPyConnection, sink: DuckdbSink, days: RolledDays) -> None:
    """Nor is a day that has just ended, whose events may still be on their way."""
    write(sink, event(0), event(24))
    now = datetime(2025, 1, 31, 0, 4)  # noqa: DTZ001 - as the database has it
    roll_up = RollUp(database, days, lambda: now)
    assert not roll_up.step()
    now += timedelta(minutes=2)
    assert roll_up.step()
    assert [(date(2025, 1, 30),)] == database.execute("FROM rolled_days").fetchall()
