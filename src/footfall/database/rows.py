"""What a batch comes to in a database: its rows, and what it adds to the account."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Final

import msgspec

from footfall.database.enrich import Skip, enrich
from footfall.database.schema import Row
from footfall.entry import Entry, Event
from footfall.queue.base import Batch, Progress
from footfall.queue.sink import DUPLICATE, LOST, UNREADABLE, missed_before
from footfall.settings import DatabaseSettings

DUPLICATE_AGE: Final = timedelta(hours=24)
"""An `event_id` that comes again within this counts once."""

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - databases hold UTC without saying so
NO_ID: Final = (0, _EPOCH)


class SeenIds:
    """Tells an event that is sent again from a new one.

    Attributes:
        new: keys of events that were not known before, and when they were received.
    """

    def __init__(self, seen_at: Mapping[int, datetime]) -> None:
        """Start with what the database knows: when the event of each key was received, the last time it counted."""
        self._seen_at = dict(seen_at)
        self.new: dict[int, datetime] = {}

    def is_duplicate(self, key: int, received_at: datetime) -> bool:
        """Whether an event with that key was received within 24 hours of this one, which it is now."""
        seen_at = self._seen_at.get(key)
        if seen_at is not None and abs(received_at - seen_at) < DUPLICATE_AGE:
            return True
        self._seen_at[key] = self.new[key] = received_at
        return False


class BatchRows(msgspec.Struct):
    """What a batch comes to.

    Attributes:
        rows: those to be added.
        ids: for each row what tells its event when it is sent again, and when it was received; `NO_ID` where it has no
            `event_id`.
        progress: where the sink stands with them.
    """

    rows: list[Row]
    ids: list[tuple[int, datetime]]
    progress: Progress


def rows_of(
    batch: Batch,
    entries: Iterable[Entry] | None,
    before: Progress,
    salts: Mapping[int, bytes],
    seen: SeenIds,
    *,
    settings: DatabaseSettings = DatabaseSettings(),
) -> BatchRows:
    """What a batch comes to in a database that stands at `before`.

    Args:
        batch: past `before`.
        entries: what is in it (`entries_of`).
        before: the sink's progress in the batch's source.
        salts: as for `enrich`.
        seen: what is known of event ids.
        settings: as for `enrich`.
    """
    rows: list[Row] = []
    ids: list[tuple[int, datetime]] = []
    skipped = Counter(before.skipped)
    if missed := missed_before(batch, before):
        skipped[LOST] += missed
    if entries is None:
        skipped[UNREADABLE] += batch.count
    for entry in entries or ():
        event_id = NO_ID
        if isinstance(entry, Event) and entry.event_id is not None:
            event_id = _key_of(entry), _received_at(entry)
            if seen.is_duplicate(*event_id):
                skipped[DUPLICATE] += 1
                continue
        row = enrich(entry, salts, settings)
        if isinstance(row, Skip):
            skipped[row.value] += 1
        else:
            rows.append(row)
            ids.append(event_id)
    return BatchRows(
        rows, ids, Progress(batch.sequence, before.safe_sequence, before.written + len(rows), dict(skipped))
    )


def keys_in(batches: Iterable[Iterable[Entry] | None]) -> dict[int, datetime]:
    """The keys of all events in `batches` that have an id, and when they were received, the last where there are more.

    A key is a signed number of 128 bits, the hash of site and id.
    """
    return {
        _key_of(entry): _received_at(entry)
        for entries in batches
        for entry in entries or ()
        if isinstance(entry, Event) and entry.event_id is not None
    }


def _key_of(event: Event) -> int:
    digest = blake2b(msgspec.msgpack.encode((event.site_id, event.event_id)), digest_size=16)
    return int.from_bytes(digest.digest(), "big", signed=True)


def _received_at(event: Event) -> datetime:
    """To the second, as all that a database keeps of it."""
    return _EPOCH + timedelta(seconds=event.received_ns // 1_000_000_000)
