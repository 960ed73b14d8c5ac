"""The sinks that the contract is held against: how each is opened, and read."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from footfall.sinks.base import DATABASE, SINKS, VISIT_LOG, Sink
from footfall.sinks.duckdb import DuckdbSink
from footfall.sinks.duckdb_file import open_database
from footfall.sinks.visit_log import VisitLog


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


KINDS = {VISIT_LOG: Kind(open_visit_log, read_visit_log), DATABASE: Kind(open_duckdb, read_duckdb)}


@pytest.fixture(params=SINKS, scope="session")
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="session")
def open_sink(kind: Kind) -> Callable[[Path], AbstractContextManager[Sink]]:
    """Opens the sink in a directory."""
    return kind.open


@pytest.fixture(scope="session")
def read_output(kind: Kind) -> Callable[[Path], list[str]]:
    """Reads back what is in the output in a directory."""
    return kind.read
