"""What a batch comes to in a database: its rows, and what it adds to the account."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from footfall.database.enrich import Skip, enrich
from footfall.database.schema import Row
from footfall.entry import Entry, Event
from footfall.queue.base import Batch, Progress
from footfall.queue.sink import CONFLICT, DUPLICATE, LOST, UNREADABLE, missed_before
from footfall.rate_limit import sender_of
from footfall.settings import DatabaseSettings

DUPLICATE_AGE: Final = timedelta(hours=24)
"""An `event_id` that comes again within this counts once."""

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - databases hold UTC without saying so


class SeenId(NamedTuple):
    """What is kept of an event that had an id.

    Attributes:
        received_at: the second in which it came.
        sender: a hash of the address it came from, keyed with the salt of the day of its receipt; 0 where that is not
            known. So once the salt is forgotten, nobody can tell the address.
    """

    received_at: datetime
    sender: int


NO_ID: Final = (0, SeenId(_EPOCH, 0))


class SeenIds:
    """Tells an event that is sent again from a new one.

    Attributes:
        new: what is to be kept of events that were not known before, by their keys.
    """

    def __init__(self, known: Mapping[int, SeenId], salts: Mapping[int, bytes]) -> None:
        """Start with what the database knows of each key, the last time that it counted; `salts` as for `enrich`."""
        self._known = dict(known)
        self._salts = salts
        self.new: dict[int, SeenId] = {}

    def reason_against(self, key: int, event: Event) -> str | None:
        """Why an event is not new: one with that key was received within 24 hours of it. If it is new, note it."""
        received_at = _received_at(event)
        known = self._known.get(key)
        if known is not None and abs(received_at - known.received_at) < DUPLICATE_AGE:
            is_known_sender = known.sender in {0, self._sender_of(event, known.received_at)}
            return DUPLICATE if is_known_sender else CONFLICT
        self._known[key] = self.new[key] = SeenId(received_at, self._sender_of(event, received_at))
        return None

    def _sender_of(self, event: Event, moment: datetime) -> int:
        sender = b"" if event.address is None else sender_of(event.address).encode()
        digest = blake2b(sender, key=self._salts[(moment - _EPOCH).days], digest_size=8).digest()
        return int.from_bytes(digest) >> 1 or 1  # signed in DuckDB; 0 says that it is not known


class BatchRows(msgspec.Struct):
    """What a batch comes to.

    Attributes:
        rows: those to be added.
        ids: for each row the key that tells its event when it is sent again, and what is kept of it; `NO_ID` where it
            has no `event_id`.
        progress: where the sink stands with them.
    """

    rows: list[Row]
    ids: list[tuple[int, SeenId]]
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
    ids: list[tuple[int, SeenId]] = []
    skipped = Counter(before.skipped)
    if missed := missed_before(batch, before):
        skipped[LOST] += missed
    if entries is None:
        skipped[UNREADABLE] += batch.count
    for entry in entries or ():
        event_id = NO_ID
        if isinstance(entry, Event) and entry.event_id is not None:
            key = _key_of(entry)
            if (reason := seen.reason_against(key, entry)) is not None:
                skipped[reason] += 1
                continue
            event_id = key, seen.new[key]
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
