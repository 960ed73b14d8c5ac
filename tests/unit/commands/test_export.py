"""Exported events: the text that is written, and what is accepted when it is read."""

import gzip
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from footfall.commands.export import Export, restorable_path
from footfall.commands.export import write_export as write_exported
from footfall.commands.logfile import LogFile
from footfall.database.contents import Format
from footfall.database.duckdb.contents import DuckdbContents
from footfall.database.duckdb.file import open_database
from footfall.database.duckdb.writer import DuckdbSink
from footfall.database.schema import NAMES
from footfall.entry import Entry, Event, Hit, encode_entries
from footfall.errors import BadUsageError, FootfallError
from footfall.queue.base import Batch, Progress

NOON = datetime(2025, 11, 12, 12, tzinfo=UTC)
NOON_NS = int(NOON.timestamp()) * 1_000_000_000
FIREFOX = b"Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0"

ENTRIES: list[Entry] = [
    Hit(NOON_NS + 987_654_321, "203.0.113.7", b"https://blog.example/a", FIREFOX, user_id="u1"),
    Event(
        NOON_NS,
        "203.0.113.7",
        b"",
        "my-site",
        "buy",
        path="/b\n\u2028\x00",
        occurred_us=-62_135_596_800_000_000,
        referrer="https://www.google.com/",
        props={"plan": "free", "x": 1.5, "none": None},
        event_id="1",
    ),
    Hit(NOON_NS, None, b"", b""),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.ndjson"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """One with `ENTRIES` in it."""
    with closing(open_database(tmp_path / "footfall.duckdb")) as connection:
        with closing(DuckdbSink(connection, lambda: NOON_NS)) as sink:
            sink.write([Batch("a", 7, 0, len(ENTRIES), encode_entries(ENTRIES))])
        yield connection


def write_export(
    database: duckdb.DuckDBPyConnection, path: Path, *, on_progress: Callable[[int], object] = lambda _: None
) -> int:
    """All events, and what a rebuild needs."""
    return write_exported(DuckdbContents(database), path, Format.NDJSON, is_restorable=True, on_progress=on_progress)


def documents(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]


def rows_of(path: Path) -> list[tuple[Any, ...]]:
    with LogFile(path) as file:
        export = Export(file)
        list(export.event_ids())
        return list(export.rows())


def test_an_export_is_text_that_others_can_read(database: duckdb.DuckDBPyConnection, path: Path) -> None:
    """A JSON object a line for each event, and nothing else; what a rebuild needs is beside it."""
    assert 2 == write_export(database, path)

    hit, event = documents(path)
    header, event_id = documents(restorable_path(path))
    made_at = header.pop("made_at")
    assert datetime.now(UTC) >= datetime.fromisoformat(made_at)
    assert {
        "footfall_export": 3,
        "event_ids": 1,
        "events": 2,
        "positions": {"a": {"sequence": 7, "written": 2, "skipped": {"no_site": 1}}},
    } == header
    assert "2025-11-12T12:00:00Z" == event_id["seen_at"]
    assert 32 == len(hit.pop("visitor"))
    assert {
        "time": "2025-11-12T12:00:00.000000Z",
        "site_id": "blog.example",
        "event_type": "page_view",
        "path": "/a",
        "user_id": "u1",
        "referrer": "https://blog.example/a",
        "source": None,
        "browser": "Firefox",
        "os": "Linux",
        "device": "desktop",
        "props": None,
        **dict.fromkeys(("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")),
        "hostname": "blog.example",
        "browser_version": "141",
        "user_agent": FIREFOX.decode(),
        **dict.fromkeys(("os_version", "bot", "screen", "language", "country", "region", "city", "click_id")),
        **dict.fromkeys(("scroll_depth", "engaged_ms", "is_interactive")),
    } == hit
    assert ("0001-01-01T00:00:00.000000Z", "Google", {"plan": "free", "x": 1.5, "none": None}) == (
        event["time"],
        event["source"],
        event["props"],
    )


@pytest.mark.parametrize("name", ["events.ndjson", "events.ndjson.gz"])
def test_what_is_read_is_what_was_written(database: duckdb.DuckDBPyConnection, tmp_path: Path, name: str) -> None:
    """Every column of every row, the ids, and the positions; compressed where the name says so."""
    path = tmp_path / name
    write_export(database, path)

    assert name.endswith(".gz") == path.read_bytes().startswith(b"\x1f\x8b")
    with LogFile(path) as file:
        export = Export(file)
        assert {"a": Progress(7, 0, 2, {"no_site": 1})} == export.progress()
        assert database.execute("SELECT id, seen_at FROM event_ids").fetchall() == list(export.event_ids())
        assert database.execute(f"SELECT {', '.join(NAMES)} FROM events").fetchall() == list(export.rows())
        assert file.size == export.consumed()


@given(visitor=st.integers(-(2**127), 2**127 - 1))
def test_a_visitor_is_read_to_the_last_bit(visitor: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """All 128 of them, the sign too."""
    path = tmp_path_factory.getbasetemp() / "visitor.ndjson"
    digits = visitor.to_bytes(16, "big", signed=True).hex()
    write_lines(path, HEADER, {**EVENT, "visitor": digits})
    assert [visitor] == [row[NAMES.index("visitor")] for row in rows_of(path)]


def test_sources_are_told_by_the_present_rules(path: Path) -> None:
    """The referrer is in an export, so a source that got a name since gets it in a rebuild."""
    write_lines(path, HEADER, {**EVENT, "referrer": "https://www.google.de/search", "source": "google.de"})
    assert ["Google"] == [row[NAMES.index("source")] for row in rows_of(path)]


def test_an_empty_database_can_be_exported(tmp_path: Path, path: Path) -> None:
    """It is a header, and nothing."""
    with closing(open_database(tmp_path / "footfall.duckdb")) as database:
        assert 0 == write_export(database, path)
    assert [] == rows_of(path)


def test_progress_counts_the_bytes(database: duckdb.DuckDBPyConnection, path: Path) -> None:
    """All bytes of them in the end."""
    steps: list[int] = []
    write_export(database, path, on_progress=steps.append)
    assert path.stat().st_size == sum(steps)


# Writing.


def test_an_export_replaces_an_older_one_when_it_is_whole(database: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Until then the older one stays; one that fails leaves nothing."""
    path.write_text("older")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(FootfallError, match=r"events\.ndjson can't be written: No space left on device"):
        write_export(database, path, on_progress=fail)
    assert "older" == path.read_text()
    assert {"events.ndjson"} == {file.name for file in path.parent.iterdir() if "duckdb" not in file.name}

    write_export(database, path)
    assert 2 == len(rows_of(path))


def test_an_export_is_not_for_everybody(database: duckdb.DuckDBPyConnection, path: Path) -> None:
    """It may hold names that pages sent as user ids."""
    write_export(database, path)
    assert 0 == path.stat().st_mode & 0o007


def test_what_is_no_file_is_not_replaced_by_one(database: duckdb.DuckDBPyConnection, path: Path) -> None:
    """As when root exports to /dev/stdout."""
    os.mkfifo(path)
    with pytest.raises(FootfallError, match=r"events\.ndjson can't be written: it is not a regular file\."):
        write_export(database, path)
    assert path.is_fifo()


def test_a_place_that_is_not_there_is_named(database: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """Nothing is made."""
    with pytest.raises(FootfallError, match=r"missing/events\.rebuild can't be written: No such file or directory\."):
        write_export(database, tmp_path / "missing" / "events")


# Reading.


HEADER: dict[str, Any] = {
    "footfall_export": 2,
    "made_at": "2025-11-12T12:00:00Z",
    "event_ids": 0,
    "events": 1,
    "positions": {},
}
EVENT: dict[str, Any] = {
    **dict.fromkeys(NAMES),
    "time": "2025-11-12T12:00:00.000123Z",
    "site_id": "a",
    "event_type": "page_view",
    "path": "/",
    "visitor": "f" * 32,
}


def write_lines(path: Path, *lines: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


@pytest.mark.parametrize("content", [b"\n", b"{}\n", b"[]\n", b"203.0.113.7 - -\n", b"\xff\n", b'{"footfall_export":'])
def test_what_is_no_export_is_refused(path: Path, content: bytes) -> None:
    """Before anything is made of it."""
    path.write_bytes(content)
    with LogFile(path) as file, pytest.raises(BadUsageError, match=r"events\.ndjson is not an export of Footfall's\."):
        Export(file)


def test_another_format_is_refused(path: Path) -> None:
    """A newer Footfall may have written it."""
    write_lines(path, {**HEADER, "footfall_export": 4})
    with LogFile(path) as file, pytest.raises(BadUsageError, match=r"has format 4; this Footfall reads formats 1 to 3"):
        Export(file)


def test_the_first_format_is_read_and_rounded(path: Path) -> None:
    """It has the microsecond in which a hit was received; what a client gave as the event's time stays."""
    received = "2025-11-12T13:00:00.000123+01:00"
    write_lines(
        path,
        {**HEADER, "footfall_export": 1, "event_ids": 1, "events": 2},
        {"id": "f" * 32, "seen_at": "2025-11-12T12:00:00.000123Z"},
        {**EVENT, "received_at": received},
        {**EVENT, "time": "2025-11-12T12:00:00.000124Z", "received_at": received},
    )
    noon = NOON.replace(tzinfo=None)
    with LogFile(path) as file:
        export = Export(file)
        assert [(-1, noon)] == list(export.event_ids())
        assert [noon, noon + timedelta(microseconds=124)] == [row[0] for row in export.rows()]


def test_an_event_of_the_first_format_has_its_receipt(path: Path) -> None:
    """A line without it is not whole."""
    write_lines(path, {**HEADER, "footfall_export": 1}, EVENT)
    with pytest.raises(BadUsageError, match=r"line 2: .*received_at"):
        rows_of(path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"visitor": "f"}, r"line 2: .*visitor"),
        ({"time": "2025-11-12T12:00:00"}, r"line 2: .*time"),
        ({"site_id": None}, r"line 2: .*site_id"),
        ({"path": 1}, r"line 2: .*path"),
    ],
)
def test_a_line_that_is_no_event_is_named(path: Path, change: dict[str, Any], text: str) -> None:
    """With its number, its field, and what is wrong."""
    write_lines(path, HEADER, {**EVENT, **change})
    with pytest.raises(BadUsageError, match=text):
        rows_of(path)


def test_an_export_must_be_whole(database: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Wherever it ends too early, or has lines behind its end."""
    write_export(database, path)
    content = path.read_bytes()
    header = content.index(b"\n") + 1
    for length in range(header, len(content), 37):
        path.write_bytes(content[:length])
        with pytest.raises(BadUsageError, match="is not whole"):
            rows_of(path)

    path.write_bytes(content + b"\n")
    with pytest.raises(BadUsageError, match=r"goes on after its last event, with line 3\."):
        rows_of(path)


def test_a_packed_export_must_be_whole(database: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """The text tells that it can't be unpacked."""
    path = tmp_path / "events.ndjson.gz"
    write_export(database, path)
    lines = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(lines.replace(b'"my-site"', b'"%s"' % os.urandom(200_000).hex().encode()))[:-9_000])
    with pytest.raises(BadUsageError, match=r"gz can't be read past line 1"):
        rows_of(path)
