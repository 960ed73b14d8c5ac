"""Makes the rows of a batch, and counts what it adds to the account."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from footfall.database.enrich import Skip, enrich
from footfall.database.erasure import NOTHING_ERASED, Keeping
from footfall.database.geo import FindPlace, nowhere
from footfall.database.schema import Row
from footfall.entry import Entry, Event
from footfall.queue.base import Batch, Progress
from footfall.queue.sink import CONFLICT, DUPLICATE, LOST, UNREADABLE, missed_before
from footfall.rate_limit import sender_of
from footfall.settings import DatabaseSettings

DUPLICATE_AGE: Final = timedelta(hours=24)
"""An `event_id` that comes again within this time counts once."""

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - databases hold UTC without saying so


class SeenId(NamedTuple):
    """What is kept of an event that had an id.

    Attributes:
        received_at: the second in which the event was received.
        sender: a hash of the address that sent it, keyed with the salt of the day of receipt. Once that salt is
            forgotten, nobody can find out the address. 0 if the sender is not known.
    """

    received_at: datetime
    sender: int


NO_ID: Final = (0, SeenId(_EPOCH, 0))


class SeenIds:
    """Tells repeated events from new ones.

    Attributes:
        new: what to keep of the events that are new, by their keys.
    """

    def __init__(self, known: Mapping[int, SeenId], salts: Mapping[int, bytes]) -> None:
        """`known` is what the database has of each key, of the last event that counted; `salts` is as for `enrich`."""
        self._known = dict(known)
        self._salts = salts
        self.new: dict[int, SeenId] = {}

    def reason_against(self, key: int, event: Event) -> str | None:
        """Why an event is not new, or None. It is new, and noted, if none with its key came within 24 hours of it."""
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
        return int.from_bytes(digest) >> 1 or 1  # signed in DuckDB; 0 means that it is not known


class BatchRows(msgspec.Struct):
    """What a batch adds to a database.

    Attributes:
        rows: the rows to add.
        ids: for each row, the key of its event's id and what is kept of the event; `NO_ID` if it has no `event_id`.
        progress: the sink's progress once they are added.
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
    keeping: Keeping = NOTHING_ERASED,
    find_place: FindPlace = nowhere,
) -> BatchRows:
    """What a batch adds to a database whose progress is `before`.

    Args:
        batch: a batch past `before`.
        entries: its entries (`entries_of`).
        before: the sink's progress in the batch's source.
        salts: as for `enrich`.
        seen: the event ids that are known.
        settings: as for `enrich`.
        keeping: what has no place in the database.
        find_place: tells where an address is.
    """
    rows: list[Row] = []
    ids: list[tuple[int, SeenId]] = []
    skipped = Counter(before.skipped)
    if missed := missed_before(batch, before):
        skipped[LOST] += missed
    if entries is None:
        skipped[UNREADABLE] += batch.count
    kept = keeping.of(batch.source, batch.sequence)
    for entry in entries or ():
        event_id = NO_ID
        if isinstance(entry, Event) and entry.event_id is not None:
            key = _key_of(entry)
            if (reason := seen.reason_against(key, entry)) is not None:
                skipped[reason] += 1
                continue
            event_id = key, seen.new[key]
        row = enrich(entry, salts, settings, find_place)
        if isinstance(row, Skip):
            skipped[row.value] += 1
        elif kept is not None and (reason := kept.reason_against(row)) is not None:
            skipped[reason] += 1
        else:
            rows.append(row)
            ids.append(event_id)
    return BatchRows(
        rows, ids, Progress(batch.sequence, before.safe_sequence, before.written + len(rows), dict(skipped))
    )


def keys_in(batches: Iterable[Iterable[Entry] | None]) -> dict[int, datetime]:
    """The keys of all events in `batches` that have an id, and when each was received; of repeated keys, the last time.

    A key is a hash of site and id, as a signed number of 128 bits.
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
    """When it was received, to the second. A database keeps no more than that."""
    return _EPOCH + timedelta(seconds=event.received_ns // 1_000_000_000)
