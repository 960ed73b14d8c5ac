"""The state of a visits log: how far it is written, and what is being appended to it.

File format, `visit_log.sqlite` (SQLite 3, WAL mode, `PRAGMA user_version` = 1):

- `positions`: for each source the last `sequence` in the log, lines `written`, entries `skipped` by reason (JSON).
- `intent`: at most one row: the file's `inode` in decimal (its 64 bits do not fit SQLite's integers), its `length`
  before the append, the last bytes `before` that place, and the exact `text` to append.
- `intended`: the rows that `positions` will have when the intent is fulfilled.
- `log_end`: one row: where the log ended when the last intent was confirmed. Its `mark` is the file's inode, its
  length, and the CRC-32 of the last bytes before that place, separated by colons.

Each row has a `seal`, the CRC-32 of its other columns.
"""

import logging
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import msgspec
from msgspec import Struct

from footfall.durable.checksum import checksum_of
from footfall.durable.quarantine import quarantine
from footfall.durable.sqlite import can_try_again, connect, is_damage, transaction
from footfall.errors import DamagedFileError, UnreadableFileError
from footfall.failpoint import Failpoint, reach
from footfall.queue.base import Progress

FILE_NAME: Final = "visit_log.sqlite"
BEFORE_BYTES: Final = 1_024
"""How many bytes before a place in a file are recorded, to know the place again."""

_SCHEMA: Final = """
CREATE TABLE positions (
    source TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL,
    written INTEGER NOT NULL,
    skipped TEXT NOT NULL,
    seal INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE intended (
    source TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL,
    written INTEGER NOT NULL,
    skipped TEXT NOT NULL,
    seal INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE intent (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    inode TEXT NOT NULL,
    length INTEGER NOT NULL,
    before BLOB NOT NULL,
    text BLOB NOT NULL,
    seal INTEGER NOT NULL
);
CREATE TABLE log_end (id INTEGER PRIMARY KEY CHECK (id = 1), mark TEXT NOT NULL, seal INTEGER NOT NULL);
"""
_FORMAT: Final = 1
_BUSY_S: Final = 1.0
"""There is one writer, so only a person with a tool can hold the file's lock."""
_WAL_KEPT_BYTES: Final = 16 * 1024 * 1024

_log = logging.getLogger(__name__)


class End(Struct, frozen=True):
    """A place in a file, known by the bytes before it."""

    inode: int
    length: int
    digest: int

    @classmethod
    def of(cls, inode: int, length: int, before: bytes) -> Self:
        return cls(inode, length, zlib.crc32(before[-BEFORE_BYTES:]))

    @classmethod
    def parse(cls, mark: str) -> Self | None:
        fields = mark.split(":")
        return cls(*map(int, fields)) if len(fields) == 3 else None

    def __str__(self) -> str:
        return f"{self.inode}:{self.length}:{self.digest}"


class Intent(Struct, frozen=True):
    """What will be appended to the file with that inode and length, and the positions after that."""

    inode: int
    length: int
    before: bytes
    text: bytes
    positions: dict[str, Progress]


