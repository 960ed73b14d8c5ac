"""What ClickHouse has, taken over into another database; and ClickHouse filled with what another one had."""

import secrets
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

import msgspec

from footfall.commands.rebuild.holdings import ROW_BYTES, Holdings, Salt
from footfall.database.clickhouse.ddl import EVENT_ID_TYPES, EVENT_TYPES, POSITION_TYPES, SALT_TYPES
from footfall.database.clickhouse.server import ClickhouseDatabase
from footfall.database.clickhouse.values import loaded, stored
from footfall.database.enrich import enrich_again
from footfall.database.moments import microseconds, moment
from footfall.database.rows import SeenId
from footfall.database.schema import NAMES, Row
from footfall.errors import BadUsageError, FootfallError
from footfall.failpoint import Failpoint, reach
from footfall.queue.base import Progress
from footfall.queue.sink import DUPLICATE
from footfall.settings import DatabaseSettings

_MOVED: Final = "moved "
"""What `events.queue` begins with in rows that no processor has written."""
_EXPORTED: Final = "export "
"""The same, in versions before."""
_BROUGHT: Final = f"(startsWith(queue, '{_MOVED}') OR startsWith(queue, '{_EXPORTED}'))"
_PART_ROWS: Final = 50_000
_EPOCH_DAY: Final = date(1970, 1, 1)
_LOOK_AGAIN_S: Final = 0.5

_Item = TypeVar("_Item")


class ClickhouseHoldings(Holdings):
    """A ClickHouse database, which nobody writes to meanwhile.

    Rows behind the position are left out: a processor that ended has written them, and the queue brings them again. So
    are rows that reports leave out, because two processors wrote the same event; they count as duplicates here.
    """

    def __init__(self, database: ClickhouseDatabase) -> None:
        self._db = database
        self._read = 0
        self._positions = self._progress()
        [(events,)] = database.query(f"SELECT count() FROM {database.name}.events")
        self.size = int(events) * ROW_BYTES

    def progress(self) -> dict[str, Progress]:
        """See there. Raises FootfallError if somebody has written to the database since this was made."""
        if self._progress() != self._positions:
            raise FootfallError(
                f"A processor writes to the database {self._db.name} on {self._db.place}. Stop them all first."
            )
        return self._positions

    def event_ids(self) -> Iterator[tuple[int, SeenId]]:
        others = f"SELECT event_key, seen_at, sender FROM {self._db.name}.event_ids"
        for key, received_us, sender in self._db.stream(
            "SELECT event_key, toUnixTimestamp64Micro(seen_at), sender "
            f"FROM ({self._select('event_key, seen_at, sender')} AND event_key != 0 UNION ALL {others}) "
            "WHERE seen_at > now() - INTERVAL 2 DAY",
            self._places(),
        ):
            yield key, SeenId(moment(received_us), sender)

    def rows(self, settings: DatabaseSettings) -> Iterator[Row]:
        columns = ", ".join(["toUnixTimestamp64Micro(events.time)", *NAMES[1:]])
        for row in self._db.stream(self._select(columns), self._places()):
            self._read += 1
            yield enrich_again(loaded(row), settings)

    def _select(self, columns: str) -> str:
        """A query for the rows that count."""
        return (
            f"SELECT {columns} FROM {self._db.name}.events WHERE ({_BROUGHT} OR sequence <= "
            "transform(toString(queue), {sources:Array(String)}, {sequences:Array(UInt64)}, toUInt64(0))) "
            f"AND NOT ({self._is_double()})"
        )

    def _places(self) -> dict[str, Any]:
        """The parameters of `_select`."""
        return {
            "sources": list(self._positions),
            "sequences": [progress.sequence for progress in self._positions.values()],
        }

    def consumed(self) -> int:
        return self._read * ROW_BYTES

    def salts(self) -> list[Salt]:
        return [
            (_EPOCH_DAY + timedelta(days=day), bytes.fromhex(salt), moment(made_us))
            for day, salt, made_us in self._db.query(
                "SELECT day, argMax(salt, generation) AS last, argMax(toUnixTimestamp64Micro(made_at), generation) "
                f"FROM {self._db.name}.salts GROUP BY day HAVING last != ''"
            )
        ]

    def _progress(self) -> dict[str, Progress]:
        doubles = dict(
            self._db.query(
                f"SELECT toString(queue), count() FROM {self._db.name}.events WHERE {self._is_double()} GROUP BY queue"
            )
        )
        found = {}
        for source, sequence, written, skipped in self._db.query(
            "SELECT source, max(sequence), argMax(written, sequence), argMax(skipped, sequence) "
            f"FROM {self._db.name}.positions GROUP BY source"
        ):
            reasons = msgspec.json.decode(skipped, type=dict[str, int])
            if count := doubles.get(source, 0):
                reasons[DUPLICATE] = reasons.get(DUPLICATE, 0) + count
            found[source] = Progress(sequence, 0, written - count, reasons)
        return found

    def _is_double(self) -> str:
        return (
            f"(queue, sequence, event_key) GLOBAL IN (SELECT queue, sequence, event_key FROM {self._db.name}.doubles)"
        )


