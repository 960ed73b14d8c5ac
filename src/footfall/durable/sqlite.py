"""SQLite as Footfall uses it: connections that begin no transaction by themselves, and the meaning of errors.

The codes are described at https://sqlite.org/rescode.html.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from footfall.durable.files import secure_file

SUFFIXES = ("-wal", "-shm")
"""Of the names of the files that belong to one in WAL mode. SQLite gives them the mode of that."""

_TRY_AGAIN_CODES = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}

_DAMAGED_CODES = {
    *(sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FORMAT),
    # Our statements fit our tables, so the tables are not what they were.
    *(sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_CONSTRAINT),
}


def connect(path: Path, *, busy_s: float) -> sqlite3.Connection:
    """Open a file, or make it; any thread may use the connection, one at a time.

    Args:
        path: the file; it and those that belong to it are private from then on.
        busy_s: how long a statement waits for another process, seconds.

    Raises:
        OSError: it can't be made, or it is not to be trusted (`footfall.durable.files`).
    """
    for suffix in SUFFIXES:
        secure_file(path.with_name(path.name + suffix))
    db = sqlite3.connect(secure_file(path, make=True), timeout=busy_s, isolation_level=None, check_same_thread=False)
    # Text that is damaged must not raise here: the checksums find it.
    db.text_factory = lambda text: text.decode(errors="replace")
    return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Commit what the block writes, or roll all of it back; raises what SQLite raises, also at the commit."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        roll_back(db)
        raise


def roll_back(db: sqlite3.Connection) -> None:
    """End a transaction, if one is open: SQLite may have ended it by itself, or may be unable to."""
    if db.in_transaction:
        with suppress(sqlite3.DatabaseError):
            db.execute("ROLLBACK")


def can_try_again(error: sqlite3.DatabaseError) -> bool:
    """Whether nothing was written, and a later try may succeed."""
    return _primary_code(error) in _TRY_AGAIN_CODES


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the file no longer holds what was written."""
    return _primary_code(error) in _DAMAGED_CODES


def _primary_code(error: sqlite3.DatabaseError) -> int:
    """The error's code without the part that says where it happened."""
    return error.sqlite_errorcode & 0xFF
