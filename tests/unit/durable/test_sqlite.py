"""SQLite's errors: which may be tried again, which mean damage; transactions that are whole or not there."""

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from footfall.durable.sqlite import can_try_again, connect, is_damage, transaction

BEGIN = """
import sqlite3, sys

sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None).execute("BEGIN IMMEDIATE")
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.sqlite"


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(path, busy_s=0.0)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE numbers (number INTEGER NOT NULL)")
        yield connection


def numbers(db: sqlite3.Connection) -> list[int]:
    return [number for (number,) in db.execute("SELECT number FROM numbers")]


def test_all_files_of_a_database_are_private(db: sqlite3.Connection, path: Path) -> None:
    """Its log and index, too."""
    files = sorted(path.parent.iterdir())
    assert ["some.sqlite", "some.sqlite-shm", "some.sqlite-wal"] == [file.name for file in files]
    assert [0o600] * 3 == [stat.S_IMODE(file.stat().st_mode) for file in files]
    for file in files:
        file.chmod(0o666)
    connect(path, busy_s=0.0).close()
    assert [0o600] * 3 == [stat.S_IMODE(file.stat().st_mode) for file in files]
    assert [] == numbers(db)


def test_second_connection_takes_no_lock_from_the_first(db: sqlite3.Connection, path: Path) -> None:
    """A process that opens and closes a database's file by itself loses its locks on it, for other processes."""
    with transaction(db):
        db.execute("INSERT INTO numbers VALUES (1)")
        connect(path, busy_s=0.0).close()
        other = subprocess.run([sys.executable, "-c", BEGIN, path], capture_output=True, text=True, check=False)
    assert "database is locked" in other.stderr
    assert [1] == numbers(db)


def test_transaction_that_fails_leaves_nothing(db: sqlite3.Connection) -> None:
    """Whatever has failed."""
    with pytest.raises(sqlite3.IntegrityError), transaction(db):
        db.executemany("INSERT INTO numbers VALUES (?)", [(1,), (None,)])
    assert [] == numbers(db)
    assert not db.in_transaction


def test_busy_database_can_be_tried_again(db: sqlite3.Connection, path: Path) -> None:
    """Another process has it for a moment."""
    with (
        closing(connect(path, busy_s=0.0)) as other,
        transaction(other),
        pytest.raises(sqlite3.OperationalError) as busy,
    ):
        db.execute("INSERT INTO numbers VALUES (1)")
    assert can_try_again(busy.value)
    assert not is_damage(busy.value)


def test_file_that_is_none_is_damage(path: Path) -> None:
    """Trying again is no use."""
    path.write_bytes(b"not SQLite" * 1_000)
    with closing(connect(path, busy_s=0.0)) as db, pytest.raises(sqlite3.DatabaseError) as damaged:
        db.execute("SELECT * FROM sqlite_schema")
    assert is_damage(damaged.value)
    assert not can_try_again(damaged.value)


def test_text_that_is_not_utf_8_is_read(db: sqlite3.Connection) -> None:
    """Its checksum tells that it is damaged; an exception of another kind would end the process."""
    assert [("\ufffd",)] == db.execute("SELECT CAST(x'ff' AS TEXT)").fetchall()