def fill(
    database: ClickhouseDatabase,
    contents: Holdings,
    *,
    settings: DatabaseSettings = DatabaseSettings(),
    on_progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Fill a database that has nothing else, or only what an interrupted call has left; return how many events.

    Positions come last. So a database that is not whole has none, and the next call begins anew.

    Args:
        database: no processor writes to it yet.
        contents: at its beginning.
        settings: what rows hold.
        on_progress: called now and then with the bytes that were read since the last call.

    Raises:
        BadUsageError: the database is not empty.
        OSError, FootfallError: as `ClickhouseDatabase`; call it again.
    """
    _empty(database)
    source = f"{_MOVED}{secrets.token_hex(8)}"
    for ids in _parts(contents.event_ids()):
        rows = [(key, microseconds(seen.received_at), seen.sender) for key, seen in ids]
        database.insert("event_ids", EVENT_ID_TYPES, rows)
    done = read = 0
    for number, part in enumerate(_parts(contents.rows(settings))):
        events = [(*stored(row), source, number, 0, 0, 0) for row in part]
        database.insert_once(
            "events", EVENT_TYPES, events, f"{source}:{number}", partial(_count, database, source, number)
        )
        reach(Failpoint.MOVE_INSERTED)
        done += len(events)
        on_progress(contents.consumed() - read)
        read = contents.consumed()
    if salts := contents.salts():
        made = [((day - _EPOCH_DAY).days, 0, salt.hex(), microseconds(made_at)) for day, salt, made_at in salts]
        database.insert("salts", SALT_TYPES, made)
    account = [
        (name, progress.sequence, progress.written, msgspec.json.encode(progress.skipped).decode())
        for name, progress in contents.progress().items()
    ]
    if account:
        database.insert("positions", POSITION_TYPES, account)
    reach(Failpoint.MOVE_DONE)
    return done


def _empty(database: ClickhouseDatabase) -> None:
    """See that a database has nothing, after what an interrupted call has left is dropped."""
    [(others,)] = database.query(f"SELECT count() FROM {database.name}.events WHERE NOT {_BROUGHT}")
    [(positions,)] = database.query(f"SELECT count() FROM {database.name}.positions")
    if others or positions:
        raise BadUsageError(
            f"The database {database.name} has events already, and only an empty one can be filled (database.url)."
        )
    while database.is_ending(_MOVED):
        time.sleep(_LOOK_AGAIN_S)
    for table in (database.ddl.local_events, "event_ids", "salts"):
        database.run(f"TRUNCATE TABLE {database.name}.{table}{database.ddl.everywhere}")


def _count(database: ClickhouseDatabase, source: str, number: int) -> int:
    [(count,)] = database.query(
        f"SELECT count() FROM {database.name}.events WHERE queue = {{source:String}} AND sequence = {{number:UInt64}}",
        {"source": source, "number": number},
    )
    return int(count)


def _parts(items: Iterator[_Item]) -> Iterator[list[_Item]]:
    while part := list(islice(items, _PART_ROWS)):
        yield part
