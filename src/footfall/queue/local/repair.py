"""At a start, replaces a damaged queue by a new one that has every batch that can still be read.

It reads each page of the file and of its log on its own (`pages`), whatever leads to that page. This is safe, because a
row proves by its seal, and a payload by its checksum, that it is what was written (`file`).

The batches keep their source and sequences, so a sink skips those it has. They also keep `received`, by which a sink
counts what it missed as lost. The damaged files are kept under another name.

Two names show how far a repair has come: `<file>.mending` is deleted at the next start, `<file>.mended` is complete and
is put in place.

It does not repair a queue that another process has open.
"""

import logging
import mmap
import os
import sqlite3
import struct
import uuid
import zlib
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from footfall.durable.checksum import checksum_of
from footfall.durable.files import PRIVATE, open_file, read_file, secure_file
from footfall.durable.lock import take
from footfall.durable.quarantine import quarantine
from footfall.durable.sqlite import is_damage
from footfall.durable.sync import sync
from footfall.errors import AlreadyInUseError
from footfall.queue.local.file import FORMAT, SCHEMA, source_path
from footfall.queue.local.imports import DIGEST_BYTES, restore
from footfall.queue.local.pages import Data, Log, Pages, Place, Row

_PATIENCE_S: Final = 0.2
"""How long to wait for processes that were killed a moment ago to release the queue."""
_LOG: Final = "-wal"
_INDEX: Final = "-shm"
_INDEX_FRAMES_AT: Final = 16
"""Where SQLite's index of the log says how many frames it has taken: https://sqlite.org/walformat.html, section 2.1."""

_log = logging.getLogger(__name__)


def repair(path: Path, trouble: str | None = None) -> None:
    """Replace the queue by what can be read of it.

    Args:
        path: the queue's file.
        trouble: the reason. None: look for damage, and do nothing if there is none or another process has the queue
            open.

    Raises:
        AlreadyInUseError: another process has the queue open.
        OSError: the disk is full, or fails.
    """
    with os.fdopen(open_file(source_path(path), os.O_RDWR | os.O_CREAT, mode=PRIVATE), "r+b") as source:
        if not take(source.fileno(), _PATIENCE_S):
            if trouble is not None:
                raise AlreadyInUseError(
                    f"{trouble} It can't be repaired while another process has it open (an import, or another "
                    "`footfall run` with the same data_dir). Stop that process and start again."
                )
            return
        known_source = source.read(64).decode(errors="replace")
        try:
            _finish(path)
            trouble = trouble or _trouble(path, known_source)
            if trouble is not None:
                _replace(path, known_source, trouble)
        except sqlite3.Error as error:
            raise OSError(f"{path}: {error}") from error


def _trouble(path: Path, known_source: str) -> str | None:
    """What is wrong with the file or its log, or None."""
    log = _beside(path, _LOG)
    if not path.exists() or not path.stat().st_size:
        # SQLite would create a new file and delete the log.
        return f"{path} is gone or empty." if known_source or (log.exists() and log.stat().st_size) else None
    # Read-only, because the last connection to close otherwise brings the log into the file and deletes it.
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as db:
        try:
            found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            found = str(error)
        if _has_unread_commits(path):
            return f"{log} is damaged before its end."
    return None if found == "ok" else f"{path} is damaged: {found}."


def _has_unread_commits(path: Path) -> bool:
    """Whether the log has commits behind the place where SQLite, which has the queue open, stopped reading."""
    with ExitStack() as held:
        last = len(Log(_mapped(_beside(path, _LOG), held)).frames)
    if last == 0:
        return False
    taken: int = struct.unpack_from("=I", read_file(_beside(path, _INDEX)), _INDEX_FRAMES_AT)[0]
    return last > taken


def _replace(path: Path, known_source: str, trouble: str) -> None:
    with ExitStack() as held:
        pages = Pages(_mapped(path, held), _mapped(_beside(path, _LOG), held))
        found = _Found(pages)
        source = found.source or known_source
        if not source and found.batches:
            _log.error("the queue's name can't be read, so nobody can tell which of its batches the outputs have")
            found = _Found(Pages(b"", b""))
        kept = found.kept()
        received = _write(_beside(path, ".mending"), source or uuid.uuid4().hex, found, kept)
    _beside(path, ".mending").rename(_beside(path, ".mended"))
    sync(path.parent)
    aside = _finish(path)
    readable = sum(batch.entries for batch in kept if not batch.is_damaged)
    first = kept[0].received - kept[0].entries if kept else received
    _log.error(
        "%s A new one was made with %d entries of it; %d entries after the first of these could not be read. The "
        "ledger counts what an output lacks as lost or unreadable. %s",
        trouble,
        readable,
        received - first - readable,
        f"The damaged queue is kept as {aside}." if aside else "There was nothing to keep.",
    )


def _finish(path: Path) -> Path | None:
    """Put a complete queue in place; return the new name of the damaged one."""
    mended = _beside(path, ".mended")
    if not mended.exists():
        return None
    aside = quarantine(path, _LOG, _INDEX)
    mended.rename(path)
    sync(path.parent)
    return aside


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _mapped(path: Path, held: ExitStack) -> Data:
    """The bytes of a file, for as long as `held` is; none if it does not exist."""
    if not path.exists() or not path.stat().st_size:
        return b""
    with os.fdopen(open_file(path, os.O_RDONLY), "rb") as file:
        return held.enter_context(closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))


