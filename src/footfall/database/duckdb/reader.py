"""The figures of a site, read from DuckDB."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date
from typing import Any

import duckdb

from footfall.database.reports import PathViews, Stats
from footfall.entry import PAGE_VIEW


class DuckdbReports:
    """Reads figures, as `Reports` says, also while another connection writes.

    Args:
        database: each call takes a cursor of its own from it.
        limit_s: how many seconds one query may take; a call makes two.
    """

    def __init__(self, database: duckdb.DuckDBPyConnection, *, limit_s: float) -> None:
        self._database = database
        self._limit_ms = max(1, round(limit_s * 1_000))  # 0 would mean no limit

    def stats(self, site_id: str, *, first: date | None, last: date | None, limit: int) -> Stats:
        where = "site_id = $site_id AND event_type = $event_type"
        parameters: dict[str, Any] = {"site_id": site_id, "event_type": PAGE_VIEW}
        if first is not None:
            where += " AND time >= $first"
            parameters["first"] = first
        if last is not None:
            where += " AND time < $last + INTERVAL 1 DAY"
            parameters["last"] = last
        with self._snapshot() as cursor:
            [(views, visitors)] = cursor.execute(
                f"SELECT count(*), count(DISTINCT visitor) FROM events WHERE {where}", parameters
            ).fetchall()
            paths = cursor.execute(
                f"SELECT path, count(*) AS views FROM events WHERE {where} "
                "GROUP BY path ORDER BY views DESC, path LIMIT $limit",
                {**parameters, "limit": limit},
            ).fetchall()
        return Stats(views, visitors, [PathViews(*row) for row in paths])

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
