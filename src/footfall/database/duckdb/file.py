"""The file of a DuckDB database: making it, opening it, and what to do when it can't be read.

File format (DuckDB storage; the table `format` holds the number 1):

- `events`: a row for each entry that has a site; the columns are those of `footfall.database.enrich`.
- `positions`: for each source the last `sequence` in `events`, rows `written`, entries `skipped` by reason (JSON).
- `salts`: the secrets that tell visitors without a user id apart, one for each UTC `day`.
- `event_ids`: a 128-bit hash of site and `event_id` for each event of the last days that had one, and its receipt.

A commit is synced to DuckDB's write-ahead log, `<file>.wal`. A checkpoint brings that log into the file.

One process at a time can open the file (DuckDB locks it), so the one that writes also answers the reports: each thread
takes a `cursor()` of the same connection.
"""

import logging
import os
import re
from contextlib import closing
from pathlib import Path
from typing import Final

import duckdb

from footfall.durable.files import check_directory, secure_file
from footfall.durable.quarantine import set_aside
from footfall.durable.sync import sync
from footfall.errors import AlreadyInUseError, DamagedFileError, FootfallError, UnreadableFileError

_SCHEMA: Final = """
CREATE TABLE events (
    time TIMESTAMP NOT NULL,
    received_at TIMESTAMP NOT NULL,
    site_id VARCHAR NOT NULL,
    event_type VARCHAR NOT NULL,
    path VARCHAR NOT NULL,
    visitor HUGEINT NOT NULL,
    user_id VARCHAR,
    referrer VARCHAR,
    source VARCHAR,
    browser VARCHAR,
    os VARCHAR,
    device VARCHAR,
    props VARCHAR
);
CREATE TABLE positions (
    source VARCHAR PRIMARY KEY,
    sequence BIGINT NOT NULL,
    written BIGINT NOT NULL,
    skipped JSON NOT NULL
);
CREATE TABLE salts (day DATE PRIMARY KEY, salt BLOB NOT NULL, made_at TIMESTAMP NOT NULL);
CREATE TABLE event_ids (id HUGEINT NOT NULL, seen_at TIMESTAMP NOT NULL);
CREATE TABLE format (version INTEGER NOT NULL);
"""
_FORMAT: Final = 1
_MEMORY_LIMIT: Final = "512MB"
_MAKING: Final = ".making"
_UNREADABLE: Final = ("Corrupt database file", "Could not read enough bytes", "not a valid DuckDB database file")
"""What it says when the file is not what was written."""
_NOT_TO_BE_HAD: Final = ("Cannot open file", "Is a directory", "No space left on device", "Input/output error")
"""What DuckDB says when the matter is not what the file holds."""

_log = logging.getLogger(__name__)


