"""The file of a DuckDB database: how it is made, opened and migrated, and what happens when it can't be read.

The tables are in `footfall.database.duckdb.ddl`. A file of an older format is brought up to date when it is opened
(`footfall.database.duckdb.migrations`); one of a newer format is refused.

A commit is synced to DuckDB's write-ahead log, `<file>.wal`. A checkpoint brings that log into the file.

DuckDB locks the file, so one process at a time can open it. The process that writes therefore answers the reports, too:
each thread takes a `cursor()` of the same connection.
"""

import logging
import os
import re
import shutil
from contextlib import closing
from pathlib import Path
from typing import Final

import duckdb

from footfall.database.duckdb.ddl import TABLES
from footfall.database.duckdb.migrations import FORMAT, bytes_needed, migrate
from footfall.durable.files import check_directory, secure_file
from footfall.durable.quarantine import quarantine
from footfall.durable.sync import sync
from footfall.errors import AlreadyInUseError, DamagedFileError, FootfallError, UnreadableFileError
from footfall.settings import DatabaseSettings

MEMORY_LIMIT_MB: Final = DatabaseSettings().memory_limit_mb
_SPILL_LIMIT: Final = "2GB"
"""On disk, for what a query can't hold in memory."""
_MAKING: Final = ".making"
_UNREADABLE: Final = ("Corrupt database file", "Could not read enough bytes", "not a valid DuckDB database file")
"""What it says when the file is not what was written."""
_NOT_TO_BE_HAD: Final = ("Cannot open file", "Is a directory", "No space left on device", "Input/output error")
"""What DuckDB says when the matter is not what the file holds."""

_log = logging.getLogger(__name__)


