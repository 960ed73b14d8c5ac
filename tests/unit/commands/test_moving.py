"""From DuckDB to ClickHouse and back: nothing is lost on the way, and nothing there twice."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from clickhouse_server import ClickhouseServer
from footfall.commands.export import Export, write_export
from footfall.commands.logfile import LogFile
from footfall.commands.rebuild.clickhouse import ClickhouseHoldings, fill
from footfall.commands.rebuild.holdings import DuckdbHoldings, ExportHoldings, Holdings
from footfall.commands.rebuild.run import rebuild
from footfall.database.clickhouse.open import open_clickhouse
from footfall.database.clickhouse.server import ClickhouseDatabase
from footfall.database.clickhouse.url import parse_url
from footfall.database.clickhouse.writer import ClickhouseSink
from footfall.database.contents import Format
from footfall.database.duckdb.contents import DuckdbContents as Exporter
from footfall.database.duckdb.file import open_database
from footfall.database.duckdb.writer import DuckdbSink
from footfall.database.schema import Row
from footfall.entry import Entry, Event, Hit, encode_entries
from footfall.errors import BadUsageError, FootfallError
from footfall.queue.base import Batch, Progress
from footfall.queue.sink import Sink
from footfall.settings import DatabaseSettings

pytestmark = pytest.mark.xdist_group("clickhouse")

NOW_NS = int(datetime.now(UTC).timestamp()) * 1_000_000_000
AGENT = b"Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0"


def batch(sequence: int) -> Batch:
    """Of everything that a column can hold; the event of each batch has an id, and comes again in the next."""
    entries: list[Entry] = [
        Hit(NOW_NS, "203.0.113.7", b"https://blog.example/a?utm_source=mail", AGENT),
        Hit(NOW_NS, f"203.0.113.{sequence}", b"https://www.google.com/", b"", "shop", f"/{sequence}", host=""),
        Event(0, None, b"", "shop", "engagement", None, "user-1", 5, None, {"plan": "team"}, scroll_depth=0),
        *(
            Event(NOW_NS, "::1", AGENT, "shop", "page_view", f"/{number}", event_id=str(number), interactive=False)
            for number in (sequence, sequence + 1)
        ),
        Hit(NOW_NS, "203.0.113.7", b"", b""),
    ]
    return Batch("a", sequence, 0, len(entries), encode_entries(entries), before=len(entries) * (sequence - 1))


BATCHES = [batch(sequence) for sequence in range(1, 6)]


class Place:
    """The two databases."""

    def __init__(self, directory: Path, url: str) -> None:
        self.duckdb = directory / "footfall.duckdb"
        self.url = url

    def write_duckdb(self, batches: Sequence[Batch]) -> Mapping[str, Progress]:
        with closing(open_database(self.duckdb)) as database, closing(DuckdbSink(database)) as sink:
            return written(sink, batches)

    def write_clickhouse(self, batches: Sequence[Batch]) -> Mapping[str, Progress]:
        with closing(open_clickhouse(self.url)) as database:
            return written(ClickhouseSink(database, is_exclusive=False), batches)

    def to_clickhouse(self, **kwargs: Any) -> int:
        with (
            closing(open_clickhouse(self.url)) as database,
            closing(open_database(self.duckdb, read_only=True)) as source,
        ):
            return fill(database, DuckdbHoldings(source), **kwargs)

    def to_duckdb(self) -> int:
        with closing(open_clickhouse(self.url)) as database:
            return rebuild(self.duckdb, None, first=ClickhouseHoldings(database)).events

    def duckdb_has(self) -> tuple[object, ...]:
        with closing(open_database(self.duckdb, read_only=True)) as database:
            return contents_of(DuckdbHoldings(database))

    def clickhouse_has(self) -> tuple[object, ...]:
        with closing(open_clickhouse(self.url)) as database:
            return contents_of(ClickhouseHoldings(database))


def written(sink: Sink, batches: Sequence[Batch]) -> Mapping[str, Progress]:
    sink.write(batches)
    return {
        source: Progress(progress.sequence, 0, progress.written, progress.skipped)
        for source, progress in sink.progress().items()
    }


def contents_of(contents: Holdings) -> tuple[object, ...]:
    """All there is, in an order that does not depend on the database."""
    ids = sorted(contents.event_ids())
    rows: list[Row] = sorted(contents.rows(DatabaseSettings()), key=str)
    return ids, rows, sorted(contents.salts()), contents.progress()


@pytest.fixture
def place(tmp_path: Path, clickhouse: ClickhouseServer) -> Place:
    return Place(tmp_path, clickhouse.url(f"move_{token_hex(8)}"))


def test_duckdb_moves_to_clickhouse(place: Place) -> None:
    """Every row, id, salt and position; what comes again after the move still counts once, today's visitors too."""
    place.write_duckdb(BATCHES[:3])
    before = place.duckdb_has()

    assert 16 - 4 + 1 == place.to_clickhouse()

    assert before == place.clickhouse_has()
    assert place.write_duckdb(BATCHES) == place.write_clickhouse(BATCHES)
    assert [place.duckdb_has()[part] for part in (1, 2, 3)] == [place.clickhouse_has()[part] for part in (1, 2, 3)]


