"""The embedded queue: one SQLite file, written by collectors and read by consumers of the same machine.

File format (SQLite 3, WAL mode, `PRAGMA user_version` = 1):

- `batches`: a row a batch. `sequence` is the time of its commit in microseconds, or one more than the one before where
  the clock does not say more. So a sequence is not used again even when the end of the file is lost, or the file comes
  from a backup, and what the sinks have passed stays passed. `checksum` is the CRC-32 of the payload (zlib's), since
  SQLite checks none of its pages. `end_bytes` is the sum of all payload lengths up to and with this one, ever.
- `totals`: one row: the queue's `source` name, entries ever `received`, payload bytes ever taken (`end_bytes`), and
  the `last_sequence`.
- `refused`: how many requests were turned away, by reason.
- `sinks`: what each sink last reported. Retention and the ledger use it; no sink reads it.
- `imports`: how far each imported log has come, moved in the transaction of the batch that holds its lines.

One batch is one transaction, so it is in the file whole or not at all, together with the count of what was received.
With `synchronous=FULL` SQLite syncs the WAL before the commit returns (https://sqlite.org/pragma.html#pragma_synchronous);
with `NORMAL` it hands it to the operating system. Writers in several processes take turns by SQLite's own lock; readers
never wait for them.

This file knows nothing of what is in a batch, and forgets a batch only when every sink named at construction has
reported it safe, plus a margin that a rebuilt database can use.
"""

import logging
import sqlite3
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from footfall.crashpoint import Point, reach
from footfall.errors import AlreadyInUseError, DamagedFileError, QueueBrokenError, QueueFullError
from footfall.queue.base import Batch, Progress

