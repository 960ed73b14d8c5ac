"""The sink that fills a ClickHouse database, with each row once, whoever inserts it and however often.

There is no transaction that could hold rows and position. For each source the sink *inserts* rows as one part, *counts*
what is there behind the position, and then *moves* the position; so a position may be behind the rows, but is never
ahead of them. docs/architecture.md says what can go wrong at each step; here is what each rests on:

- **Insert.** The token is `source:position`, where the position is the one that the rows follow. So of all inserts that
  follow one position, by whatever process, late or repeated, one takes place. A table forgets a token after 10,000
  others; so where there may be other processors, the position is read once more just before an insert. An insert that
  is cut off while it is sent is given up by the server.
- **Count.** Where nothing is found, the token is dead, and `insert_once` tries the next. Where something else is found
  than what was inserted, somebody else writes: nothing is moved, and the next call looks again. With replicas no token
  is dead, and the replica that is asked may be late. There only the first insert of a source is counted, and inserts
  with event ids.
- **Look.** The first write for a source ends inserts of earlier processes, then counts what is there behind the
  position. Batches that it finds are accounted for and not inserted. After any error it is not known what has
  happened, so the next call begins with a look.

**Event ids.** Two processors that get the same event id at the same moment may not see each other's row. Both look
again after they have inserted, so whoever is later finds both rows. The one that was received later, or else has the
greater source and sequence, is noted in `doubles`, and reports leave it out. In the ledger it counts as written.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final

import msgspec

from footfall.database.clickhouse.ddl import DOUBLE_TYPES, EVENT_TYPES, POSITION_TYPES
from footfall.database.clickhouse.salts import ClickhouseSalts
from footfall.database.clickhouse.server import ClickhouseDatabase
from footfall.database.clickhouse.values import stored
from footfall.database.enrich import SALT_BYTES
from footfall.database.geo import FindPlace, nowhere
from footfall.database.moments import EPOCH, microseconds, moment
from footfall.database.rows import DUPLICATE_AGE, SeenId, SeenIds, keys_in, rows_of
from footfall.database.salts import SALT_AGE, Steadiness, running_time
from footfall.entry import Entry
from footfall.failpoint import Failpoint, reach
from footfall.queue.base import Batch, Progress, SinkReport
from footfall.queue.sink import DATABASE, DUPLICATE, entries_of, past
from footfall.settings import DatabaseSettings

_Opened = tuple[Batch, list[Entry] | None]
"""A batch, and what is in it (`entries_of`)."""


class ClickhouseSink:
    """The sink that fills `events`.

    Args:
        database: stays the caller's.
        is_exclusive: no other processor writes the same sources, which a lock makes sure of: what one call brings of a
            source is one insert. Else each batch is, so that all processors mean the same by a position; what is in a
            batch has to be the same for all.
        clock: nanoseconds since 1970.
        monotonic: seconds that no one sets.
        settings: what rows hold.
        find_place: tells where an address is.

    Raises:
        OSError, FootfallError: as `write`.
    """

    name = DATABASE

    def __init__(
        self,
        database: ClickhouseDatabase,
        *,
        is_exclusive: bool,
        clock: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = running_time,
        settings: DatabaseSettings = DatabaseSettings(),
        find_place: FindPlace = nowhere,
    ) -> None:
        self._db = database
        self._is_exclusive = is_exclusive
        self._clock = clock
        self._settings = settings
        self._find_place = find_place
        self._steadiness = Steadiness(monotonic)
        self._salts = ClickhouseSalts(database, self._now)
        self._positions: dict[str, Progress] = {}
        self._found: dict[str, Counter[int]] = {}
        """By source: rows past the position that this process has not written, by their batch."""
        self._proven: set[str] = set()
        """Sources of which an insert was seen to be this process's own."""
        self._load()

    def progress(self) -> Mapping[str, Progress]:
        return self._positions

    def mark(self) -> str:
        return ""

    def resume(self, source: str, report: SinkReport | None, read: Callable[[int], Sequence[Batch]]) -> None:
        """Nothing is to be found out here; `write` does, for each source it meets."""

    def write(self, batches: Sequence[Batch]) -> None:
        """As `Sink.write`; and FootfallError when the server does not let us write, which trying again does not mend.

        When this fails, what was written of some sources stays written, and is in `progress`.
        """
        opened = [(batch, entries_of(batch)) for batch in past(batches, self._positions)]
        try:
            for source, of_source in groupby(sorted(opened, key=_source_of), key=_source_of):
                self._write(source, list(of_source))
            if not batches:
                self._load()  # what other processors have written, for the ledger
            self._keep_up()
        except BaseException:
            # What the failed call did is not known.
            self._found.clear()
            self._proven.clear()
            raise

    def close(self) -> None:
        """Nothing is held."""

    def _write(self, source: str, opened: list[_Opened]) -> None:
        if source not in self._found:
            self._look(source)
            opened = [(batch, entries) for batch, entries in opened if batch.sequence > self._at(source).sequence]
        there = sum(batch.sequence <= max(self._found[source], default=0) for batch, _ in opened)
        if there:
            self._account(source, opened[:there])
        new = opened[there:]
        if new and self._found[source]:
            # What is left was written of batches that the queue has no more.
            last = max(self._found[source])
            self._move(source, _grown(self._at(source), self._found[source].total(), last))
            self._found[source].clear()
            if any(sequence <= last for sequence, _ in new[0][0].joined):
                # A message that was joined of batches that are in the output; it comes again without them.
                raise OSError(f"what comes next is there in part ({source})")
        for part in [new] if self._is_exclusive else [[one] for one in new]:
            if part:
                self._insert(source, part)

    def _look(self, source: str) -> None:
        """Find out where a source stands, and what of it is there past that."""
        if self._db.is_ending(f"{source}:"):
            raise OSError(f"inserts of an earlier process are being ended ({source})")
        self._load(source)
        self._found[source] = self._count(source, self._at(source).sequence)

    def _account(self, source: str, opened: Sequence[_Opened]) -> None:
        """Move the position past batches that are there already."""
        found = self._found[source]
        after = self._at(source)
        for batch, entries in opened:
            gone = [sequence for sequence in found if sequence < batch.sequence]
            after = _grown(after, sum(found.pop(sequence) for sequence in gone), after.sequence)
            # Without regard to ids: what is not there of the rows was a duplicate.
            added = rows_of(batch, entries, after, _NO_SALTS, SeenIds({}, _NO_SALTS))
            after = _recounted(added.progress, after.written + found.pop(batch.sequence, 0))
        self._note_doubles([entries for _, entries in opened])
        self._move(source, after)

    def _insert(self, source: str, opened: Sequence[_Opened]) -> None:
        """Insert the rows of batches, see that they are there, and move the position past them."""
        before = after = self._at(source)
        all_entries = [entries for _, entries in opened]
        keys = keys_in(all_entries)
        seen = SeenIds(self._seen(keys, source, before.sequence), self._salts)
        rows: list[tuple[Any, ...]] = []
        sequences = set()
        for batch, entries in opened:
            added = rows_of(
                batch, entries, after, self._salts, seen, settings=self._settings, find_place=self._find_place
            )
            after = added.progress
            rows += [
                (*stored(row), source, batch.sequence, key, microseconds(known.received_at), known.sender)
                for row, (key, known) in zip(added.rows, added.ids, strict=True)
            ]
            if added.rows:
                sequences.add(batch.sequence)
        token = f"{source}:{before.sequence}"
        if not self._is_exclusive:
            self._load(source)
            if self._at(source).sequence > before.sequence:
                raise _overtaken(source, before)

        def count() -> Counter[int]:
            return self._count(source, before.sequence)

        there = self._db.insert_once("events", EVENT_TYPES, rows, token, count) if rows else count()
        reach(Failpoint.CLICKHOUSE_INSERTED)
        if there.keys() == sequences:
            after = _recounted(after, before.written + there.total())
        elif keys or source not in self._proven or not self._db.is_replicated:
            raise _overtaken(source, before)
        self._note_doubles(all_entries)
        self._move(source, after)
        self._proven.add(source)

    def _count(self, source: str, sequence: int) -> Counter[int]:
        """Rows of a source past a sequence, by batch."""
        return Counter(
            dict(
                self._db.query(
                    f"SELECT sequence, count() FROM {self._db.name}.events "
                    "WHERE queue = {source:String} AND sequence > {sequence:UInt64} GROUP BY sequence",
                    {"source": source, "sequence": sequence},
                )
            )
        )

    def _seen(self, keys: Mapping[int, datetime], source: str, sequence: int) -> dict[int, SeenId]:
        """What is known of events with these keys, the last time; but for what is past that place of `source`."""
        if not keys:
            return {}
        return {
            key: SeenId(moment(received_us), sender)
            for key, received_us, sender in self._db.query(
                "SELECT event_key, max(toUnixTimestamp64Micro(seen_at)), argMax(sender, seen_at) FROM ("
                f"SELECT event_key, seen_at, sender FROM {self._db.name}.events WHERE {_WITH_KEYS} "
                "AND NOT (queue = {source:String} AND sequence > {sequence:UInt64}) UNION ALL "
                f"SELECT event_key, seen_at, sender FROM {self._db.name}.event_ids WHERE {_WITH_KEYS}) "
                "GROUP BY event_key",
                {**_around(keys), "source": source, "sequence": sequence},
                keys=keys,
            )
        }

    def _note_doubles(self, batches: Sequence[list[Entry] | None]) -> None:
        """Note which rows reports leave out, where another processor has inserted the same event meanwhile."""
        keys = keys_in(batches)
        if not keys:
            return
        doubles = []
        for site_id, key, places in self._db.query(
            "SELECT any(site_id), event_key, "
            "arraySort(groupArray((toUnixTimestamp64Micro(seen_at), toString(queue), sequence))) "
            f"FROM {self._db.name}.events WHERE {_WITH_KEYS} GROUP BY event_key HAVING count() > 1",
            _around(keys),
            keys=keys,
        ):
            counted_us = None
            for received_us, queue, sequence in places:
                if counted_us is not None and timedelta(microseconds=received_us - counted_us) < DUPLICATE_AGE:
                    doubles.append((site_id, queue, sequence, key))
                else:
                    counted_us = received_us
        if doubles:
            self._db.insert("doubles", DOUBLE_TYPES, doubles)

    def _move(self, source: str, after: Progress) -> None:
        after = msgspec.structs.replace(after, safe_sequence=after.sequence)
        self._db.insert(
            "positions",
            POSITION_TYPES,
            [(source, after.sequence, after.written, msgspec.json.encode(after.skipped).decode())],
        )
        reach(Failpoint.CLICKHOUSE_MOVED)
        self._positions[source] = after

    def _at(self, source: str) -> Progress:
        return self._positions.get(source, Progress())

    def _load(self, source: str | None = None) -> None:
        """Read the positions, of one source or all."""
        for name, sequence, written, skipped in self._db.query(
            "SELECT source, max(sequence), argMax(written, sequence), argMax(skipped, sequence) "
            f"FROM {self._db.name}.positions WHERE {{source:String}} IN ('', source) GROUP BY source",
            {"source": source or ""},
        ):
            self._positions[name] = Progress(
                sequence, sequence, written, msgspec.json.decode(skipped, type=dict[str, int])
            )

    def _keep_up(self) -> None:
        now = self._now()
        self._salts.drop_derived()
        if self._steadiness.holds(now):
            self._salts.forget(now - SALT_AGE)

    def _now(self) -> datetime:
        return EPOCH + timedelta(microseconds=self._clock() // 1_000)


class _NoSalts(dict[int, bytes]):
    """For rows that are counted, and not kept."""

    def __missing__(self, day: int) -> bytes:
        return bytes(SALT_BYTES)


_NO_SALTS: Final = _NoSalts()

_WITH_KEYS: Final = (
    "event_key IN keys AND seen_at > fromUnixTimestamp64Micro({first:Int64}) "
    "AND seen_at < fromUnixTimestamp64Micro({last:Int64})"
)
"""Rows with these keys, near enough to be the same event."""


def _around(keys: Mapping[int, datetime]) -> dict[str, Any]:
    """The parameters of `_WITH_KEYS`."""
    return {
        "first": microseconds(min(keys.values()) - DUPLICATE_AGE),
        "last": microseconds(max(keys.values()) + DUPLICATE_AGE),
    }


def _source_of(opened: _Opened) -> str:
    return opened[0].source


def _overtaken(source: str, before: Progress) -> OSError:
    return OSError(f"another processor has written what comes after batch {before.sequence} of {source}")


def _grown(progress: Progress, written: int, sequence: int) -> Progress:
    return msgspec.structs.replace(progress, sequence=sequence, written=progress.written + written)


def _recounted(progress: Progress, written: int) -> Progress:
    """With so many rows that are there: what was to be there beyond them were duplicates."""
    duplicates = progress.skipped.get(DUPLICATE, 0) + progress.written - written
    skipped = {**progress.skipped, DUPLICATE: duplicates}
    return msgspec.structs.replace(
        progress, written=written, skipped={reason: count for reason, count in skipped.items() if count}
    )