def open_database(path: Path, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """Open the database, made when it is not there; whoever opens it closes it.

    Args:
        path: the file.
        read_only: change nothing, neither in the file nor in its log, and make none.

    Raises:
        AlreadyInUseError: another process has it open; the text says which.
        UnreadableFileError: the file or its log is damaged.
        DamagedFileError: it is not a database of this format.
        FootfallError: the file can't be made or opened.
    """
    try:
        check_directory(path.parent)
        if not read_only and not path.exists():
            _make(path.resolve())
        for file in (path, log_of(path)):
            secure_file(file)
        connection = _connect(path, read_only=read_only)
    except duckdb.Error as error:
        raise _refusal(path, error) from error
    except OSError as error:
        raise FootfallError(f"{error.filename or path} can't be opened (database.url): {error.strerror}.") from error
    try:
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        _check_format(connection, path)
    except duckdb.Error as error:
        connection.close()
        raise _refusal(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def open_mended(path: Path) -> duckdb.DuckDBPyConnection:
    """As `open_database`; but what can't be read is set aside, for the queue to bring again what it still has.

    That is all of it for the log alone: `safe_sequence` tells no queue to forget what is only there.
    """
    log = log_of(path)
    try:
        if not path.exists() and log.exists():
            _tell_aside(f"{path} is gone.", set_aside(log))
    except OSError as error:
        raise FootfallError(f"{path} can't be opened (database.url): {error.strerror}") from error
    try:
        return open_database(path)
    except UnreadableFileError as error:
        if not log.exists():
            set_database_aside(path, error)
            return open_database(path)
        _tell_aside(str(error), set_aside(log))
    return open_mended(path)


def set_database_aside(path: Path, error: UnreadableFileError) -> None:
    """Give way to a new database; nobody must be using the old one."""
    _tell_aside(str(error), set_aside(path, ".wal"))


def _tell_aside(trouble: str, aside: Path | None) -> None:
    _log.error(
        "%s What was there is kept as %s. The queue brings again what it still has; `footfall rebuild` makes the "
        "database of all that the visits log has, too",
        trouble,
        aside,
    )


def log_of(path: Path) -> Path:
    """Where DuckDB keeps the write-ahead log of a database."""
    return path.with_name(path.name + ".wal")


def is_unreadable(error: duckdb.Error) -> bool:
    """Whether the disk did not give back what was written, which DuckDB says in words only."""
    return any(sign in str(error) for sign in _UNREADABLE)


def first_line(error: duckdb.Error) -> str:
    return str(error).partition("\n")[0]


def _connect(path: Path, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(
        path,
        read_only=read_only,
        config={
            "memory_limit": _MEMORY_LIMIT,
            # One processor is left for those who collect.
            "threads": max(1, (os.cpu_count() or 1) - 1),
            # Never reached: see the module's docstring.
            "checkpoint_threshold": "1TB",
            "enable_external_access": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )


def _make(path: Path) -> None:
    """Make a new database beside its place and give it its name when it is whole.

    DuckDB can't open a file that it was killed while making.
    """
    unfinished = path.with_name(path.name + _MAKING)
    # The log of a database that is gone belongs to no other.
    for left in (unfinished, log_of(unfinished), log_of(path)):
        left.unlink(missing_ok=True)
    with closing(_connect(unfinished)) as connection:
        connection.begin()
        connection.execute(_SCHEMA)
        connection.execute("INSERT INTO format VALUES (?)", [_FORMAT])
        connection.commit()
        connection.execute("CHECKPOINT")
    secure_file(unfinished)
    unfinished.rename(path)
    sync(path.parent)


def _check_format(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    versions = connection.execute("SELECT version FROM format").fetchall() if "format" in tables else []
    if versions != [(_FORMAT,)]:
        found = f"has format {versions[0][0]}" if versions else "was not made by Footfall"
        raise DamagedFileError(
            f"{path} {found}; this Footfall reads format {_FORMAT}. Name another file (database.url)."
        )


def _refusal(path: Path, error: duckdb.Error) -> FootfallError:
    """What a failure to open the file means, which DuckDB says in words only."""
    text = first_line(error)
    if "Could not set lock on file" in text:
        holder = re.search(r"\(PID (\d+)\)", text)
        return AlreadyInUseError(
            f"{path} is already open in {f'process {holder[1]}' if holder else 'another process'}. Only one process "
            "can open a DuckDB database, so processor and reporting must share one: `footfall run processor reporting`."
        )
    if any(reason in text for reason in _NOT_TO_BE_HAD):
        return FootfallError(f"{path} can't be opened (database.url): {text}")
    # One that is older than the file is found before it is replayed.
    if "replaying WAL" in text or "This WAL was created for" in text:
        return UnreadableFileError(
            f"The log of the database {path} is damaged ({text}). Move {log_of(path)} away, and that file only: "
            "the queue still has what was in it, and brings it again."
        )
    meaning = UnreadableFileError if is_unreadable(error) else DamagedFileError
    return meaning(
        f"{path} is not a readable database ({text}). Make it anew with `footfall rebuild`, which keeps this one, "
        "or bring it back from a copy."
    )