class _Batch(NamedTuple):
    sequence: int
    committed_ns: int
    entries: int
    received: int
    checksum: int
    is_damaged: bool
    place: Place


class _Found:
    """What can still be read of a damaged queue; the newest of what exists in several versions.

    Attributes:
        source: the queue's name; empty if it can't be read.
        totals: entries ever received, and the last sequence.
        batches: by sequence.
        sinks: the rows of `sinks`, by name.
        refused: by reason.
        imports: the rows of `imports`, by log and number.
        imported_lines: the rows of `imported_lines`, by site, minute and sequence.
    """

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self.source = ""
        self.totals = (0, 0)
        self.batches: dict[int, _Batch] = {}
        self.sinks: dict[str, tuple[Any, ...]] = {}
        self.refused: dict[str, int] = {}
        self.imports: dict[tuple[str, int], tuple[int, int, bytes]] = {}
        self.imported_lines: dict[tuple[str, int, int], bytes] = {}
        for row in pages.rows():
            self._add(row)

    def _add(self, row: Row) -> None:
        match row.values:
            case [None, int(committed_ns), int(count), int(received), int(), int(checksum), int(seal), bytes(payload)]:
                if checksum_of(row.row_id, *row.values[1:6]) == seal:
                    is_damaged = zlib.crc32(payload) != checksum
                    known = self.batches.get(row.row_id)
                    if known is None or (known.is_damaged and not is_damaged):
                        self.batches[row.row_id] = _Batch(
                            row.row_id, committed_ns, count, received, checksum, is_damaged, row.place
                        )
            case [None, str(source), int(received), int(), int(last_sequence), int(seal)]:
                if checksum_of(*row.values[1:5]) == seal and last_sequence >= self.totals[1]:
                    self.source, self.totals = source, (received, last_sequence)
            case [str(name), int(sequence), int(), int(), str(), str(), str() | None, int(seal)]:
                if checksum_of(*row.values[:7]) == seal and (name not in self.sinks or self.sinks[name][1] <= sequence):
                    self.sinks[name] = tuple(row.values)
            case [str(reason), int(count)] if reason.isidentifier():
                self.refused[reason] = max(count, self.refused.get(reason, 0))
            case values:
                self._add_import(values)

    def _add_import(self, values: Sequence[object]) -> None:
        match values:
            case [str(log), int(number), int(offset), int(line), bytes(digest)] if len(digest) == 32:
                self.imports[log, number] = max((offset, line, digest), self.imports.get((log, number), (0, 0, b"")))
            case [str(site), int(minute), int(sequence), bytes(digests)] if len(digests) % DIGEST_BYTES == 0:
                self.imported_lines[site, minute, sequence] = digests

    def kept(self) -> list[_Batch]:
        """The batches for the new queue, in order."""
        passed = min((row[1] for row in self.sinks.values()), default=0)
        kept: list[_Batch] = []
        for _, batch in sorted(self.batches.items()):
            if batch.is_damaged and batch.sequence <= passed:
                continue  # perhaps dropped long ago
            # The remains of a failed commit are in the log, and the next commit has the same place in the order.
            while kept and kept[-1].received > batch.received - batch.entries:
                kept.pop()
            kept.append(batch)
        return kept

    def payload(self, batch: _Batch) -> bytes:
        """Its bytes; if it is damaged, what is left of them."""
        payload = self._pages.row(batch.place).values[-1]
        assert isinstance(payload, bytes)
        return payload


def _write(path: Path, source: str, found: _Found, kept: list[_Batch]) -> int:
    """Write a queue from what was found; return how many entries it ever received."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(secure_file(path, make=True), isolation_level=None)) as db:
        for pragma in ("auto_vacuum = INCREMENTAL", "journal_mode = OFF", "synchronous = OFF"):
            db.execute(f"PRAGMA {pragma}")
        db.execute("BEGIN")
        for statement in SCHEMA.split(";"):
            db.execute(statement)
        end_bytes = 0
        for batch in kept:
            payload = found.payload(batch)
            end_bytes += len(payload)
            header = (batch.sequence, batch.committed_ns, batch.entries, batch.received, end_bytes, batch.checksum)
            db.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*header, checksum_of(*header), payload))
        received, last_sequence = found.totals
        for batch in kept[-1:]:
            received, last_sequence = max(received, batch.received), max(last_sequence, batch.sequence)
        last_sequence = max([last_sequence, *(row[1] for row in found.sinks.values())])
        totals = (source, received, end_bytes, last_sequence)
        db.execute("INSERT INTO totals VALUES (1, ?, ?, ?, ?, ?)", (*totals, checksum_of(*totals)))
        db.executemany("INSERT INTO sinks VALUES (?, ?, ?, ?, ?, ?, ?, ?)", found.sinks.values())
        db.executemany("INSERT INTO refused VALUES (?, ?)", found.refused.items())
        db.executemany(
            "INSERT INTO imports VALUES (?, ?, ?, ?, ?)", [(*key, *mark) for key, mark in found.imports.items()]
        )
        restore(db, found.imported_lines)
        db.execute(f"PRAGMA user_version = {FORMAT}")
        db.execute("COMMIT")
    sync(path)
    return received
