"""Figures read from ClickHouse."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from footfall.database.clickhouse.server import ClickhouseDatabase
from footfall.database.dialect import Dialect
from footfall.database.filter import patterns_of
from footfall.database.moments import microseconds, moment
from footfall.database.query import Figures, Query
from footfall.database.reports import Reports
from footfall.database.sql import figures, select
from footfall.errors import FootfallError

MAX_MEMORY_BYTES: Final = 2 * 1024**3
"""For one report, on the server; counting visitors exactly takes some 40 bytes for each."""

_NO_PATTERN: Final = re.compile(r"cannot compile re2: .*?, error: (.*?)(?:\. Look at|$)", re.DOTALL)


class ClickhouseReports(Reports):
    """Reads figures, as `Reports` says; on a cluster, those of each server are of one moment.

    Args:
        database: stays the caller's.
        limit_s: how many seconds a query may take.
    """

    def __init__(self, database: ClickhouseDatabase, *, limit_s: float) -> None:
        self._database = database
        self._limit_s = limit_s

    def answer(self, queries: Sequence[Query]) -> list[list[Figures]]:
        for pattern in {pattern for query in queries for pattern in patterns_of(query.filter)}:
            self._check_pattern(pattern)
        dialect = _ClickhouseDialect(self._database.name)
        for site_id in {query.site_id for query in queries}:
            # There are hardly ever any doubles, and to look costs three columns.
            if self._query(f"SELECT 1 {_doubles(self._database.name)} LIMIT 1", {"site_id": site_id}):
                dialect.sites_with_doubles.add(site_id)
        # One statement: its parts see the same rows.
        statement = " UNION ALL ".join(
            f"SELECT {number} AS query, {_packed(query)} FROM ({select(query, dialect)})"
            for number, query in enumerate(queries)
        )
        answers: list[list[Figures]] = [[] for _ in queries]
        for number, dimensions, metrics in self._query(statement, dialect.parameters):
            answers[number].append(figures(queries[number], (*dimensions, *metrics)))
        return [_sorted(rows, query) for rows, query in zip(answers, queries, strict=True)]

    def first_events(self, site_id: str | None = None) -> dict[str, datetime]:
        condition, parameters = ("TRUE", {}) if site_id is None else ("site_id = {site:String}", {"site": site_id})
        found = self._query(
            f"SELECT site_id, toUnixTimestamp64Micro(min(time)) FROM {self._database.name}.events WHERE {condition} "
            "GROUP BY site_id ORDER BY site_id",
            parameters,
        )
        return {name: moment(first) for name, first in found}

    def trouble(self) -> str | None:
        try:
            self._query("SELECT 1", {})
        except (OSError, FootfallError) as error:
            return str(error)
        return None

    def _check_pattern(self, pattern: str) -> None:
        try:
            self._query("SELECT match('', {pattern:String})", {"pattern": pattern})
        except OSError as error:
            if (reason := _NO_PATTERN.search(str(error))) is None:
                raise
            raise ValueError(f"the pattern {pattern!r} is not of RE2: {reason[1]}") from error

    def _query(self, query: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        return self._database.query(
            query,
            parameters,
            settings={
                "join_use_nulls": 1,
                "count_distinct_implementation": "uniqExact",
                "enable_shared_storage_snapshot_in_query": 1,
                "max_execution_time": self._limit_s,
                "max_memory_usage": MAX_MEMORY_BYTES,
            },
        )


class _ClickhouseDialect(Dialect):
    """For the tables of one database.

    Attributes:
        sites_with_doubles: sites that have rows which do not count.
    """

    def __init__(self, database: str) -> None:
        super().__init__()
        self._database = database
        self.sites_with_doubles: set[str] = set()

    def events(self, site_id: str) -> str:
        events = f"{self._database}.events"
        if site_id not in self.sites_with_doubles:
            return events
        # There may be more than a parameter can hold.
        doubles = _doubles(self._database).replace("{site_id:String}", self.text(site_id))
        return (
            f"(SELECT * FROM {events} WHERE (queue, sequence, event_key) GLOBAL NOT IN "
            f"(SELECT queue, sequence, event_key {doubles}))"
        )

    def text(self, value: str) -> str:
        return f"{{{self.bind(value)}:String}}"

    def texts(self, values: Sequence[str]) -> str:
        return f"{{{self.bind(list(values))}:Array(String)}}"

    def time(self, value: datetime) -> str:
        return f"fromUnixTimestamp64Micro({self.moment(value)})"

    def moment(self, value: datetime) -> str:
        return f"{{{self.bind(microseconds(value))}:Int64}}"

    def microseconds(self, time: str) -> str:
        return f"toUnixTimestamp64Micro({time})"

    def known(self, column: str) -> str:
        return column

    def prop(self, name: str) -> str:
        key = self.text(name)
        raw = f"JSONExtractRaw(props, {key})"
        text = f"if(JSONType(props, {key}) = 'String', JSONExtractString(props, {key}), {raw})"
        return f"if({raw} = 'null', '', {text})"

    def bucket(self, moment: str, starts: Sequence[datetime]) -> tuple[str, str]:
        bound = [microseconds(start) for start in starts]
        return "", f"roundDown({moment}, {{{self.bind(bound)}:Array(Int64)}})"

    def contains(self, text: str, value: str) -> str:
        return f"position({text}, {self.text(value)}) > 0"

    def matches(self, text: str, pattern: str) -> str:
        return f"match({text}, {self.text(pattern)})"

    def each_that_holds(self, conditions: Sequence[tuple[str, str]]) -> str:
        found = ", ".join(f"if({condition}, [{self.text(text)}], [])" for text, condition in conditions)
        return f"arrayJoin(arrayConcat({found}))"

    def quotient(self, dividend: str, divisor: str) -> str:
        return f"intDiv({dividend}, nullIf({divisor}, 0))"

    def together(self, *values: str) -> str:
        return f"tuple({', '.join(values)})"

    def part(self, values: str, number: int) -> str:
        return f"tupleElement({values}, {number})"


def _doubles(database: str) -> str:
    return f"FROM {database}.doubles WHERE site_id = {{site_id:String}}"


def _packed(query: Query) -> str:
    """The columns of a query's rows as two arrays, which are of the same types for every query."""
    dimensions = ", ".join(f"CAST(d{number} AS String)" for number in range(len(query.dimensions)))
    metrics = ", ".join(f"CAST(m{number} AS Nullable(Int64))" for number in range(len(query.metrics)))
    return f"CAST([{dimensions}] AS Array(String)), [{metrics}]"


def _sorted(rows: list[Figures], query: Query) -> list[Figures]:
    """In the query's order, which a union does not keep."""
    for order in reversed(query.whole_order):
        known = [row for row in rows if _value(row, query, order.name) is not None]
        unknown = [row for row in rows if _value(row, query, order.name) is None]
        known.sort(key=lambda row: _value(row, query, order.name), reverse=order.is_descending)
        rows = known + unknown
    return rows


def _value(row: Figures, query: Query, name: str) -> Any:  # noqa: ANN401 - texts, moments and numbers are each sorted alone
    if name in query.dimensions:
        return row.dimensions[query.dimensions.index(name)]
    return row.metrics[query.metrics.index(name)]
