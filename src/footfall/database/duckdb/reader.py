"""Figures read from DuckDB."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime

import duckdb

from footfall.database.dialect import Dialect
from footfall.database.duckdb.rolled import answer_rolled
from footfall.database.filter import patterns_of
from footfall.database.moments import microseconds
from footfall.database.query import Figures, Query
from footfall.database.reports import Reports
from footfall.database.schema import EVENTS
from footfall.database.sql import figures, select

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
        condition, parameters = ("TRUE", {}) if site_id is None else ("site_id = $site", {"site": site_id})
        query = f"SELECT site_id, min(time) FROM events WHERE {condition} GROUP BY site_id ORDER BY site_id"
        with self._snapshot() as cursor:
            return dict(cursor.execute(query, parameters).fetchall())

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
    rolled = answer_rolled(cursor, query)
    if rolled is not None:
        return rolled
    for pattern in patterns_of(query.filter):
        try:
            cursor.execute("SELECT regexp_matches('', $pattern)", {"pattern": pattern})
        except duckdb.InvalidInputException as error:
            reason = str(error).removeprefix("Invalid Input Error: ")
            raise ValueError(f"the pattern {pattern!r} is not of RE2: {reason}") from error
    dialect = _DuckdbDialect()
    rows = cursor.execute(select(query, dialect), dialect.parameters).fetchall()
    return [figures(query, row) for row in rows]


class _DuckdbDialect(Dialect):
    def events(self, site_id: str) -> str:  # noqa: ARG002 - there is one table
        return "events"

    def text(self, value: str) -> str:
        return f"${self.bind(value)}"

    def texts(self, values: Sequence[str]) -> str:
        return f"${self.bind(list(values))}"

    def time(self, value: datetime) -> str:
        return f"${self.bind(value)}"

    def moment(self, value: datetime) -> str:
        return f"${self.bind(microseconds(value))}"

    def microseconds(self, time: str) -> str:
        return f"epoch_us({time})"

    def known(self, column: str) -> str:
        return f"coalesce({column}, '')" if column in _OPTIONAL else column

    def prop(self, name: str) -> str:
        pointer = "/" + name.replace("~", "~0").replace("/", "~1")  # RFC 6901
        return f"coalesce(json_extract_string(props, ${self.bind(pointer)}), '')"

    def bucket(self, moment: str, starts: Sequence[datetime]) -> tuple[str, str]:
        bound = f"SELECT unnest(${self.bind([microseconds(start) for start in starts])}) AS bucket"
        return f"ASOF JOIN ({bound}) AS buckets ON {moment} >= buckets.bucket", "buckets.bucket"

    def contains(self, text: str, value: str) -> str:
        return f"contains({text}, ${self.bind(value)})"

    def matches(self, text: str, pattern: str) -> str:
        return f"regexp_matches({text}, ${self.bind(pattern)}, 's')"

    def each_that_holds(self, conditions: Sequence[tuple[str, str]]) -> str:
        found = ", ".join(f"CASE WHEN {condition} THEN ${self.bind(text)} END" for text, condition in conditions)
        return f"unnest(list_filter([{found}], lambda one: one IS NOT NULL))"

    def quotient(self, dividend: str, divisor: str) -> str:
        return f"(({dividend}) // nullif({divisor}, 0))"

    def together(self, *values: str) -> str:
        return f"row({', '.join(values)})"

    def part(self, values: str, number: int) -> str:
        return f"struct_extract({values}, {number})"