class VisitLogState:
    """The state file; one thread of one process uses it. A damaged file is quarantined, and the new one is empty.

    Attributes:
        path: the file.
        positions: by source, how far the log is written.
        intent: the intent that is not confirmed yet, or None.
        end: where the log ended at the last confirmation, or None.

    Raises:
        DamagedFileError: the file has another format.
        OSError: the file can't be used, or not now.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._broken: DamagedFileError | None = None
        try:
            self._open()
        except UnreadableFileError as error:
            aside = quarantine(path, "-wal", "-shm")
            _log.error("%s It is kept as %s; the queue knows where the visits log ends", error, aside)
            self._open()

    def _open(self) -> None:
        if _is_empty(self.path) and not _is_empty(self.path.with_name(f"{self.path.name}-wal")):
            # SQLite would delete the log that is left.
            raise UnreadableFileError(f"{self.path} is gone or empty.")
        self._db = connect(self.path, busy_s=_BUSY_S)
        try:
            self._load()
        except sqlite3.DatabaseError as error:
            self._db.close()
            if is_damage(error):
                raise self._damage(str(error)) from error
            raise OSError(str(error)) from error
        except BaseException:
            self._db.close()
            raise

    def _load(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT_BYTES}")
        found = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise self._damage(found)
        version: int = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_FORMAT}; COMMIT")
        elif version != _FORMAT:
            raise DamagedFileError(f"{self.path} has format {version}; this Footfall reads format {_FORMAT}.")
        self.positions = self._load_positions("positions")
        self.intent = self._load_intent()
        ends = self._checked("SELECT mark, seal FROM log_end")
        self.end = End.parse(ends[0][0]) if ends else None

    def _load_positions(self, table: str) -> dict[str, Progress]:
        return {
            source: Progress(sequence, sequence, written, msgspec.json.decode(skipped, type=dict[str, int]))
            for source, sequence, written, skipped in self._checked(
                f"SELECT source, sequence, written, skipped, seal FROM {table}"
            )
        }

    def _load_intent(self) -> Intent | None:
        row = self._db.execute("SELECT inode, length, before, text, seal FROM intent").fetchone()
        if row is None:
            return None
        inode, length, before, text, seal = row
        if not isinstance(text, bytes) or checksum_of(inode, length, before, zlib.crc32(text)) != seal:
            raise self._damage("the intent is not what was written")
        return Intent(int(inode), length, before, text, self._load_positions("intended"))

    def _checked(self, sql: str) -> list[list[Any]]:
        """The rows, without their last column, which is the checksum of the others."""
        rows = []
        for *row, seal in self._db.execute(sql):
            if checksum_of(*row) != seal:
                raise self._damage("a row is not what was written")
            rows.append(row)
        return rows

    def _damage(self, what: str) -> UnreadableFileError:
        return UnreadableFileError(f"{self.path} is damaged: {what}.")

    def record(self, intent: Intent) -> None:
        """Make an intent durable.

        Raises:
            OSError: it can't be written now, and was not.
            DamagedFileError: it is unknown whether it was written, until a restart. Every later call raises this.
        """
        with self._transaction(synced=True):
            row = (str(intent.inode), intent.length, intent.before)
            self._db.execute(
                "INSERT OR REPLACE INTO intent VALUES (1, ?, ?, ?, ?, ?)",
                (*row, intent.text, checksum_of(*row, zlib.crc32(intent.text))),
            )
            self._put_positions("intended", intent.positions)
        self.intent = intent

    def confirm(self, positions: Mapping[str, Progress], end: End | None) -> None:
        """Move the positions and forget the intent; raises as `record`. The next intent's sync covers this, too."""
        with self._transaction(synced=False):
            self._put_positions("positions", positions)
            if end is not None:
                self._db.execute("INSERT OR REPLACE INTO log_end VALUES (1, ?, ?)", (str(end), checksum_of(str(end))))
            self._db.execute("DELETE FROM intended")
            self._db.execute("DELETE FROM intent")
        reach(Failpoint.VISIT_LOG_CONFIRMED)
        self.positions = {**self.positions, **positions}
        self.end = end
        self.intent = None

    def close(self) -> None:
        self._db.close()

    def _put_positions(self, table: str, positions: Mapping[str, Progress]) -> None:
        for source, after in positions.items():
            row = (source, after.sequence, after.written, msgspec.json.encode(after.skipped).decode())
            self._db.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?, ?)", (*row, checksum_of(*row)))

    @contextmanager
    def _transaction(self, *, synced: bool) -> Iterator[None]:
        if self._broken is not None:
            raise self._broken
        try:
            self._db.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
            with transaction(self._db):
                yield
        except sqlite3.DatabaseError as error:
            if can_try_again(error):
                raise OSError(f"{self.path} can't be written now: {error}") from error
            self._broken = DamagedFileError(f"{self.path}: {error}. Look at the disk and start again.")
            raise self._broken from error


def _is_empty(path: Path) -> bool:
    return not path.exists() or path.stat().st_size == 0
