"""The sinks and the databases that the contracts are held against: how each is opened, filled and read."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import pytest

from clickhouse_server import ClickhouseServer
from footfall.database.clickhouse.open import open_clickhouse
from footfall.database.clickhouse.server import ClickhouseDatabase
from footfall.database.clickhouse.writer import ClickhouseSink
from footfall.database.duckdb.file import open_database
from footfall.database.duckdb.writer import DuckdbSink
from footfall.queue.sink import Sink
from footfall.visit_log.writer import VisitLog


class Kind(NamedTuple):
    """One sort of sink.

    Attributes:
        open: open the one in a directory; it is closed on leaving.
        read: from the output in a directory, what tells each entry, in the output's order.
    """

    open: Callable[[Path], AbstractContextManager[Sink]]
    read: Callable[[Path], list[str]]


@contextmanager
def open_visit_log(directory: Path) -> Iterator[Sink]:
    with closing(VisitLog(directory / "visits.log", directory)) as sink:
        yield sink


def read_visit_log(directory: Path) -> list[str]:
    return [line.split("|")[2] for line in (directory / "visits.log").read_text().splitlines()]


@contextmanager
def open_duckdb(directory: Path) -> Iterator[Sink]:
    with closing(open_database(directory / "footfall.duckdb")) as database, closing(DuckdbSink(database)) as sink:
        yield sink


def read_duckdb(directory: Path) -> list[str]:
    with closing(open_database(directory / "footfall.duckdb")) as database:
        return [path for (path,) in database.execute("SELECT path FROM events ORDER BY rowid").fetchall()]


def clickhouse_kind(server: ClickhouseServer, *, is_exclusive: bool) -> Kind:
    @contextmanager
    def opened(directory: Path) -> Iterator[ClickhouseDatabase]:
        name = f"sink_{blake2b(bytes(directory), digest_size=8).hexdigest()}"
        with closing(open_clickhouse(server.url(name))) as database:
            yield database

    @contextmanager
    def open_sink(directory: Path) -> Iterator[Sink]:
        with opened(directory) as database, closing(ClickhouseSink(database, is_exclusive=is_exclusive)) as sink:
            yield sink

    def read(directory: Path) -> list[str]:
        """In the order of the batches; within one the table has none, so the test's names are in order."""
        with opened(directory) as database:
            return [
                path
                for (path,) in database.query(f"SELECT path FROM {database.name}.events ORDER BY queue, sequence, path")
            ]

    return Kind(open_sink, read)


def group_of(name: str) -> Sequence[pytest.MarkDecorator]:
    """Tests of ClickHouse run in one process, so that there is one server."""
    return [pytest.mark.xdist_group("clickhouse")] if name.startswith("clickhouse") else []


KINDS: dict[str, Callable[[pytest.FixtureRequest], Kind]] = {
    "visit_log": lambda _: Kind(open_visit_log, read_visit_log),
    "duckdb": lambda _: Kind(open_duckdb, read_duckdb),
    "clickhouse": lambda request: clickhouse_kind(request.getfixturevalue("clickhouse"), is_exclusive=True),
    "clickhouse_shared": lambda request: clickhouse_kind(request.getfixturevalue("clickhouse"), is_exclusive=False),
}


@pytest.fixture(params=[pytest.param(name, marks=group_of(name)) for name in KINDS], scope="session")
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param](request)


@pytest.fixture(scope="session")
def open_sink(kind: Kind) -> Callable[[Path], AbstractContextManager[Sink]]:
    """Opens the sink in a directory."""
    return kind.open


@pytest.fixture(scope="session")
def read_output(kind: Kind) -> Callable[[Path], list[str]]:
    """Reads back what is in the output in a directory."""
    return kind.read