def test_clickhouse_moves_to_duckdb(place: Place) -> None:
    """Likewise, the way back."""
    place.write_clickhouse(BATCHES[:3])
    before = place.clickhouse_has()

    assert 13 == place.to_duckdb()

    assert before == place.duckdb_has()
    assert place.write_clickhouse(BATCHES) == place.write_duckdb(BATCHES)
    assert place.clickhouse_has() == place.duckdb_has()


def test_what_moves_to_and_fro_is_what_it_was(place: Place) -> None:
    """Rows that were moved into ClickHouse move on like all others."""
    place.write_duckdb(BATCHES)
    before = place.duckdb_has()
    place.to_clickhouse()
    place.duckdb.unlink()

    place.to_duckdb()

    assert before == place.duckdb_has()


def test_rows_behind_the_position_do_not_move(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor died before it moved the position: the queue brings them again."""
    place.write_clickhouse(BATCHES[:1])
    with closing(open_clickhouse(place.url)) as database:
        sink = ClickhouseSink(database, is_exclusive=True)
        monkeypatch.setattr(sink, "_move", lambda *_: None)
        sink.write(BATCHES[1:2])
        assert [(9,)] == database.query(f"SELECT count() FROM {database.name}.events")

    assert 5 == place.to_duckdb()
    place.write_duckdb(BATCHES[:2])
    assert 9 == len(rows_of(place.duckdb))


def test_events_that_two_processors_wrote_move_once(place: Place) -> None:
    """The ledger of the new database has the second as a duplicate."""
    event = Event(NOW_NS, "::1", b"", "shop", "page_view", "/", event_id="1")
    with closing(open_clickhouse(place.url)) as database:
        sinks = [ClickhouseSink(database, is_exclusive=False) for _ in range(2)]
        for number, sink in enumerate(sinks):
            sink._seen = lambda *_: {}  # type: ignore[method-assign]  # noqa: SLF001 - as if at the same moment
            sink.write([Batch(f"{number}", 1, 0, 1, encode_entries([event]))])

    assert 1 == place.to_duckdb()
    assert [{}, {"duplicate": 1}] == [progress.skipped for _, progress in sorted(place.write_duckdb([]).items())]


def test_a_database_that_is_being_written_is_not_moved(place: Place) -> None:
    """Something could be missing, and nobody would know."""
    place.write_clickhouse(BATCHES[:1])
    with closing(open_clickhouse(place.url)) as database:
        contents = ClickhouseHoldings(database)
        place.write_clickhouse(BATCHES[:2])
        with pytest.raises(FootfallError, match="A processor writes to the database"):
            rebuild(place.duckdb, None, first=contents)
    assert not place.duckdb.exists()


class Failing(ClickhouseDatabase):
    """A database that takes no positions."""

    def insert(
        self, table: str, columns: Mapping[str, str], rows: Sequence[Sequence[Any]], token: str | None = None
    ) -> None:
        if table == "positions":
            raise OSError("it went away")
        super().insert(table, columns, rows, token)


def test_an_interrupted_move_begins_anew(place: Place) -> None:
    """What it has left is dropped, and nothing is there twice."""
    place.write_duckdb(BATCHES)
    open_clickhouse(place.url).close()
    with (
        closing(Failing(parse_url(place.url))) as failing,
        closing(open_database(place.duckdb, read_only=True)) as source,
        pytest.raises(OSError, match="away"),
    ):
        fill(failing, DuckdbHoldings(source))

    place.to_clickhouse()

    assert place.duckdb_has() == place.clickhouse_has()


def test_a_database_with_events_is_left_alone(place: Place) -> None:
    """What it has may be the same."""
    place.write_duckdb(BATCHES[:2])
    place.write_clickhouse(BATCHES[:1])
    with pytest.raises(BadUsageError, match="has events already"):
        place.to_clickhouse()


@pytest.fixture
def exported(place: Place, tmp_path: Path) -> Iterator[Callable[[], ExportHoldings]]:
    """Opens what DuckDB has of three batches, exported."""
    place.write_duckdb(BATCHES[:3])
    with closing(open_database(place.duckdb)) as database:
        write_export(Exporter(database), tmp_path / "events.ndjson.gz", Format.NDJSON, is_restorable=True)
    with ExitStack() as files:
        yield lambda: ExportHoldings(Export(files.enter_context(LogFile(tmp_path / "events.ndjson.gz"))), 1)


def test_an_export_fills_clickhouse(place: Place, exported: Callable[[], ExportHoldings]) -> None:
    """Also where there is nothing else; but for the salts, everything is there."""
    with closing(open_clickhouse(place.url)) as database:
        assert 13 == fill(database, exported())
    rows, _, positions = place.clickhouse_has()[1:]
    assert (rows, positions) == (place.duckdb_has()[1], place.duckdb_has()[3])
    assert {"duplicate": 3, "no_site": 4} == place.write_clickhouse(BATCHES[:4])["a"].skipped


def rows_of(path: Path) -> list[Any]:
    with closing(open_database(path, read_only=True)) as database:
        return database.execute("SELECT path FROM events").fetchall()
