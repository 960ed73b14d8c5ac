"""The table `event_ids` of a DuckDB database."""

from collections.abc import Collection, Mapping
from datetime import datetime

import duckdb

from footfall.database.rows import SeenId


class EventIds:
    """The table `event_ids`: what tells an event that is sent again from a new one."""

    def __init__(self, db: duckdb.DuckDBPyConnection) -> None:
        self._db = db

    def look_up(self, keys: Collection[int]) -> dict[int, SeenId]:
        """What the table knows of `keys`; call within the transaction that they serve."""
        if not keys:
            return {}
        return {
            key: SeenId(seen_at, sender or 0)
            for key, seen_at, sender in self._db.execute(
                "SELECT id, max(seen_at), arg_max(sender, seen_at) FROM event_ids "
                "WHERE id IN (SELECT unnest(?::HUGEINT[])) GROUP BY id",
                [list(keys)],
            ).fetchall()
        }

    def save(self, new: Mapping[int, SeenId]) -> None:
        """Add those that were new; call within the same transaction."""
        if new:
            with self._db.appender("event_ids") as ids:
                ids.append_rows([(key, *seen) for key, seen in new.items()])

    def forget(self, until: datetime) -> None:
        self._db.execute("DELETE FROM event_ids WHERE seen_at <= ?", [until])
