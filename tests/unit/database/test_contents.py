"""What is taken out of a DuckDB database: which SQL may be run, and what is left when somebody stops early."""

import re
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from footfall.database.contents import EVERYTHING, BusyError, Format, Selection, SqlError
from footfall.database.duckdb.contents import MAX_AT_ONCE, DuckdbContents
from footfall.database.duckdb.file import open_database, outlet_of
from footfall.database.duckdb.writer import DuckdbSink
from footfall.entry import Event, encode_entries
from footfall.queue.base import Batch

NOON_NS = 1_762_948_800_000_000_000
MANY = 60_000


@pytest.fixture
def database(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with closing(open_database(tmp_path / "footfall.duckdb")) as connection:
        entries = [Event(NOON_NS, "192.0.2.1", b"", "shop", "page_view", path=f"/{number}") for number in range(3)]
        with closing(DuckdbSink(connection, lambda: NOON_NS)) as sink:
            sink.write([Batch("a", 7, 0, len(entries), encode_entries(entries))])
        yield connection


@pytest.fixture
def contents(database: duckdb.DuckDBPyConnection) -> DuckdbContents:
    return DuckdbContents(database)


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("SELECT nothing FROM events", 'Referenced column "nothing" not found'),
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("", "There is no statement."),
        ("SELECT 1; SELECT 2", "One statement at a time"),
        ("DROP TABLE events", "DROP is not for reading"),
        ("INSERT INTO events SELECT * FROM events", "INSERT is not for reading"),
        ("ATTACH 'x.duckdb'", "ATTACH is not for reading"),
        ("COPY events TO 'x.csv'", "COPY is not for reading"),
        ("INSTALL httpfs", "INSTALL is not for reading"),
        ("PRAGMA database_size", "PRAGMA is not for reading"),
        ("SET threads = 1", "SET is not for reading"),
        ("CHECKPOINT", "CHECKPOINT is not for reading"),
        ("EXPLAIN ANALYZE INSERT INTO events SELECT * FROM events", "EXPLAIN explains a SELECT"),
        ("WITH a AS (DELETE FROM events RETURNING 1) FROM a", "A statement that writes"),
        ('SELECT * FROM (SELECT salt FROM main."Salts")', "The table Salts is private"),
        ("SUMMARIZE event_ids", "The table event_ids is private"),
        ("FROM query('FROM salts')", "The table function query"),
        ("FROM query_table('salts')", "The table function query_table"),
        ("FROM pragma_storage_info('salts')", "The table function pragma_storage_info"),
        ("FROM read_text('/etc/passwd')", "The table function read_text"),
        ("FROM '/etc/passwd'", "/etc/passwd does not exist"),
        ("FROM force_checkpoint()", "The table function force_checkpoint"),
        ("SELECT [sleep_ms(x) FOR x IN [1]]", "The function sleep_ms"),
        ("EXPLAIN SELECT salt FROM salts", "The table salts is private"),
    ],
)
def test_what_is_not_for_reading_is_refused(contents: DuckdbContents, sql: str, text: str) -> None:
    """By its type, or by what it names, however it is written."""
    with pytest.raises(SqlError, match=re.escape(text)), contents.query(sql) as answer:
        list(answer.rows)
    with contents.query("SELECT count(*) AS events FROM events") as answer:
        assert (["events"], [[("3",)]]) == (answer.columns, list(answer.rows))


def test_errors_count_the_lines_as_they_were_typed(contents: DuckdbContents) -> None:
    """A person looks for the mistake in their own text."""
    with pytest.raises(SqlError, match="LINE 2: FROM nothing"), contents.query("SELECT 1\nFROM nothing"):
        pass


def test_a_query_that_takes_too_long_is_given_up(database: duckdb.DuckDBPyConnection) -> None:
    """As a report is."""
    contents = DuckdbContents(database, query_s=0.05)
    sql = "SELECT count(*) FROM range(100000000000) a WHERE hash(a) = 1"
    with pytest.raises(TimeoutError, match="it took too long"), contents.query(sql):
        pass


def test_no_more_than_some_are_made_at_once(contents: DuckdbContents) -> None:
    """The next one is told so, and has room when one has ended."""
    held = [contents.query("SELECT 1") for _ in range(MAX_AT_ONCE)]
    for one in held:
        one.__enter__()
    with pytest.raises(BusyError, match="being made already"), contents.query("SELECT 1"):
        pass
    for one in held:
        one.__exit__(None, None, None)
    with contents.query("SELECT 1 AS one") as answer:
        assert [[("1",)]] == list(answer.rows)


def multiply(database: duckdb.DuckDBPyConnection) -> None:
    """More events than a pipe holds."""
    one = "FROM (FROM events LIMIT 1) events, range($many) r(n)"
    database.execute(f"INSERT INTO events SELECT events.* REPLACE ('/' || n AS path) {one}", {"many": MANY})


@pytest.mark.parametrize("form", Format)
def test_whoever_stops_early_leaves_nothing(
    database: duckdb.DuckDBPyConnection, contents: DuckdbContents, form: Format
) -> None:
    """Neither a thread that goes on, nor a file, nor a transaction."""
    multiply(database)
    path = Path(outlet_of(Path(str(database.execute("SELECT path FROM duckdb_databases()").fetchall()[0][0]))))
    before = threading.active_count()
    for _ in range(MAX_AT_ONCE + 1):
        with contents.export(EVERYTHING, form) as exported:
            assert MANY + 3 == exported.events
            next(exported.parts)
    assert before == threading.active_count()
    assert not path.exists()


def test_a_slow_export_keeps_no_checkpoint_waiting(
    database: duckdb.DuckDBPyConnection, contents: DuckdbContents, tmp_path: Path
) -> None:
    """Rows are written, and brought into the file, while somebody reads those of before."""
    multiply(database)
    with contents.export(EVERYTHING, Format.NDJSON) as exported:
        first = next(exported.parts)
        entries = encode_entries([Event(NOON_NS, None, b"", "late", "page_view")])
        with closing(DuckdbSink(database, lambda: NOON_NS)) as sink:
            sink.write([Batch("a", 8, 0, 1, entries)])
        assert not (tmp_path / "footfall.duckdb.wal").exists()
        lines = (first + b"".join(exported.parts)).splitlines()
    assert MANY + 3 == len(lines)
    assert not any(b'"late"' in line for line in lines)


def test_events_of_a_site_and_a_time_are_chosen(contents: DuckdbContents) -> None:
    """The end is not among them."""
    noon = datetime(2025, 11, 12, 12)  # noqa: DTZ001 - UTC, as the database has it
    for selection, count in [
        (Selection("shop"), 3),
        (Selection("Shop"), 0),
        (Selection(start=noon), 3),
        (Selection(end=noon), 0),
    ]:
        with contents.export(selection, Format.NDJSON) as exported:
            assert (count, count) == (exported.events, b"".join(exported.parts).count(b"\n"))
