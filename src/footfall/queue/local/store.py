"""The embedded queue: one SQLite file, written by collectors and read by consumers of the same machine.

File format (SQLite 3, WAL mode, `PRAGMA user_version` = 1):

- `batches`: a row a batch. `sequence` is the time of its commit in microseconds, or one more than the one before where
  the clock does not say more. So a sequence is not used again even when the end of the file is lost, or the file comes
  from a backup, and what the sinks have passed stays passed. `received` and `end_bytes` are the sums of all counts and
  of all payload lengths up to and with this one, ever. `checksum` is the CRC-32 of the payload (zlib's).
- `totals`: one row: the queue's `source` name, entries ever `received`, payload bytes ever taken (`end_bytes`), and
  the `last_sequence`.
- `refused`: how many requests were turned away, by reason.
- `sinks`: what each sink last reported. Retention and the ledger use it; a sink reads it when its own state is lost.
- `imports`, and two tables more: what is remembered of imported logs (`footfall.queue.local.imports`).

SQLite checks none of its pages, so what could do harm if it were changed has a `seal`, the CRC-32 of the row's other
columns (without the payload), and each batch's `end_bytes` must continue that of the batch before. A payload that does
not fit its checksum makes a damaged batch; anything else that does not fit makes a damaged queue (`salvage`).

Beside it is `<file>.source`: the source's name once more. Whoever has the queue open holds a shared lock on it.

One batch is one transaction, so it is in the file whole or not at all, together with the count of what was received.
With `synchronous=FULL` SQLite syncs the WAL before the commit returns (https://sqlite.org/pragma.html#pragma_synchronous);
with `NORMAL` it hands it to the operating system. Writers in several processes take turns by SQLite's own lock; readers
never wait for them.

This file knows nothing of what is in a batch, and forgets a batch only when every sink named at construction has
reported it safe, plus a margin that a rebuilt database can use.
"""

import fcntl
import logging
import os
import sqlite3
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from footfall.durable.checksum import checksum_of
from footfall.durable.files import PRIVATE, open_file, write_file
from footfall.durable.sqlite import can_try_again, connect, is_damage, roll_back, transaction
from footfall.errors import (
    DamagedFileError,
    DamagedQueueError,
    FootfallError,
    QueueBrokenError,
    QueueFullError,
)
from footfall.failpoint import Failpoint, reach
from footfall.queue.account import RelayAccount
from footfall.queue.base import Batch, Progress, SinkReport
from footfall.queue.local.imports import ImportedBatch, ImportedSite, ImportMark, make_tables, remember

FILE_NAME = "queue.sqlite"

SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (
    sequence INTEGER PRIMARY KEY,
    committed_ns INTEGER NOT NULL,
    count INTEGER NOT NULL,
    received INTEGER NOT NULL,
    end_bytes INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    seal INTEGER NOT NULL,
    payload BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS totals (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    source TEXT NOT NULL,
    received INTEGER NOT NULL,
    end_bytes INTEGER NOT NULL,
    last_sequence INTEGER NOT NULL,
    seal INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS refused (reason TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sinks (
    name TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL,
    safe_sequence INTEGER NOT NULL,
    written INTEGER NOT NULL,
    skipped TEXT NOT NULL,
    mark TEXT NOT NULL,
    trouble TEXT,
    seal INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS imports (
    log TEXT NOT NULL,
    number INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    line INTEGER NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (log, number)
) WITHOUT ROWID;
"""
FORMAT = 1
_log = logging.getLogger(__name__)
_BUSY_S = 5.0
_TRIM_BATCHES = 256
_TRIM_BYTES = 512 * 1024
"""What is dropped at a time. A commit waits meanwhile: for 5 ms, where 256 large batches took seconds."""
_HOUR_NS = 3_600 * 1_000_000_000
_MAX_MARGIN_BYTES = 64 * 1024 * 1024
_VACUUM_PAGES = 256
_CHECKPOINT_PAGES = 1_000
"""From one checkpoint of SQLite's WAL to the next, 4 MB: the commit that makes it waits for so much to be written."""
_LITTLE = 0.3
_MEASURE_BYTES = 1024 * 1024
"""How much may be appended between two looks at the file's size; several writers may pass the limit by this each."""
_WAL_KEPT_BYTES = 16 * 1024 * 1024


class QueueState(Struct, frozen=True):
    """The queue at one moment, read in one transaction, so that its figures fit together.

    Attributes:
        has_assignment: with a broker: by sink, whether a consumer here is one that the broker gives to.
        relay: with a broker, and a collector here: what became of the messages.
    """

    received: int
    refused: dict[str, int]
    last_sequence: int
    sinks: dict[str, SinkReport]
    lag_batches: dict[str, int]
    lag_seconds: dict[str, float]
    bytes: int
    has_assignment: dict[str, bool] = {}
    relay: RelayAccount | None = None


class LocalQueue:
    """One connection to the queue's file; each thread has its own.

    Args:
        path: the SQLite file; made when it is not there.
        sinks: the names of the sinks that must have passed a batch before it is dropped.
        durability: `disk`: `append` returns when the batch is synced. `memory`: when the system has it.
        max_bytes: what the batches may take on disk before `append` refuses.
        margin_hours: how long batches that every sink has passed stay for a rebuild; they hold addresses.
        clock: nanoseconds since 1970.

    Raises:
        DamagedQueueError: the file can't be read as a queue.
        DamagedFileError: it has another format.
        OSError: it can't be opened or made.
    """

    def __init__(
        self,
        path: Path,
        *,
        sinks: Sequence[str],
        durability: Literal["disk", "memory"] = "disk",
        max_bytes: int = 1 << 30,
        margin_hours: int = 48,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._path = path
        self._sinks = tuple(sinks)
        self._max_bytes = max_bytes
        self._margin_bytes = min(_MAX_MARGIN_BYTES, max_bytes // 4)
        self._margin_ns = margin_hours * _HOUR_NS
        self._room = 0  # may be appended before the file's size is looked at again
        self._beyond = max_bytes  # was free besides, when it was
        self._clock = clock
        with ExitStack() as held:
            source_fd = open_file(source_path(path), os.O_RDWR | os.O_CREAT, mode=PRIVATE)
            held.callback(os.close, source_fd)
            fcntl.flock(source_fd, fcntl.LOCK_SH)
            try:
                with self._naming_errors():
                    self._db = held.enter_context(closing(connect(path, busy_s=_BUSY_S)))
                    self._open_patiently(durability, source_fd)
            except QueueFullError as error:
                raise OSError(str(error)) from error
            self._page_bytes: int = self._value("PRAGMA page_size")
            self._held = held.pop_all()

    def _open_patiently(self, durability: Literal["disk", "memory"], source_fd: int) -> None:
        """SQLite does not wait for another process that is making the file a WAL database at this moment."""
        deadline = time.monotonic() + _BUSY_S
        while True:
            try:
                return self._open(durability, source_fd)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _open(self, durability: Literal["disk", "memory"], source_fd: int) -> None:
        self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(f"PRAGMA synchronous = {'FULL' if durability == 'disk' else 'NORMAL'}")
        self._db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        self._db.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT_BYTES}")
        version: int = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._create(os.pread(source_fd, 64, 0).decode(errors="replace") or uuid.uuid4().hex)
        elif version != FORMAT:
            raise DamagedFileError(f"{self._path} has format {version}; this Footfall reads format {FORMAT}.")
        self.source, *_ = self._totals()
        if os.pread(source_fd, 64, 0) != self.source.encode():
            os.ftruncate(source_fd, 0)
            os.pwrite(source_fd, self.source.encode(), 0)

    def _create(self, source: str) -> None:
        """Safe when two processes do it at the same moment: the second finds all in place."""
        with transaction(self._db):
            for statement in SCHEMA.split(";"):
                self._db.execute(statement)
            row = (source, 0, 0, 0)
            self._db.execute("INSERT OR IGNORE INTO totals VALUES (1, ?, ?, ?, ?, ?)", (*row, checksum_of(*row)))
            self._db.execute(f"PRAGMA user_version = {FORMAT}")

    # What a collector calls.

    def append(
        self,
        payload: bytes,
        count: int,
        refused: Mapping[str, int] | None = None,
        imported: ImportedBatch | None = None,
    ) -> int:
        """Commit one batch, and what was refused since the last one; return its sequence.

        Args:
            payload: entries, encoded.
            count: how many.
            refused: requests turned away, by reason.
            imported: for a batch of an import, what is to be remembered of its lines.

        Raises:
            AlreadyInUseError: another import has brought lines of that site meanwhile; nothing was taken.
            QueueFullError: the limit or the disk is reached, nothing was taken; a later call may succeed.
            QueueBrokenError: whether it was taken is unknown; only a new start from the disk can tell.
            DamagedQueueError: the file is no longer a queue.
        """
        with self._transaction():
            self._take_room(len(payload))
            now_ns = self._clock()
            _, received, end_bytes, last_sequence = self._totals()
            received += count
            end_bytes += len(payload)
            sequence = max(last_sequence + 1, now_ns // 1_000)
            self._set_totals(received, end_bytes, sequence)
            header = (sequence, now_ns, count, received, end_bytes, zlib.crc32(payload))
            self._db.execute(
                "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*header, checksum_of(*header), payload)
            )
            self._add_refused(refused or {})
            if imported is not None:
                remember(self._db, sequence, imported, self._max_bytes)
            reach(Failpoint.QUEUE_INSERTED)
        reach(Failpoint.QUEUE_COMMITTED)
        return sequence

    def _totals(self) -> tuple[str, int, int, int]:
        row = self._db.execute("SELECT source, received, end_bytes, last_sequence, seal FROM totals").fetchone()
        if row is None or checksum_of(*row[:-1]) != row[-1]:
            raise self._damage("its totals are not what was written")
        source, received, end_bytes, last_sequence, _ = row
        return source, received, end_bytes, last_sequence

    def _set_totals(self, received: int, end_bytes: int, last_sequence: int) -> None:
        self._db.execute(
            "UPDATE totals SET received = ?, end_bytes = ?, last_sequence = ?, seal = ?",
            (received, end_bytes, last_sequence, checksum_of(self.source, received, end_bytes, last_sequence)),
        )

    def make_sure_of_room(self) -> None:
        """Raise `QueueFullError` if the limit is reached."""
        self._room = 0
        self._take_room(1)

    def _take_room(self, size: int) -> None:
        """Measured again only when what was measured last can't vouch for `size` more."""
        self._room -= size
        if self._room < 0:
            free = self._max_bytes - self._used_bytes()
            if free < size:
                raise QueueFullError(f"the queue holds its limit of {self._max_bytes} bytes (queue.max_bytes)")
            self._room = min(free, _MEASURE_BYTES) - size
            self._beyond = free - min(free, _MEASURE_BYTES)

    def free_share(self) -> float:
        """The part of its limit that is free, about; exactly when it is little, since outputs may have caught up."""
        free = self._beyond + self._room
        if free < self._max_bytes * _LITTLE:
            self._room, self._beyond = 0, self._max_bytes - self._used_bytes()
            free = self._beyond
        return max(0, free) / self._max_bytes

    def add_refused(self, refused: Mapping[str, int]) -> None:
        """Count what was refused when there is no batch to count it with; raises what `append` does."""
        with self._transaction():
            self._add_refused(refused)

    def _add_refused(self, refused: Mapping[str, int]) -> None:
        for reason, count in refused.items():
            self._db.execute(
                "INSERT INTO refused VALUES (?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
                (reason, count),
            )

    # What an import calls, besides `append`.

    def import_marks(self, log: str) -> list[ImportMark]:
        """How far the logs known by `log` have come, in the order in which they were begun."""
        rows = self._rows("SELECT log, number, offset, line, digest FROM imports WHERE log = ? ORDER BY number", log)
        return [ImportMark(*row) for row in rows]

    def drop_import_marks(self, log: str) -> None:
        """Forget how far the logs known by `log` have come."""
        if self.import_marks(log):
            with self._transaction():
                self._db.execute("DELETE FROM imports WHERE log = ?", (log,))

    def imported_site(self, site: str) -> ImportedSite:
        """What is remembered of the lines that were imported for `site`."""
        if not self._value("SELECT count(*) FROM sqlite_master WHERE name = 'imported_lines'"):
            with self._transaction():
                make_tables(self._db)
        rows = self._rows("SELECT version, lines, forgotten FROM imported_sites WHERE site = ?", site)
        return ImportedSite(*rows[0]) if rows else ImportedSite()

    def imported_lines(self, site: str, minute: int) -> bytes:
        """The digests of a minute's lines, after `imported_site`."""
        rows = self._rows("SELECT digests FROM imported_lines WHERE site = ? AND minute = ?", site, minute)
        return b"".join(digests for (digests,) in rows)

    # What a consumer calls.

    def read(self, after: int, *, max_bytes: int = 4 * 1024 * 1024) -> list[Batch]:
        """The next batches after sequence `after`, in order: at least one if any is there, about `max_bytes` in all.

        Raises:
            DamagedQueueError: something in the file is not what was written, or a batch is missing.
            QueueFullError: the disk does not let it be read now.
        """
        batches: list[Batch] = []
        room = max_bytes
        with self._naming_errors(), closing(self._db.cursor()) as rows:
            rows.execute(
                "SELECT sequence, committed_ns, count, received, end_bytes, checksum, seal, payload FROM batches "
                "WHERE sequence > ? ORDER BY sequence",
                (after,),
            )
            # In the snapshot of the statement above. Where `after` is not there any more, nothing is known.
            start_bytes: int | None = self._value("SELECT end_bytes FROM batches WHERE sequence = ?", after)
            for *header, seal, payload in rows:
                if checksum_of(*header) != seal or not isinstance(payload, bytes):
                    raise self._damage(f"a batch after {after} is not what was written")
                sequence, committed_ns, count, received, end_bytes, checksum = header
                if sequence <= after or start_bytes not in {None, end_bytes - len(payload)}:
                    raise self._damage(f"batches after {after} are missing")
                is_damaged = checksum != zlib.crc32(payload)
                if is_damaged:
                    self._set_aside(sequence, count, payload)
                before = received - count
                batches.append(Batch(self.source, sequence, committed_ns, count, payload, is_damaged, before))
                after, start_bytes = sequence, end_bytes
                room -= len(payload)
                if room <= 0:
                    break
        return batches

    def _set_aside(self, sequence: int, count: int, payload: bytes) -> None:
        """Keep what is left of a damaged batch, once, for somebody to look at."""
        path = self._path.with_name(f"{self._path.name}.batch-{sequence}.damaged")
        if not path.exists():
            with suppress(OSError):  # on a full disk it stays where it is
                write_file(path, payload)
            _log.error("a batch of %d entries is damaged on disk; what is left of it is in %s", count, path)

    def last_sequence(self) -> int:
        """The last batch there is; 0 before the first."""
        return self._value("SELECT max(sequence) FROM batches") or 0

    def received_until(self, sequence: int) -> int:
        """How many entries the batches up to `sequence` held, those dropped since included."""
        received: int = self._value(
            "SELECT received - (SELECT coalesce(sum(count), 0) FROM batches WHERE sequence > ?) FROM totals", sequence
        )
        return received

    def report(self, sink: str, progress: Progress, trouble: str | None = None, *, mark: str = "") -> None:
        """Note how far a sink has come, and what keeps it from going on, if anything does.

        Args:
            sink: its name.
            progress: where it stands in this queue's source.
            trouble: see `SinkReport`.
            mark: see `SinkReport`.

        Raises:
            QueueFullError, QueueBrokenError: as `append`; the next report makes up for a lost one.
        """
        skipped = msgspec.json.encode(progress.skipped).decode()
        row = (sink, progress.sequence, progress.safe_sequence, progress.written, skipped, mark, trouble)
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO sinks VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, checksum_of(*row)))
            _, received, end_bytes, last_sequence = self._totals()
            if progress.dealt_with > received or progress.sequence > last_sequence:
                # The end of the file was lost after the sink had passed it. What comes now is to be behind that, also
                # where the clock says less by now.
                self._set_totals(max(progress.dealt_with, received), end_bytes, max(progress.sequence, last_sequence))

    def trim(self) -> int:
        """Drop some batches that every sink has passed, and that the margin has no place for.

        Disk goes back to the system a piece at a time, so that no commit waits long behind this one.

        Returns:
            how many were dropped.
        """
        reports = self.sink_reports()
        passed = min((reports[sink].safe_sequence if sink in reports else 0 for sink in self._sinks), default=0)
        if self._droppable(passed, limit=1):
            with self._transaction():
                sequences = self._droppable(passed, limit=_TRIM_BATCHES)
                self._db.execute("DELETE FROM batches WHERE sequence <= ?", (max(sequences, default=0),))
            reach(Failpoint.QUEUE_TRIMMED)
        else:
            sequences = []
        self._give_back()
        return len(sequences)

    def _droppable(self, passed: int, *, limit: int) -> list[int]:
        """The oldest batches up to `passed` that are beyond the margin, by their size or their age: a piece of them.

        Without a gap, though a clock that was set may have left an old time after a new one: the batches that stay
        have to follow one another.
        """
        kept_bytes = self._value("SELECT end_bytes FROM totals") - self._margin_bytes
        kept_ns = self._clock() - self._margin_ns
        oldest = self._rows(
            "SELECT sequence, end_bytes, committed_ns FROM batches WHERE sequence <= ? ORDER BY sequence LIMIT ?",
            passed,
            limit,
        )
        last_bytes = oldest[0][1] + _TRIM_BYTES if oldest else 0
        return [
            sequence
            for sequence, end_bytes, _ in takewhile(lambda row: row[1] <= kept_bytes or row[2] <= kept_ns, oldest)
            if end_bytes <= last_bytes
        ]

    def _give_back(self) -> None:
        """Return some free pages to the system."""
        if self._value("PRAGMA freelist_count") > _VACUUM_PAGES:
            with self._naming_errors():
                # One step of this statement frees one page, and `execute` takes one step.
                self._db.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
                # The file gets shorter only when the WAL is brought into it.
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    # What the ledger and the metrics call.

    def state(self) -> QueueState:
        """What came in, what was turned away, and where each sink stands."""
        self._rows("BEGIN")
        try:
            received: int = self._value("SELECT received FROM totals")
            last = self._value("SELECT max(sequence) FROM batches", default=0) or 0
            refused: dict[str, int] = dict(self._rows("SELECT reason, count FROM refused ORDER BY reason"))
            sinks = self.sink_reports()
            lag_batches, lag_seconds = {}, {}
            for name in self._sinks:
                reached = sinks[name].sequence if name in sinks else 0
                lag_batches[name] = self._value("SELECT count(*) FROM batches WHERE sequence > ?", reached)
                oldest = self._value(
                    "SELECT committed_ns FROM batches WHERE sequence > ? ORDER BY sequence LIMIT 1", reached
                )
                lag_seconds[name] = 0.0 if oldest is None else max(0.0, (self._clock() - oldest) / 1e9)
            used = self._used_bytes()
        finally:
            roll_back(self._db)
        return QueueState(received, refused, last, sinks, lag_batches, lag_seconds, used)

    def sink_reports(self) -> dict[str, SinkReport]:
        """What each sink last reported; a report that is not what was written counts as none."""
        reports = {}
        for *row, seal in self._rows(
            "SELECT name, sequence, safe_sequence, written, skipped, mark, trouble, seal FROM sinks"
        ):
            if checksum_of(*row) == seal:
                name, sequence, safe_sequence, written, skipped, mark, trouble = row
                counts = msgspec.json.decode(skipped, type=dict[str, int])
                reports[name] = SinkReport(sequence, safe_sequence, written, counts, mark, trouble)
        return reports

    # What a start calls, and an end.

    def check(self) -> None:
        """Look whether the file holds all that it says.

        Raises:
            DamagedQueueError: its end is missing.
        """
        self._rows("BEGIN")
        try:
            _, received, end_bytes, last_sequence = self._totals()
            last = self._rows("SELECT received, sequence, end_bytes FROM batches ORDER BY sequence DESC LIMIT 1")
        finally:
            roll_back(self._db)
        # What was lost before, and is counted so, keeps its entries and its sequence in the totals.
        if last and (last[0][0] > received or last[0][1] > last_sequence or last[0][2] != end_bytes):
            raise self._damage("its last batches are missing")

    def close(self) -> None:
        self._held.close()

    def _used_bytes(self) -> int:
        pages: int = self._value("PRAGMA page_count") - self._value("PRAGMA freelist_count")
        return pages * self._page_bytes

    def _value(self, sql: str, *parameters: object, default: Any = None) -> Any:  # noqa: ANN401 - SQL's types
        rows = self._rows(sql, *parameters)
        return rows[0][0] if rows else default

    def _rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self._naming_errors():
            return self._db.execute(sql, parameters).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        is_ending = False
        try:
            with transaction(self._db):
                yield
                is_ending = True
        except sqlite3.DatabaseError as error:
            if is_ending and not can_try_again(error) and not is_damage(error):
                raise QueueBrokenError(f"{self._path}: {error}") from error
            raise self._meaning(error) from error

    @contextmanager
    def _naming_errors(self) -> Iterator[None]:
        """For all but the end of a transaction: whatever the error is, nothing was taken."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise self._meaning(error) from error

    def _meaning(self, error: sqlite3.DatabaseError) -> FootfallError:
        if is_damage(error):
            return self._damage(str(error))
        return QueueFullError(f"the queue {self._path} can't be used now: {error}")

    def _damage(self, what: str) -> DamagedQueueError:
        return DamagedQueueError(f"{self._path} is damaged: {what}.")


def source_path(path: Path) -> Path:
    """The file beside a queue's."""
    return path.with_name(f"{path.name}.source")
