"""Figures read from ClickHouse."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from footfall.database.clickhouse.server import ClickhouseDatabase
from footfall.database.clickhouse.values import microseconds, moment
from footfall.database.dimensions import TIME
from footfall.database.query import Figures, Query
from footfall.database.reports import Reports
from footfall.database.sql import Compiler
from footfall.errors import FootfallError

MAX_MEMORY_BYTES: Final = 2 * 1024**3
"""For one report, on the server; counting visitors exactly takes some 40 bytes for each."""


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
        compiler = _ClickhouseCompiler(self._database.name)
        for site_id in {query.site_id for query in queries}:
            # There are hardly ever any doubles, and to look costs three columns.
            if self._query(f"SELECT 1 {_doubles(self._database.name)} LIMIT 1", {"site_id": site_id}):
                compiler.sites_with_doubles.add(site_id)
        # One statement: its parts see the same rows.
        statement = " UNION ALL ".join(
            f"SELECT {number} AS query, {_packed(query)} FROM ({compiler.select(query)})"
            for number, query in enumerate(queries)
        )
        answers: list[list[Figures]] = [[] for _ in queries]
        for number, dimensions, metrics in self._query(statement, compiler.parameters):
            names = queries[number].dimensions
            values = [moment(int(text)) if name == TIME else text for name, text in zip(names, dimensions, strict=True)]
            answers[number].append(Figures(tuple(values), tuple(metrics)))
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

    def _query(self, query: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        return self._database.query(
            query,
            parameters,
            settings={
                "count_distinct_implementation": "uniqExact",
                "enable_shared_storage_snapshot_in_query": 1,
                "max_execution_time": self._limit_s,
                "max_memory_usage": MAX_MEMORY_BYTES,
            },
        )


class _ClickhouseCompiler(Compiler):
    """For the tables of one database.

    Attributes:
        sites_with_doubles: sites that have rows which do not count.
    """

    def __init__(self, database: str) -> None:
        super().__init__()
        self._database = database
        self.sites_with_doubles: set[str] = set()

    def text(self, value: str) -> str:
        return f"{{{self.bind(value)}:String}}"

    def moment(self, value: datetime) -> str:
        return f"fromUnixTimestamp64Micro({{{self.bind(microseconds(value))}:Int64}})"

    def table(self, query: Query) -> str:
        events = f"{self._database}.events"
        if query.site_id not in self.sites_with_doubles:
            return events
        # There may be more than a parameter can hold.
        doubles = _doubles(self._database).replace("{site_id:String}", self.text(query.site_id))
        return (
            f"(SELECT * FROM {events} WHERE (queue, sequence, event_key) GLOBAL NOT IN "
            f"(SELECT queue, sequence, event_key {doubles}))"
        )

    def column(self, name: str) -> str:
        return name

    def prop(self, name: str) -> str:
        key = self.text(name)
        raw = f"JSONExtractRaw(props, {key})"
        text = f"if(JSONType(props, {key}) = 'String', JSONExtractString(props, {key}), {raw})"
        return f"if({raw} = 'null', '', {text})"

    def bucket(self, query: Query) -> str:
        starts = [microseconds(start) for start in query.buckets]
        return f"roundDown(toUnixTimestamp64Micro(time), {{{self.bind(starts)}:Array(Int64)}})"

    def is_one_of(self, text: str, values: Sequence[str]) -> str:
        return f"{text} IN {{{self.bind(list(values))}:Array(String)}}"

    def contains(self, text: str, value: str) -> str:
        return f"position({text}, {self.text(value)}) > 0"


def _doubles(database: str) -> str:
    return f"FROM {database}.doubles WHERE site_id = {{site_id:String}}"


def _packed(query: Query) -> str:
    """The columns of a query's rows as two arrays, which are of the same types for every query."""
    dimensions = ", ".join(f"CAST(d{number} AS String)" for number in range(len(query.dimensions)))
    metrics = ", ".join(f"toInt64(m{number})" for number in range(len(query.metrics)))
    return f"CAST([{dimensions}] AS Array(String)), [{metrics}]"


def _sorted(rows: list[Figures], query: Query) -> list[Figures]:
    """In the query's order, which a union does not keep."""
    for order in reversed(query.whole_order):
        rows.sort(key=lambda row: _value(row, query, order.name), reverse=order.is_descending)
    return rows


def _value(row: Figures, query: Query, name: str) -> Any:  # noqa: ANN401 - texts, moments and numbers are each sorted alone
    if name in query.dimensions:
        return row.dimensions[query.dimensions.index(name)]
    return row.metrics[query.metrics.index(name)]