def open_database(
    path: Path, *, read_only: bool = False, memory_limit_mb: int = MEMORY_LIMIT_MB
) -> duckdb.DuckDBPyConnection:
    """Open the database, made when it is not there, and migrated when its format is an older one.

    Whoever opens it closes it.

    Args:
        path: the file.
        read_only: change nothing, neither in the file nor in its log, and make none. Its format may be an older one,
            then: `upgrade` comes first where that matters.
        memory_limit_mb: what it may use.

    Raises:
        AlreadyInUseError: another process has it open; the text says which.
        UnreadableFileError: the file or its log is damaged.
        DamagedFileError: Footfall did not make it, or a newer Footfall did.
        FootfallError: the file can't be made, opened or migrated.
    """
    try:
        check_directory(path.parent)
        if not read_only and not path.exists():
            _make(path.resolve())
        for file in (path, log_of(path)):
            secure_file(file)
        shutil.rmtree(outlet_of(path.resolve()), ignore_errors=True)  # what a process that was killed left there
        connection = _connect(path, read_only=read_only, memory_limit_mb=memory_limit_mb)
    except duckdb.Error as error:
        raise _refusal(path, error) from error
    except OSError as error:
        raise FootfallError(f"{error.filename or path} can't be opened (database.url): {error.strerror}.") from error
    try:
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        version = _format_of(connection, path)
        if not read_only and version < FORMAT:
            _migrate(connection, path, version)
    except duckdb.Error as error:
        connection.close()
        raise _refusal(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def upgrade(path: Path) -> None:
    """Migrate a database of an older format, and leave any other alone; the errors are those of `open_database`."""
    with closing(open_database(path, read_only=True)) as connection:
        if _format_of(connection, path) == FORMAT:
            return
    open_database(path).close()


def open_repaired(path: Path, *, memory_limit_mb: int = MEMORY_LIMIT_MB) -> duckdb.DuckDBPyConnection:
    """As `open_database`, but a damaged file is quarantined, and the queue brings again what it still has.

    If only the log is damaged, the queue still has all that was in it: no queue forgets what is only in the log
    (`safe_sequence`).
    """
    log = log_of(path)
    try:
        if not path.exists() and log.exists():
            _tell_quarantined(f"{path} is gone.", quarantine(log))
    except OSError as error:
        raise FootfallError(f"{path} can't be opened (database.url): {error.strerror}") from error
    try:
        return open_database(path, memory_limit_mb=memory_limit_mb)
    except UnreadableFileError as error:
        if not log.exists():
            quarantine_database(path, error)
            return open_database(path, memory_limit_mb=memory_limit_mb)
        _tell_quarantined(str(error), quarantine(log))
    return open_repaired(path, memory_limit_mb=memory_limit_mb)


def quarantine_database(path: Path, error: UnreadableFileError) -> None:
    """Give a damaged database another name, so that a new one can be made; nobody may be using it."""
    _tell_quarantined(str(error), quarantine(path, ".wal"))


def _tell_quarantined(trouble: str, aside: Path | None) -> None:
    _log.error(
        "%s What was there is kept as %s. The queue brings again what it still has; to take the rest from the visits "
        "log, run `footfall rebuild`",
        trouble,
        aside,
    )


def log_of(path: Path) -> Path:
    """Where DuckDB keeps the write-ahead log of a database."""
    return path.with_name(path.name + ".wal")


def path_of(connection: duckdb.DuckDBPyConnection) -> Path:
    """The file that a connection works on, whatever else is attached to it."""
    [(path,)] = connection.execute(
        "SELECT path FROM duckdb_databases() WHERE database_name = current_database()"
    ).fetchall()
    return Path(path)


def outlet_of(path: Path) -> Path:
    """The directory, there only when needed, through which exports and copies of a database leave it."""
    return path.with_name(path.name + ".out")


def is_unreadable(error: duckdb.Error) -> bool:
    """Whether the disk did not give back what was written; DuckDB says it only in words."""
    return any(sign in str(error) for sign in _UNREADABLE)


def first_line(error: duckdb.Error) -> str:
    return str(error).partition("\n")[0]


def _connect(
    path: Path, *, read_only: bool = False, memory_limit_mb: int = MEMORY_LIMIT_MB
) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(
        path,
        read_only=read_only,
        config={
            "memory_limit": f"{memory_limit_mb}MB",
            # One processor is left for those who collect.
            "threads": max(1, (os.cpu_count() or 1) - 1),
            # Never reached: see the module's docstring.
            "checkpoint_threshold": "1TB",
            "max_temp_directory_size": _SPILL_LIMIT,
            "python_enable_replacements": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    # Connections of one process share the database and its settings. Once access is off, neither can be set again.
    if connection.execute("SELECT current_setting('enable_external_access')").fetchone() == (True,):
        outlet = str(outlet_of(path.resolve())).replace("'", "''")
        connection.execute(f"SET GLOBAL allowed_directories = ['{outlet}/']")
        connection.execute("SET GLOBAL enable_external_access = false")
    return connection


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
        connection.execute(TABLES)
        connection.execute("INSERT INTO format VALUES (?)", [FORMAT])
        connection.commit()
        connection.execute("CHECKPOINT")
    secure_file(unfinished)
    unfinished.rename(path)
    sync(path.parent)


def _format_of(connection: duckdb.DuckDBPyConnection, path: Path) -> int:
    """The number of its format, which is the present one or an older one."""
    tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    versions = connection.execute("SELECT version FROM format").fetchall() if "format" in tables else []
    if len(versions) != 1:
        raise DamagedFileError(f"{path} was not made by Footfall. Name another file (database.url).")
    [(version,)] = versions
    if not 1 <= version <= FORMAT:
        raise DamagedFileError(
            f"{path} has format {version}, and this Footfall reads formats 1 to {FORMAT}: a newer one made it. Start "
            "that one again, or name another file (database.url)."
        )
    return int(version)


def _migrate(connection: duckdb.DuckDBPyConnection, path: Path, version: int) -> None:
    """Do what `migrate` does, if there is room for it: a checkpoint that fails would make the database unusable."""
    needed = bytes_needed(connection, version)
    if shutil.disk_usage(path.parent).free < needed:
        raise FootfallError(
            f"{path} has format {version} and is to be migrated to format {FORMAT}, which needs {needed:,} bytes of "
            "free disk. Make room, and start again."
        )
    try:
        migrate(connection, path, version)
    except duckdb.Error as error:
        if is_unreadable(error):
            raise
        raise FootfallError(
            f"{path} can't be migrated to format {FORMAT} now: {first_line(error)}. Nothing is lost; start again."
        ) from error


def _refusal(path: Path, error: duckdb.Error) -> FootfallError:
    """What a failure to open the file means; DuckDB says it only in words."""
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
            "the queue still has what was in it, and will bring it again."
        )
    meaning = UnreadableFileError if is_unreadable(error) else DamagedFileError
    return meaning(
        f"{path} is not a readable database ({text}). Run `footfall rebuild`, which makes a new one and keeps this "
        "one, or restore a backup."
    )
