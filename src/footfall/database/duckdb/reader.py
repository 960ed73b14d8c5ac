"""Figures read from DuckDB."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime

import duckdb

from footfall.database.query import Figures, Query
from footfall.database.reports import Reports
from footfall.database.schema import EVENTS
from footfall.database.sql import Compiler

_OPTIONAL = {column.name for column in EVENTS if column.is_optional}


class DuckdbReports(Reports):
    """Reads figures, as `Reports` says, also while another connection writes.

    Args:
        database: each call takes a cursor of its own from it.
        limit_s: how many seconds one query may take.
    """

    def __init__(self, database: duckdb.DuckDBPyConnection, *, limit_s: float) -> None:
        self._database = database
        self._limit_ms = max(1, round(limit_s * 1_000))  # 0 would mean no limit

    def answer(self, queries: Sequence[Query]) -> list[list[Figures]]:
        with self._snapshot() as cursor:
            return [_answer(cursor, query) for query in queries]

    def first_events(self, site_id: str | None = None) -> dict[str, datetime]:
        query = "SELECT site_id, min(time) FROM events WHERE $site IS NULL OR site_id = $site GROUP BY 1 ORDER BY 1"
        with self._snapshot() as cursor:
            return dict(cursor.execute(query, {"site": site_id}).fetchall())

    def trouble(self) -> str | None:
        return None  # the file is open, and a disk that fails ends the process

    @contextmanager
    def _snapshot(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor on the database at one moment, so that figures read one after the other fit together."""
        with closing(self._database.cursor()) as cursor:  # closing it ends the transaction
            cursor.execute("SET SESSION max_execution_time = $limit", {"limit": self._limit_ms})
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            try:
                yield cursor
            except duckdb.InterruptException as error:
                raise TimeoutError(f"the report took longer than {self._limit_ms} ms") from error
            except duckdb.OutOfMemoryException as error:
                raise TimeoutError("the report needs more memory than there is while others are made") from error


def _answer(cursor: duckdb.DuckDBPyConnection, query: Query) -> list[Figures]:
    compiler = _DuckdbCompiler()
    rows = cursor.execute(compiler.select(query), compiler.parameters).fetchall()
    width = len(query.dimensions)
    return [Figures(row[:width], row[width:]) for row in rows]


class _DuckdbCompiler(Compiler):
    def text(self, value: str) -> str:
        return f"${self.bind(value)}"

    def moment(self, value: datetime) -> str:
        return f"${self.bind(value)}"

    def table(self, query: Query) -> str:
        if not query.buckets:
            return "events"
        starts = f"SELECT unnest(${self.bind(list(query.buckets))}) AS bucket"
        return f"events ASOF JOIN ({starts}) ON time >= bucket"

    def column(self, name: str) -> str:
        return f"coalesce({name}, '')" if name in _OPTIONAL else name

    def prop(self, name: str) -> str:
        pointer = "/" + name.replace("~", "~0").replace("/", "~1")  # RFC 6901
        return f"coalesce(json_extract_string(props, ${self.bind(pointer)}), '')"

    def bucket(self, query: Query) -> str:  # noqa: ARG002 - it is joined
        return "bucket"

    def is_one_of(self, text: str, values: Sequence[str]) -> str:
        return f"{text} IN ${self.bind(list(values))}"

    def contains(self, text: str, value: str) -> str:
        return f"contains({text}, ${self.bind(value)})"
