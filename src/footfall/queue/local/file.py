"""The file of the local queue: its format, how it is opened, and what its errors mean.

File format (SQLite 3, WAL mode, `PRAGMA user_version` = 1):

- `batches`: one row for each batch. `sequence` is the time of its commit in microseconds, or the last sequence plus one
  if the clock does not show a later time. So no sequence is used twice, even after the end of the file was lost or the
  file came from a backup, and a sink's position keeps its meaning. `received` and `end_bytes` are the sums of all
  counts and of all payload lengths so far, this batch included. `checksum` is the CRC-32 of the payload (zlib's).
- `totals`: one row, with the queue's `source` name, the number of entries ever `received`, the number of payload bytes
  ever committed (`end_bytes`), and the `last_sequence`.
- `refused`: how many requests were refused, by reason.
- `sinks`: what each sink last reported. Retention and the ledger use it; a sink reads it after losing its own state.
- `imports`, and two more tables: what is remembered of imported logs (`footfall.queue.local.imports`).

SQLite has no checksums for its pages. So each row that could do harm has a `seal`, the CRC-32 of its other columns
(without the payload), and each batch's `end_bytes` must continue that of the batch before. A payload that does not
match its checksum makes a damaged batch; any other mismatch makes a damaged queue (`repair`).

A second file, `<file>.source`, holds the name of the source, too. Every process that has the queue open holds a shared
lock on it.

One batch is one transaction, so all of it is in the file or nothing, together with the count of what was received. With
`synchronous=FULL`, SQLite syncs the WAL before the commit returns (https://sqlite.org/pragma.html#pragma_synchronous);
with `NORMAL`, it leaves that to the operating system. Writers in several processes take turns by SQLite's lock. Readers
never wait for them.
"""

import fcntl
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Literal

from footfall.durable.checksum import checksum_of
from footfall.durable.files import PRIVATE, open_file
from footfall.durable.sqlite import can_try_again, connect, is_damage, transaction
from footfall.errors import DamagedFileError, DamagedQueueError, FootfallError, QueueBrokenError, QueueFullError

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
_BUSY_S = 5.0
_HOUR_NS = 3_600 * 1_000_000_000
_MAX_MARGIN_BYTES = 64 * 1024 * 1024
_CHECKPOINT_PAGES = 1_000
"""From one checkpoint of SQLite's WAL to the next, 4 MB: the commit that makes it waits for so much to be written."""
_WAL_KEPT_BYTES = 16 * 1024 * 1024


class QueueFile:
    """One connection to the queue's file; each thread has its own.

    Args:
        path: the SQLite file; created if it does not exist.
        sinks: names of the sinks that must have passed a batch before it is dropped.
        durability: `disk`: `append` returns when the batch is synced. `memory`: when the system has it.
        max_bytes: the disk space at which `append` refuses.
        margin_hours: how long batches stay for a rebuild after every sink has passed them; they hold addresses.
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
        """Retry while another process switches the file to WAL: SQLite does not wait for that."""
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
        """Two processes may do this at the same moment: the second one finds everything in place."""
        with transaction(self._db):
            for statement in SCHEMA.split(";"):
                self._db.execute(statement)
            row = (source, 0, 0, 0)
            self._db.execute("INSERT OR IGNORE INTO totals VALUES (1, ?, ?, ?, ?, ?)", (*row, checksum_of(*row)))
            self._db.execute(f"PRAGMA user_version = {FORMAT}")

    def close(self) -> None:
        self._held.close()

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
        """Translate errors anywhere but at the end of a transaction. Nothing was written, whatever the error is."""
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