FILE_NAME = "queue.sqlite"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (
    sequence INTEGER PRIMARY KEY,
    committed_ns INTEGER NOT NULL,
    count INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    end_bytes INTEGER NOT NULL,
    payload BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS totals (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    source TEXT NOT NULL,
    received INTEGER NOT NULL,
    end_bytes INTEGER NOT NULL,
    last_sequence INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS refused (reason TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sinks (
    name TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL,
    safe_sequence INTEGER NOT NULL,
    written INTEGER NOT NULL,
    skipped TEXT NOT NULL,
    trouble TEXT
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
_FORMAT = 1
_log = logging.getLogger(__name__)
_BUSY_S = 5.0
_TRIM_BATCHES = 256
_MAX_MARGIN_BYTES = 64 * 1024 * 1024
_VACUUM_PAGES = 512
_CHECKPOINT_PAGES = 4_000
"""From one checkpoint of SQLite's WAL to the next: 16 MB, a few a second at full load."""
_MEASURE_BYTES = 1024 * 1024
"""How much may be appended between two looks at the file's size; several writers may pass the limit by this each."""
_WAL_KEPT_BYTES = 16 * 1024 * 1024

_TRY_AGAIN_CODES = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
"""Errors after which SQLite has rolled the transaction back and trying again later is sound."""

_DAMAGED_CODES = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}


class ImportMark(Struct, frozen=True):
    """How far an existing log has been sent into this queue.

    Attributes:
        log: what it is known by; logs that begin alike may share it.
        number: tells those apart.
        offset: bytes done.
        line: lines done.
        digest: SHA-256 of those bytes.
    """

    log: str
    number: int
    offset: int
    line: int
    digest: bytes


class SinkReport(Struct, frozen=True):
    """What a sink last told this queue about this source."""

    sequence: int
    written: int
    skipped: dict[str, int]
    trouble: str | None


class QueueState(Struct, frozen=True):
    """The queue at one moment, read in one transaction, so that its figures fit together."""

    received: int
    refused: dict[str, int]
    last_sequence: int
    sinks: dict[str, SinkReport]
    lag_batches: dict[str, int]
    lag_seconds: dict[str, float]
    bytes: int


class EmbeddedQueue:
    """One connection to the queue's file; each thread has its own.

    Args:
        path: the SQLite file; made when it is not there.
        sinks: the names of the sinks that must have passed a batch before it is dropped.
        durability: `disk`: `append` returns when the batch is synced. `memory`: when the system has it.
        max_bytes: what the batches may take on disk before `append` refuses.
        clock: nanoseconds since 1970.

    Raises:
        DamagedFileError: the file is not a queue of this format.
    """

    def __init__(
        self,
        path: Path,
        *,
        sinks: Sequence[str],
        durability: Literal["disk", "memory"] = "disk",
        max_bytes: int = 1 << 30,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._path = path
        self._sinks = tuple(sinks)
        self._max_bytes = max_bytes
        self._margin_bytes = min(_MAX_MARGIN_BYTES, max_bytes // 4)
        self._room = 0
        self._clock = clock
        try:
            self._db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            self._open_patiently(durability)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode in _DAMAGED_CODES:
                raise DamagedFileError(
                    f"{path} is not a readable queue ({error}); move it away to start a new one."
                ) from error
            raise OSError(f"{path}: {error}") from error
        self._page_bytes: int = self._value("PRAGMA page_size")

    def _open_patiently(self, durability: Literal["disk", "memory"]) -> None:
        """SQLite does not wait for another process that is making the file a WAL database at this moment."""
        deadline = time.monotonic() + _BUSY_S
        while True:
            try:
                return self._open(durability)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                self._rollback()
                time.sleep(0.01)

    def _open(self, durability: Literal["disk", "memory"]) -> None:
        self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(f"PRAGMA synchronous = {'FULL' if durability == 'disk' else 'NORMAL'}")
        self._db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        self._db.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT_BYTES}")
        version = self._value("PRAGMA user_version")
        if version == 0:
            self._create()
        elif version != _FORMAT:
            raise DamagedFileError(f"{self._path} has format {version}; this Footfall reads format {_FORMAT}.")
        self.source: str = self._value("SELECT source FROM totals")

    def _create(self) -> None:
        """Safe when two processes do it at the same moment: the second finds all in place."""
        self._db.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            self._db.execute(statement)
        self._db.execute("INSERT OR IGNORE INTO totals VALUES (1, ?, 0, 0, 0)", (uuid.uuid4().hex,))
        self._db.execute(f"PRAGMA user_version = {_FORMAT}")
        self._db.execute("COMMIT")

    # What a collector calls.

    def append(
        self,
        payload: bytes,
        count: int,
        refused: Mapping[str, int] | None = None,
        moved: tuple[ImportMark, ImportMark] | None = None,
    ) -> int:
        """Commit one batch, and what was refused since the last one; return its sequence.

        Args:
            payload: entries, encoded.
            count: how many.
            refused: requests turned away, by reason.
            moved: for a batch of an import, where its mark was and where it is with this batch.

        Raises:
            AlreadyInUseError: the mark is elsewhere, moved by another import of that log; nothing was taken.
            QueueFullError: the limit or the disk is reached, nothing was taken; a later call may succeed.
            QueueBrokenError: whether it was taken is unknown; only a new start from the disk can tell.
            DamagedFileError: the file is no longer a queue.
        """
        with self._transaction():
            self._take_room(len(payload))
            now_ns = self._clock()
            self._db.execute(
                "UPDATE totals SET received = received + ?, end_bytes = end_bytes + ?, "
                "last_sequence = max(last_sequence + 1, ?)",
                (count, len(payload), now_ns // 1_000),
            )
            sequence: int = self._db.execute(
                "INSERT INTO batches SELECT last_sequence, ?, ?, ?, end_bytes, ? FROM totals RETURNING sequence",
                (now_ns, count, zlib.crc32(payload), payload),
            ).fetchall()[0][0]
            self._add_refused(refused or {})
            if moved is not None:
                self._move_mark(*moved)
            reach(Point.QUEUE_INSERTED)
        reach(Point.QUEUE_COMMITTED)
        return sequence

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
        rows = self._db.execute(
            "SELECT log, number, offset, line, digest FROM imports WHERE log = ? ORDER BY number", (log,)
        )
        return [ImportMark(*row) for row in rows]

    def _move_mark(self, old: ImportMark, new: ImportMark) -> None:
        moved = self._db.execute(
            "INSERT INTO imports VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET offset = excluded.offset, "
            "line = excluded.line, digest = excluded.digest WHERE imports.offset = ?",
            (new.log, new.number, new.offset, new.line, new.digest, old.offset),
        ).rowcount
        if moved == 0:
            raise AlreadyInUseError("another import of this log is under way; nothing of this one was counted twice")

    # What a consumer calls.

    def read(self, after: int, *, max_bytes: int = 4 * 1024 * 1024) -> list[Batch]:
        """The next batches after sequence `after`, in order: at least one if any is there, about `max_bytes` in all."""
        batches: list[Batch] = []
        room = max_bytes
        cursor = self._db.execute(
            "SELECT sequence, committed_ns, count, checksum, payload FROM batches WHERE sequence > ? ORDER BY sequence",
            (after,),
        )
        for sequence, committed_ns, count, checksum, payload in cursor:
            is_damaged = checksum != zlib.crc32(payload)
            if is_damaged:
                self._set_aside(sequence, count, payload)
            batches.append(Batch(self.source, sequence, committed_ns, count, payload, is_damaged))
            room -= len(payload)
            if room <= 0:
                break
        cursor.close()
        return batches

    def _set_aside(self, sequence: int, count: int, payload: bytes) -> None:
        """Keep what is left of a damaged batch, once, for somebody to look at."""
        path = self._path.with_name(f"{self._path.name}.batch-{sequence}.damaged")
        if not path.exists():
            path.write_bytes(payload)
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

    def report(self, sink: str, progress: Progress, trouble: str | None = None) -> None:
        """Note how far a sink has come, and what keeps it from going on, if anything does.

        Raises:
            QueueFullError, QueueBrokenError: as `append`; the next report makes up for a lost one.
        """
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO sinks VALUES (?, ?, ?, ?, ?, ?)",
                (
                    sink,
                    progress.sequence,
                    progress.safe_sequence,
                    progress.written,
                    msgspec.json.encode(progress.skipped).decode(),
                    trouble,
                ),
            )

    def trim(self) -> int:
        """Drop up to a few hundred batches that every sink has passed, older than the margin; return how many.

        Disk goes back to the system a piece at a time, so that no commit waits long behind this one.
        """
        passed = min((self._safe_sequence(sink) for sink in self._sinks), default=0)
        kept = self._value("SELECT end_bytes FROM totals") - self._margin_bytes
        oldest = self._db.execute("SELECT sequence, end_bytes FROM batches ORDER BY sequence LIMIT 1").fetchone()
        if oldest is None or oldest[0] > passed or oldest[1] > kept:
            self._give_back()
            return 0
        with self._transaction():
            dropped = self._db.execute(
                "DELETE FROM batches WHERE sequence IN "
                "(SELECT sequence FROM batches WHERE sequence <= ? AND end_bytes <= ? ORDER BY sequence LIMIT ?)",
                (passed, kept, _TRIM_BATCHES),
            ).rowcount
        reach(Point.QUEUE_TRIMMED)
        self._give_back()
        return dropped

    def _give_back(self) -> None:
        """Return some free pages to the system."""
        if self._value("PRAGMA freelist_count") > _VACUUM_PAGES:
            with self._naming_errors():
                # One step of this statement frees one page, and `execute` takes one step.
                self._db.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")

    def _safe_sequence(self, sink: str) -> int:
        sequence: int = self._value("SELECT safe_sequence FROM sinks WHERE name = ?", sink, default=0)
        return sequence

    # What the ledger and the metrics call.

    def state(self) -> QueueState:
        """What came in, what was turned away, and where each sink stands."""
        self._db.execute("BEGIN")
        try:
            received: int = self._value("SELECT received FROM totals")
            last = self._value("SELECT max(sequence) FROM batches", default=0) or 0
            refused: dict[str, int] = dict(self._db.execute("SELECT reason, count FROM refused ORDER BY reason"))
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
            self._db.execute("COMMIT")
        # More than the file knows of where its end was lost after the sinks had passed it.
        received = max(received, *(report.written + sum(report.skipped.values()) for report in sinks.values()), 0)
        return QueueState(received, refused, last, sinks, lag_batches, lag_seconds, used)

    def sink_reports(self) -> dict[str, SinkReport]:
        """What each sink last reported."""
        rows = self._db.execute("SELECT name, sequence, written, skipped, trouble FROM sinks").fetchall()
        return {
            name: SinkReport(sequence, written, msgspec.json.decode(skipped, type=dict[str, int]), trouble)
            for name, sequence, written, skipped, trouble in rows
        }

    def close(self) -> None:
        self._db.close()

    def _used_bytes(self) -> int:
        pages: int = self._value("PRAGMA page_count") - self._value("PRAGMA freelist_count")
        return pages * self._page_bytes

    def _value(self, sql: str, *parameters: object, default: Any = None) -> Any:  # noqa: ANN401 - SQL's types
        row = self._db.execute(sql, parameters).fetchone()
        return default if row is None else row[0]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._naming_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._rollback()
                raise

    @contextmanager
    def _naming_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = error.sqlite_errorcode & 0xFF  # the primary code; the rest says where it happened
            if code in _DAMAGED_CODES:
                raise DamagedFileError(f"{self._path} is damaged: {error}") from error
            if code in _TRY_AGAIN_CODES:
                raise QueueFullError(f"the queue can't be written now: {error}") from error
            raise QueueBrokenError(f"{self._path}: {error}") from error

    def _rollback(self) -> None:
        """SQLite may have rolled back by itself already, or be unable to."""
        if self._db.in_transaction:
            with suppress(sqlite3.DatabaseError):
                self._db.execute("ROLLBACK")
