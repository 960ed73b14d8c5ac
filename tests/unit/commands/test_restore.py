"""From DuckDB to ClickHouse: nothing is lost on the way, and nothing there twice."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from clickhouse_server import ClickhouseServer
from footfall.commands.export import Export, write_export
from footfall.commands.logfile import LogFile
from footfall.commands.restore import fill_from_export
from footfall.database.clickhouse.open import open_clickhouse
from footfall.database.clickhouse.reader import ClickhouseReports
from footfall.database.clickhouse.server import ClickhouseDatabase
from footfall.database.clickhouse.url import parse_url
from footfall.database.clickhouse.writer import ClickhouseSink
from footfall.database.duckdb.file import open_database
from footfall.database.duckdb.reader import DuckdbReports
from footfall.database.duckdb.writer import DuckdbSink
from footfall.entry import Event, encode_entries
from footfall.errors import BadUsageError
from footfall.queue.base import Batch, Progress

pytestmark = pytest.mark.xdist_group("clickhouse")

SITE = "my-blog"
LIMIT_S = 30.0


class Failing(ClickhouseDatabase):
    """A database that takes no positions."""

    def insert(
        self, table: str, columns: Mapping[str, str], rows: Sequence[Sequence[Any]], token: str | None = None
    ) -> None:
        if table == "positions":
            raise OSError("it went away")
        super().insert(table, columns, rows, token)


@pytest.fixture
def url(clickhouse: ClickhouseServer) -> str:
    return clickhouse.url(f"fill_{token_hex(8)}")


@pytest.fixture
def export_path(tmp_path: Path) -> Path:
    """What DuckDB has of the first three batches."""
    path = tmp_path / "events.ndjson.gz"
    with closing(open_database(tmp_path / "footfall.duckdb")) as database:
        with closing(DuckdbSink(database)) as sink:
            sink.write(BATCHES[:3])
        write_export(database, path)
    return path


@pytest.fixture
def export(export_path: Path) -> Iterator[Export]:
    with LogFile(export_path) as file:
        yield Export(file)


def batch(sequence: int) -> Batch:
    """Two views of a page of the batch's own, by users of its own."""
    events = [
        Event(
            1_763_000_000_000_000_000 + number, None, b"curl/8.0", SITE, "page_view", f"/{sequence}", f"user-{number}"
        )
        for number in (sequence, sequence + 1)
    ]
    return Batch("a", sequence, 0, len(events), encode_entries(events), before=2 * (sequence - 1))


BATCHES = [batch(sequence) for sequence in range(1, 6)]


def test_a_processor_goes_on_behind_what_was_moved(url: str, export: Export, tmp_path: Path) -> None:
    """The figures are those of a DuckDB that had everything."""
    with closing(open_clickhouse(url)) as database:
        assert 6 == fill_from_export(database, export)
        sink = ClickhouseSink(database, is_exclusive=False)
        sink.write(BATCHES)
        moved = ClickhouseReports(database, limit_s=LIMIT_S).stats(SITE, first=None, last=None, limit=10)
        assert {"a": Progress(5, 5, 10)} == sink.progress()

    with closing(open_database(tmp_path / "whole.duckdb")) as whole:
        with closing(DuckdbSink(whole)) as duckdb_sink:
            duckdb_sink.write(BATCHES)
        assert moved == DuckdbReports(whole, limit_s=LIMIT_S).stats(SITE, first=None, last=None, limit=10)


def test_an_interrupted_move_goes_on(url: str, export_path: Path) -> None:
    """The same file again adds what is missing, and nothing twice."""
    open_clickhouse(url).close()
    with (
        closing(Failing(parse_url(url))) as failing,
        LogFile(export_path) as file,
        pytest.raises(OSError, match="away"),
    ):
        fill_from_export(failing, Export(file))

    with closing(open_clickhouse(url)) as database, LogFile(export_path) as file:
        fill_from_export(database, Export(file))
        assert [(6,)] == database.query(f"SELECT count() FROM {database.name}.events")


def test_a_database_with_events_is_left_alone(url: str, export: Export) -> None:
    """What it has may be the same."""
    with closing(open_clickhouse(url)) as database:
        ClickhouseSink(database, is_exclusive=True).write(BATCHES[:1])

        with pytest.raises(BadUsageError, match="has events already"):
            fill_from_export(database, export)
