"""The tables of a ClickHouse database.

- `events`: a row for each entry that has a site, with the columns of `footfall.database.schema` and those of
  `_BOOKKEEPING`. What is not known is the empty text.
- `positions`: for each source, how far its rows have come: the last `sequence`, rows `written`, entries `skipped` by
  reason (JSON). A new position is a new row; the one with the greatest sequence counts, and merging drops the others.
- `salts`: the secrets that tell visitors without a user id apart, by UTC day (days since 1970). A salt that is
  forgotten leaves an empty row; one that is made after that has the next `generation`.
- `event_ids`: event ids that came with rows from another database, with what `events` says of the others.
- `doubles`: rows of `events` that reports leave out, because two processors wrote the same event id at the same moment.
- `format`: the number of this layout. While a migration is under way, it also holds the number of the older one.

With `?cluster=NAME`, the tables are made on all its servers. `events` is then a Distributed table over `events_local`,
which is what each server has. Rows are spread over the shards by `queue`, so that an insert still is one part in one
place. The other tables are replicated to every server. This takes the macros `{shard}` and `{replica}`, as usual.
"""

from collections.abc import Mapping
from typing import Final

from footfall.database.schema import EVENTS, HASH, LABEL, MOMENT

REMEMBERED_INSERTS: Final = 10_000
"""How many tokens a table remembers."""

_BOOKKEEPING: Final = {
    "queue": LABEL.clickhouse,
    "sequence": "UInt64",
    "event_key": HASH.clickhouse,
    "seen_at": MOMENT.clickhouse,
    "sender": "Int64",
}
"""Which batch a row came from (its source and sequence); and for an event with an `event_id` a hash of site and id,
the second in which it was received, and a hash of its sender (`footfall.database.rows.SeenId`), else 0."""

EVENT_TYPES: Final = {column.name: column.kind.clickhouse for column in EVENTS} | _BOOKKEEPING
POSITION_TYPES: Final = {"source": "String", "sequence": "UInt64", "written": "UInt64", "skipped": "String"}
SALT_TYPES: Final = {"day": "Int32", "generation": "UInt32", "salt": "String", "made_at": MOMENT.clickhouse}
DOUBLE_TYPES: Final = {
    "site_id": LABEL.clickhouse,
    "queue": LABEL.clickhouse,
    "sequence": "UInt64",
    "event_key": HASH.clickhouse,
}
EVENT_ID_TYPES: Final = {name: _BOOKKEEPING[name] for name in ("event_key", "seen_at", "sender")}
FORMAT_TYPES: Final = {"version": "UInt32"}

# A batch is found by its sequence, and an event by its key, without a look at every row: sequences are times, so rows
# of one moment, which lie near each other on the disk, have sequences that are near each other.
_INDEXES: Final = """,
    INDEX by_sequence sequence TYPE minmax GRANULARITY 1,
    INDEX by_event_key event_key TYPE bloom_filter GRANULARITY 1"""

TABLES: Final = frozenset({"format", "events", "positions", "salts", "doubles", "event_ids"})


class Ddl:
    """Statements for the tables of one database.

    Attributes:
        everywhere: what sends a statement to all servers of a cluster.
        local_events: what each server calls its part of `events`.
    """

    def __init__(self, database: str, cluster: str | None) -> None:
        self._database = database
        self._cluster = cluster
        self.everywhere: Final = f" ON CLUSTER {cluster}" if cluster else ""
        self.local_events: Final = "events_local" if cluster else "events"

    def tables(self) -> list[str]:
        """What makes the database, and what it lacks of its tables."""
        made = [
            f"CREATE DATABASE IF NOT EXISTS {self._database}{self.everywhere}",
            self._table("format", FORMAT_TYPES, "version"),
            self.events(self.local_events),
            self._table("positions", POSITION_TYPES, "source", version="sequence"),
            # A salt that is forgotten shall leave the disk, not only the table.
            self._table("salts", SALT_TYPES, "(day, generation)", settings=", old_parts_lifetime = 60"),
            self._table("event_ids", EVENT_ID_TYPES, "event_key"),
            self._table("doubles", DOUBLE_TYPES, "(site_id, queue, sequence, event_key)"),
        ]
        return [*made, self.spread("events", self.local_events)] if self._cluster else made

    def events(self, name: str, types: Mapping[str, str] = EVENT_TYPES) -> str:
        """The table `events`, by another name maybe, or with the columns of an older format."""
        return self._table(name, types, "(site_id, event_type, time)", more=_INDEXES, is_sharded=True)

    def spread(self, name: str, local: str) -> str:
        """A table that reads and writes those of all servers of the cluster that are called `local`."""
        return (
            f"CREATE TABLE IF NOT EXISTS {self._database}.{name}{self.everywhere} AS {self._database}.{local} "
            f"ENGINE = Distributed({self._cluster}, {self._database}, {local}, cityHash64(queue))"
        )

    def _table(
        self,
        name: str,
        types: Mapping[str, str],
        order: str,
        *,
        more: str = "",
        version: str = "",
        settings: str = "",
        is_sharded: bool = False,
    ) -> str:
        kind = "ReplacingMergeTree" if version else "MergeTree"
        arguments = [version] if version else []
        if self._cluster:
            place = ("{shard}", "{replica}") if is_sharded else ("all", "{shard}-{replica}")
            arguments = [f"'/clickhouse/tables/{place[0]}/{self._database}/{name}'", f"'{place[1]}'", *arguments]
            kind = f"Replicated{kind}"
        columns = ", ".join(f"{column} {type_}" for column, type_ in types.items())
        return (
            f"CREATE TABLE IF NOT EXISTS {self._database}.{name}{self.everywhere} ({columns}{more}) "
            f"ENGINE = {kind}({', '.join(arguments)}) ORDER BY {order} SETTINGS "
            f"non_replicated_deduplication_window = {REMEMBERED_INSERTS}, "
            f"replicated_deduplication_window = {REMEMBERED_INSERTS}, "
            f"fsync_after_insert = 1, fsync_part_directory = 1{settings}"
        )
