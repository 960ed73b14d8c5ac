"""SQLite as Footfall has it: connections that begin no transaction by themselves, and what errors mean.

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
    # Our statements fit our tables; what is found there does not.
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
    # Whether it still is the text that was written is for the seals to tell.
    db.text_factory = lambda text: text.decode(errors="replace")
    return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Write all of the block or nothing of it; raises what SQLite does, at the end, too."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        roll_back(db)
        raise


def roll_back(db: sqlite3.Connection) -> None:
    """End a transaction, if there is one: SQLite may have done it by itself already, or be unable to."""
    if db.in_transaction:
        with suppress(sqlite3.DatabaseError):
            db.execute("ROLLBACK")


def can_try_again(error: sqlite3.DatabaseError) -> bool:
    """Whether nothing was written, and the same may succeed later."""
    return _primary_code(error) in _TRY_AGAIN_CODES


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the file does not hold what was written."""
    return _primary_code(error) in _DAMAGED_CODES


def _primary_code(error: sqlite3.DatabaseError) -> int:
    """Without the part that says where it happened."""
    return error.sqlite_errorcode & 0xFF
