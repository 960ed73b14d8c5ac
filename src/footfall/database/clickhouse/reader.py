"""The figures of a site, read from ClickHouse."""

from datetime import date, timedelta
from typing import Any, Final

from footfall.database.clickhouse.server import ClickhouseDatabase
from footfall.database.reports import PathViews, Stats
from footfall.entry import PAGE_VIEW
from footfall.errors import FootfallError

MAX_MEMORY_BYTES: Final = 2 * 1024**3
"""For one report, on the server; counting visitors exactly takes some 40 bytes for each."""

_EPOCH: Final = date(1970, 1, 1)
_DAY_US: Final = 24 * 60 * 60 * 1_000_000


class ClickhouseReports:
    """Reads figures, as `Reports` says; on a cluster, those of each server are of one moment.

    Args:
        database: stays the caller's.
        limit_s: how many seconds a query may take.
    """

    def __init__(self, database: ClickhouseDatabase, *, limit_s: float) -> None:
        self._database = database
        self._limit_s = limit_s

    def stats(self, site_id: str, *, first: date | None, last: date | None, limit: int) -> Stats:
        where = "site_id = {site_id:String} AND event_type = {event_type:String}"
        parameters: dict[str, Any] = {"site_id": site_id, "event_type": PAGE_VIEW, "limit": limit}
        if first is not None:
            where += " AND time >= fromUnixTimestamp64Micro({begin:Int64})"
            parameters["begin"] = _microseconds(first)
        if last is not None:
            where += " AND time < fromUnixTimestamp64Micro({end:Int64})"
            parameters["end"] = _microseconds(last) + _DAY_US
        doubles = f"FROM {self._database.name}.doubles WHERE site_id = {{site_id:String}}"
        # There are hardly ever any, and to look costs three columns. There may be more than a parameter can hold.
        if self._query(f"SELECT 1 {doubles} LIMIT 1", {"site_id": site_id}):
            where += f" AND (queue, sequence, event_key) GLOBAL NOT IN (SELECT queue, sequence, event_key {doubles})"
        rows = self._query(
            # One statement: its parts see the same rows.
            "SELECT 1 AS is_total, '' AS path, count() AS views, uniqExact(visitor) AS visitors "
            f"FROM {self._database.name}.events WHERE {where} "
            "UNION ALL SELECT 0, path, views, 0 FROM ("
            f"SELECT path, count() AS views FROM {self._database.name}.events WHERE {where} "
            "GROUP BY path ORDER BY views DESC, path LIMIT {limit:UInt32})",
            parameters,
        )
        [(views, visitors)] = [(views, visitors) for is_total, _, views, visitors in rows if is_total]
        paths = [PathViews(path, views) for is_total, path, views, _ in rows if not is_total]
        return Stats(views, visitors, sorted(paths, key=lambda one: (-one.views, one.path)))

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
                "enable_shared_storage_snapshot_in_query": 1,
                "max_execution_time": self._limit_s,
                "max_memory_usage": MAX_MEMORY_BYTES,
            },
        )


def _microseconds(day: date) -> int:
    return (day - _EPOCH) // timedelta(days=1) * _DAY_US
