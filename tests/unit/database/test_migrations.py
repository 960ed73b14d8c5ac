"""Databases that earlier versions made: they are migrated where they are, and answer as before."""

import gzip
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any

import duckdb
import pytest

from clickhouse_server import ClickhouseServer
from footfall.database.clickhouse import migrations as clickhouse_migrations
from footfall.database.clickhouse.open import open_clickhouse
from footfall.database.clickhouse.reader import ClickhouseReports
from footfall.database.clickhouse.server import ClickhouseDatabase
from footfall.database.clickhouse.url import parse_url
from footfall.database.clickhouse.writer import ClickhouseSink
from footfall.database.duckdb.file import open_database, upgrade
from footfall.database.duckdb.migrations import FORMAT
from footfall.database.duckdb.reader import DuckdbReports
from footfall.database.duckdb.writer import DuckdbSink
from footfall.database.reports import PathViews, Reports, Stats
from footfall.entry import Event, encode_entries
from footfall.errors import FootfallError
from footfall.failpoint import VARIABLE, Failpoint
from footfall.queue.base import Batch, Progress

DATA = Path(__file__).parents[2] / "data"
SITE = "semicomplete"
ANSWERS = json.loads((DATA / "format-1.json").read_bytes())
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the database holds UTC without saying so
OLD_COLUMNS = (
    "time, received_at, site_id, event_type, path, visitor, user_id, referrer, source, browser, os, device, props"
)
KEPT = OLD_COLUMNS.removeprefix("time, received_at, ")
SENT_AGAIN = Event(1_795_599_999 * 10**9, "127.0.0.1", b"curl/8", SITE, "page_view", path="/posted", event_id="e-1")
"""An event that the old database counted, five minutes later."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that the first version made."""
    path = tmp_path / "footfall.duckdb"
    path.write_bytes(gzip.decompress((DATA / "format-1.duckdb.gz").read_bytes()))
    return path


@pytest.fixture
def old_rows(path: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect(path, read_only=True) as database:
        return database.execute(f"SELECT {OLD_COLUMNS} FROM events ORDER BY rowid").fetchall()


def rounded(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """What the rows are to be: times of receipt to the second, all else as it was."""
    return [(time.replace(microsecond=0) if time == received else time, *rest) for time, received, *rest in rows]


def answers_of(reports: Reports) -> list[Stats]:
    return [
        reports.stats(SITE, first=first, last=last, limit=int(asked.get("limit", 10)))
        for asked in (answer["asked"] for answer in ANSWERS)
        for first, last in [(day(asked, "from"), day(asked, "to"))]
    ]


def day(asked: dict[str, str], name: str) -> date | None:
    text = asked.get("date") or asked.get(name)
    return date.fromisoformat(text) if text else None


def expected_answers() -> list[Stats]:
    """What the version that made the database said."""
    return [
        Stats(
            answer["answer"]["total_views"],
            answer["answer"]["unique_users"],
            [PathViews(one["path"], one["views"]) for one in answer["answer"]["top_paths"]],
        )
        for answer in ANSWERS
    ]


def shape_of(database: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    return database.execute(
        "SELECT table_name, column_name, column_index, data_type, is_nullable, column_default FROM duckdb_columns() "
        "WHERE NOT internal ORDER BY ALL"
    ).fetchall()


def open_in_a_process_that_dies(opening: str, point: Failpoint) -> int:
    """Run Python code in a process that is killed at a failpoint; its exit code."""
    environment = {VARIABLE: f"{point}:1", "PYTHONPATH": ":".join(sys.path)}
    return subprocess.run([sys.executable, "-c", opening], check=False, env=environment, timeout=60).returncode


# DuckDB.


def test_a_database_of_the_first_format_is_migrated(
    path: Path, old_rows: list[tuple[Any, ...]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It has the tables of a new one, every row, and gives the answers that the old version gave; the log says so."""
    assert 306 == len(old_rows)
    caplog.set_level("INFO")
    with closing(open_database(path)) as database, closing(open_database(tmp_path / "new.duckdb")) as new:
        assert shape_of(new) == shape_of(database)
        assert new.execute("FROM format").fetchall() == database.execute("FROM format").fetchall() == [(FORMAT,)]
        assert rounded(old_rows) == database.execute(f"SELECT time, {KEPT} FROM events ORDER BY rowid").fetchall()
        assert expected_answers() == answers_of(DuckdbReports(database, limit_s=30))
    assert [
        f"{path}: migration to format 2: times of receipt are kept to the second, once",
        f"{path}: migration to format 2: done",
        f"{path}: migration to format 3: an event id that comes from another address is told apart",
        f"{path}: migration to format 3: done",
        f"{path}: migration to format 4: the campaign that led to a page has columns",
        f"{path}: migration to format 4: done",
        f"{path}: migration to format 5: bots have names; places, screens, versions and engagement have columns",
        f"{path}: migration to format 5: done",
        f"{path}: migration to format 6: erasures are recorded",
        f"{path}: migration to format 6: done",
        f"{path}: migration to format 7: visits and views of pages are kept by days and months, for reports",
        f"{path}: migration to format 7: done",
    ] == [record.message.partition(" in ")[0] for record in caplog.records]


def test_a_bot_of_an_older_format_gets_a_name(path: Path) -> None:
    """That of its browser's family; nobody else has one."""
    with closing(open_database(path)) as database:
        bots = database.execute("SELECT count(*), count(bot), count(*) FILTER (bot = browser) FROM events").fetchall()
        [(devices,)] = database.execute("SELECT count(*) FROM events WHERE device = 'bot'").fetchall()
    assert 0 < devices < 306
    assert [(306, devices, devices)] == bots


def test_no_more_than_the_second_of_a_receipt_is_left(path: Path) -> None:
    """Not of hits, not of events, not of event ids; times that clients gave stay as they were."""
    with closing(open_database(path)) as database:
        [(fractions,)] = database.execute(
            "SELECT list(DISTINCT path ORDER BY path) FROM events WHERE time != date_trunc('second', time)"
        ).fetchall()
        seen = database.execute("SELECT seen_at FROM event_ids").fetchall()
    assert ["/old", "/posted"] == fractions
    assert [0] == [seen_at.microsecond for (seen_at,) in seen]


def test_a_migrated_database_goes_on(path: Path) -> None:
    """Positions and event ids are kept: an event sent again is still known."""
    with closing(open_database(path)) as database, closing(DuckdbSink(database)) as sink:
        [(source, before)] = sink.progress().items()
        sequence = before.sequence + 1
        sink.write([Batch(source, sequence, 0, 1, encode_entries([SENT_AGAIN]), before=before.dealt_with)])
        assert Progress(sequence, before.safe_sequence, 306, {"duplicate": 2}) == sink.progress()[source]


@pytest.mark.crash
@pytest.mark.parametrize("point", [Failpoint.MIGRATION_MADE, Failpoint.MIGRATION_COMMITTED])
def test_a_kill_in_a_migration_leaves_one_format_or_the_other(
    path: Path, old_rows: list[tuple[Any, ...]], point: Failpoint
) -> None:
    """Before the commit all is as it was, after it all is new; the next start has all rows either way."""
    opening = f"from footfall.database.duckdb.file import *; open_database(Path({str(path)!r}))"
    assert -9 == open_in_a_process_that_dies(opening, point)

    with duckdb.connect(path, read_only=True) as database:
        is_old = point == Failpoint.MIGRATION_MADE
        assert [(1 if is_old else 2,)] == database.execute("FROM format").fetchall()
        time = OLD_COLUMNS if is_old else f"time, {KEPT}"
        found = database.execute(f"SELECT {time} FROM events ORDER BY rowid").fetchall()
        assert (old_rows if is_old else rounded(old_rows)) == found
    with closing(open_database(path)) as database:
        assert rounded(old_rows) == database.execute(f"SELECT time, {KEPT} FROM events ORDER BY rowid").fetchall()


def test_a_migration_without_room_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before it begins, with what it needs."""
    before = path.read_bytes()
    usage = shutil.disk_usage(path)
    needed = 306 * (32 + 32) + 16 * 1024 * 1024
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(FootfallError, match=f"{path} has format 1 .* needs {needed:,} bytes of free disk"):
        open_database(path)
    assert before == path.read_bytes()


def test_a_database_is_not_migrated_by_reading(path: Path) -> None:
    """Whoever only reads changes nothing, as a rebuild that reads the old one; `upgrade` is for an export."""
    before = path.read_bytes()
    open_database(path, read_only=True).close()
    assert before == path.read_bytes()
    upgrade(path)
    with closing(open_database(path, read_only=True)) as database:
        assert [(FORMAT,)] == database.execute("FROM format").fetchall()


# ClickHouse.

IN_CLICKHOUSE = pytest.mark.xdist_group("clickhouse")


@pytest.fixture
def url(clickhouse: ClickhouseServer, old_rows: list[tuple[Any, ...]]) -> str:
    """A database with the tables of the first format, and the same rows, in batches of ten."""
    url = clickhouse.url(f"migrated_{token_hex(8)}")
    with closing(ClickhouseDatabase(parse_url(url))) as database:
        for statement in (DATA / "format-1.clickhouse.sql").read_text().replace("@db@", database.name).split(";\n"):
            if statement:
                database.run(statement)
        database.insert("format", {"version": "UInt32"}, [(1,)])
        kinds = {"time": "DateTime64(6, 'UTC')", "received_at": "DateTime64(6, 'UTC')", "visitor": "Int128"}
        types = {name: kinds.get(name, "String") for name in OLD_COLUMNS.split(", ")}
        types |= {"queue": "String", "sequence": "UInt64", "event_key": "Int128"}
        database.insert("events", types, [old_row(number, row) for number, row in enumerate(old_rows)])
        position = {"source": "String", "sequence": "UInt64", "written": "UInt64", "skipped": "String"}
        database.insert("positions", position, [("a", len(old_rows) // 10, len(old_rows), "{}")])
    return url


def old_row(number: int, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """As the first version inserted it; every seventh is of an event with an id."""
    time, received, *rest = row
    texts = ["" if value is None else value for value in rest]
    return microseconds(time), microseconds(received), *texts, "a", number // 10, 0 if number % 7 else number + 1


def microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def new_row(number: int, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """What `old_row` is to become."""
    *old, queue, sequence, key = old_row(number, row)
    time, received = old[:2]
    second = received // 1_000_000 * 1_000_000
    return second if time == received else time, *old[2:], queue, sequence, key, second if key else 0


def rows_in(database: ClickhouseDatabase) -> list[tuple[Any, ...]]:
    return database.query(
        f"SELECT toUnixTimestamp64Micro(time), {KEPT}, queue, sequence, event_key, toUnixTimestamp64Micro(seen_at) "
        f"FROM {database.name}.events ORDER BY ALL"
    )


def assert_migrated(database: ClickhouseDatabase, old_rows: list[tuple[Any, ...]]) -> None:
    """It has the tables of a new one and no other, and every row once."""
    assert sorted(new_row(number, row) for number, row in enumerate(old_rows)) == rows_in(database)
    assert {"format", "events", "positions", "salts", "doubles", "event_ids"} == database.engines().keys()
    assert [(clickhouse_migrations.FORMAT,)] == database.query(f"SELECT DISTINCT version FROM {database.name}.format")
    assert expected_answers() == answers_of(ClickhouseReports(database, limit_s=30))
    [(bots, named)] = database.query(
        f"SELECT countIf(device = 'bot'), countIf(bot != '' AND bot = browser) FROM {database.name}.events"
    )
    assert 0 < bots == named
    assert {"a": Progress(30, 30, 306)} == ClickhouseSink(database, is_exclusive=True).progress()


def tables_of(database: ClickhouseDatabase) -> list[list[tuple[Any, ...]]]:
    """What its tables are like, but for the order of their columns, which nothing depends on."""
    return [
        database.query(query, {"name": database.name})
        for query in (
            "SELECT name, engine_full, sorting_key FROM system.tables WHERE database = {name:String} ORDER BY ALL",
            "SELECT table, name, type FROM system.columns WHERE database = {name:String} ORDER BY ALL",
            (
                "SELECT table, name, type_full, expr, granularity FROM system.data_skipping_indices "
                "WHERE database = {name:String} ORDER BY ALL"
            ),
        )
    ]


@IN_CLICKHOUSE
def test_tables_of_the_first_format_are_migrated(
    url: str, old_rows: list[tuple[Any, ...]], clickhouse: ClickhouseServer, caplog: pytest.LogCaptureFixture
) -> None:
    """They are those of a new database then, with the same rows and answers; the log tells how far it has come."""
    caplog.set_level("INFO")
    with (
        closing(open_clickhouse(url)) as database,
        closing(open_clickhouse(clickhouse.url(f"new_{token_hex(8)}"))) as new,
    ):
        assert_migrated(database, old_rows)
        assert tables_of(new) == tables_of(database)
    assert f"{database.name}: migration to format 2: 100 %" in [record.message for record in caplog.records]


@IN_CLICKHOUSE
@pytest.mark.crash
@pytest.mark.parametrize("point", [Failpoint.MIGRATION_RENAMED, Failpoint.MIGRATION_COPIED])
def test_a_kill_in_a_migration_of_tables_is_made_up_for(
    url: str, old_rows: list[tuple[Any, ...]], point: Failpoint
) -> None:
    """The next start does what is left; the older version is kept out meanwhile."""
    opening = f"from footfall.database.clickhouse.open import *; open_clickhouse({url!r})"
    assert -9 == open_in_a_process_that_dies(opening, point)

    with closing(ClickhouseDatabase(parse_url(url))) as between:
        assert {1, 2} == {number for (number,) in between.query(f"SELECT version FROM {between.name}.format")}
        assert "events" not in between.engines()
    with closing(open_clickhouse(url)) as database:
        assert_migrated(database, old_rows)


@IN_CLICKHOUSE
def test_many_may_migrate_at_once(url: str, old_rows: list[tuple[Any, ...]]) -> None:
    """Services start at the same moment: each row is there once, whoever copied it."""
    with ThreadPoolExecutor(4) as pool:
        for opened in [pool.submit(open_clickhouse, url) for _ in range(4)]:
            opened.result().close()
    with closing(open_clickhouse(url)) as database:
        assert_migrated(database, old_rows)


@IN_CLICKHOUSE
def test_a_table_that_the_older_version_made_meanwhile_is_named(url: str) -> None:
    """What there was is not touched, and the text says where it is."""
    with closing(ClickhouseDatabase(parse_url(url))) as old:
        name = old.name
        old.run(f"RENAME TABLE {name}.events TO {name}.events_format_1")
        old.run(f"CREATE TABLE {name}.events AS {name}.events_format_1")
        with pytest.raises(FootfallError, match="drop events, and start again: all rows are in events_format_1"):
            open_clickhouse(url)
        assert [(306,)] == old.query(f"SELECT count() FROM {name}.events_format_1")


@IN_CLICKHOUSE
def test_tables_without_a_row_are_migrated(url: str) -> None:
    """There is nothing to copy."""
    with closing(ClickhouseDatabase(parse_url(url))) as old:
        old.run(f"TRUNCATE TABLE {old.name}.events")
    with closing(open_clickhouse(url)) as database:
        assert [] == rows_in(database)
