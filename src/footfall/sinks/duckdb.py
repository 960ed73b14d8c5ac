"""The database as one DuckDB file: rows and position move in one transaction.

File format (DuckDB storage; the table `format` holds the number 1):

- `events`: a row for each entry that has a site; the columns are those of `footfall.enrich`.
- `positions`: for each source the last `sequence` in `events`, rows `written`, entries `skipped` by reason (JSON).
- `salts`: the secrets that tell visitors without a user id apart, one for each UTC `day`.
- `event_ids`: a 128-bit hash of site and `event_id` for each event of the last days that had one, and its receipt.

A commit is synced to DuckDB's write-ahead log, `<file>.wal`. A checkpoint brings that log into the file. It is made
only here, when enough has come together, and never by DuckDB in the midst of a commit. `safe_sequence` is the position
that the last checkpoint covered, so that the queue can fill the gap even when the log of a crashed process is lost.

A salt is forgotten 48 hours after it was made: its row is deleted, and its bytes leave the file as the next checkpoints
write over them. From then on nobody, the owner of the file included, can tell which address a visitor had. An event
that comes later for such a day gets a new salt, so its visitor counts as another one.

One process at a time can open the file (DuckDB locks it), so the one that writes also answers the reports: each thread
takes a `cursor()` of the same connection.
"""

import logging
import os
import re
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Final

import duckdb
import msgspec

from footfall.aside import set_aside
from footfall.crashpoint import Point, reach
from footfall.enrich import COLUMNS, SALT_BYTES, Row, Skip, enrich
from footfall.errors import AlreadyInUseError, DamagedFileError, FootfallError, UnreadableFileError
from footfall.event import Entry, Event
from footfall.queue.base import Batch, Progress, SinkReport
from footfall.sinks.base import DATABASE, DUPLICATE, LOST, UNREADABLE, entries_of, missed_before

CHECKPOINT_ROWS: Final = 250_000
"""So many rows make a checkpoint due; they take some 50 MB in memory and in the log."""
CHECKPOINT_BYTES: Final = 128 * 1024 * 1024
CHECKPOINT_AGE: Final = timedelta(seconds=60)
"""The longest that a row waits for one, while the disk has room."""
SALT_AGE: Final = timedelta(hours=48)
"""How long a salt is kept: its own day, and one more for events that come late."""
DUPLICATE_AGE: Final = timedelta(hours=24)
"""An `event_id` that comes again within this counts once; kept twice as long, for a sink that is late."""
JUMP: Final = timedelta(minutes=1)
"""A clock that moves this much more or less than time did was set."""

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
_SPARE_BYTES: Final = 16 * 1024 * 1024
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - the database holds UTC without saying so
_EPOCH_DAY: Final = _EPOCH.date()

_TRY_AGAIN: Final = (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.TransactionException)
"""Errors after which DuckDB has rolled the transaction back and goes on; a failed commit is the last of them."""
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
        if not read_only and not path.exists():
            _make(path.resolve())
        connection = _connect(path, read_only=read_only)
    except duckdb.Error as error:
        raise _refusal(path, error) from error
    except OSError as error:
        raise FootfallError(f"{path} can't be made (database.url): {error.strerror}") from error
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
    if not path.exists() and log.exists():
        _tell_aside(f"{path} is gone.", set_aside(log))
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


class DuckdbSink:
    """The sink that fills `events`.

    Args:
        connection: what `open_database` gave; the sink works on a cursor of its own and leaves it open.
        clock: nanoseconds since 1970.
        monotonic: seconds that no one sets.
        checkpoint_bytes: so much of the queue makes a checkpoint due, for what no checkpoint covers can't leave it.

    Raises:
        OSError, DamagedFileError: as `write`.
    """

    name = DATABASE

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        clock: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        checkpoint_bytes: int = CHECKPOINT_BYTES,
    ) -> None:
        self._db = connection.cursor()
        self._clock = clock
        self._steadiness = _Steadiness(monotonic)
        self._path = _path_of(self._db)
        self._salts = _Salts(self._db)
        self._event_ids = _EventIds(self._db)
        self._positions: dict[str, Progress] = {}
        self._ids_forgotten_at = _EPOCH
        self._checkpoint_bytes = checkpoint_bytes
        self._uncovered_rows = 0
        self._uncovered_bytes = 0
        self._uncovered_since: datetime | None = None
        with self._naming_errors():
            self._load()
            # What is in the log of an earlier process is not covered yet.
            self._checkpoint()

    def progress(self) -> Mapping[str, Progress]:
        return self._positions

    def mark(self) -> str:
        return ""

    def resume(self, source: str, report: SinkReport | None, read: Callable[[int], Sequence[Batch]]) -> None:
        """Nothing is to be found out: position and rows are one."""

    def write(self, batches: Sequence[Batch]) -> None:
        with self._naming_errors():
            fresh = self._fresh(batches)
            if fresh:
                self._put(fresh)
            self._keep_up()

    def close(self) -> None:
        # What a failed checkpoint leaves in the log is safe there.
        with suppress(duckdb.Error):
            if self._uncovered_since is not None:
                self._checkpoint()
        self._db.close()

    def _fresh(self, batches: Sequence[Batch]) -> list[Batch]:
        """Those that are not in the database, each once."""
        reached = {source: progress.sequence for source, progress in self._positions.items()}
        fresh = []
        for batch in batches:
            if batch.sequence > reached.get(batch.source, 0):
                reached[batch.source] = batch.sequence
                fresh.append(batch)
        return fresh

    def _put(self, batches: Sequence[Batch]) -> None:
        """Rows, new salts and positions, in one transaction."""
        now = self._now()
        moved: dict[str, Progress] = {}
        rows = 0
        entries = [entries_of(batch) for batch in batches]
        with self._transaction():
            self._event_ids.look_up(entries)
            with self._db.appender("events", columns=list(COLUMNS)) as events:
                for batch, batch_entries in zip(batches, entries, strict=True):
                    before = moved.get(batch.source) or self._positions.get(batch.source, Progress())
                    moved[batch.source] = after = self._append(events, batch, batch_entries, before)
                    rows += after.written - before.written
            reach(Point.DATABASE_APPENDED)
            self._event_ids.save()
            self._salts.save(now)
            for source, after in moved.items():
                self._move(source, after)
            reach(Point.DATABASE_MOVED)
        reach(Point.DATABASE_COMMITTED)
        self._positions.update(moved)
        self._uncovered_rows += rows
        self._uncovered_bytes += sum(len(batch.payload) for batch in batches)
        self._uncovered_since = self._uncovered_since or now

    def _append(self, events: duckdb.Appender, batch: Batch, entries: list[Entry] | None, before: Progress) -> Progress:
        """Append a batch's rows; return where that leads from `before`."""
        rows: list[Row] = []
        skips: Counter[str] = Counter(before.skipped)
        if missed := missed_before(batch, before):
            skips[LOST] += missed
        if entries is None:
            skips[UNREADABLE] += batch.count
        for entry in entries or ():
            if isinstance(entry, Event) and entry.event_id is not None and self._event_ids.is_duplicate(entry):
                skips[DUPLICATE] += 1
                continue
            row = enrich(entry, self._salts)
            if isinstance(row, Skip):
                skips[row.value] += 1
            else:
                rows.append(row)
        events.append_rows(rows)
        return Progress(batch.sequence, before.safe_sequence, before.written + len(rows), dict(skips))

    def _move(self, source: str, after: Progress) -> None:
        # An UPDATE, or an upsert, would keep checkpoints from being made while anybody reads the old version.
        self._db.execute("DELETE FROM positions WHERE source = ?", [source])
        self._db.execute(
            "INSERT INTO positions VALUES (?, ?, ?, ?)",
            [source, after.sequence, after.written, msgspec.json.encode(after.skipped).decode()],
        )

    def _keep_up(self) -> None:
        """Forget old salts, and make a checkpoint, where due."""
        now = self._now()
        if self._steadiness.holds(now):
            self._forget(now)
        if self._uncovered_since is not None and (
            self._uncovered_rows >= CHECKPOINT_ROWS
            or self._uncovered_bytes >= self._checkpoint_bytes
            or now - self._uncovered_since >= CHECKPOINT_AGE
        ):
            self._checkpoint()

    def _forget(self, now: datetime) -> None:
        if now >= self._ids_forgotten_at + DUPLICATE_AGE:
            self._event_ids.forget(now - 2 * DUPLICATE_AGE)
            self._ids_forgotten_at = now
        if self._salts.forget(now - SALT_AGE):
            self._uncovered_since = self._uncovered_since or now

    def _checkpoint(self) -> None:
        """Bring the log into the file, or leave that to a later call.

        On a full disk nothing is tried: a checkpoint that fails there makes the database unusable for all its users
        until it is opened again.
        """
        log = log_of(self._path)
        log_bytes = log.stat().st_size if log.exists() else 0
        if shutil.disk_usage(self._path.parent).free < log_bytes + _SPARE_BYTES:
            return
        reach(Point.DATABASE_CHECKPOINTING)
        try:
            self._db.execute("CHECKPOINT")
        except duckdb.TransactionException:  # another transaction is in the way
            return
        reach(Point.DATABASE_CHECKPOINTED)
        self._uncovered_rows = 0
        self._uncovered_bytes = 0
        self._uncovered_since = None
        self._positions = {
            source: msgspec.structs.replace(progress, safe_sequence=progress.sequence)
            for source, progress in self._positions.items()
        }

    def _load(self) -> None:
        safe = {source: progress.safe_sequence for source, progress in self._positions.items()}
        self._positions = {
            source: Progress(sequence, safe.get(source, 0), written, msgspec.json.decode(skipped, type=dict[str, int]))
            for source, sequence, written, skipped in self._db.execute(
                "SELECT source, sequence, written, skipped FROM positions"
            ).fetchall()
        }
        self._salts.load()

    def _now(self) -> datetime:
        return _EPOCH + timedelta(microseconds=self._clock() // 1_000)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.begin()
        try:
            yield
            self._db.commit()
        except BaseException:
            # A commit that failed has rolled back already.
            with suppress(duckdb.Error):
                self._db.rollback()
            self._load()
            raise

    @contextmanager
    def _naming_errors(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            if any(sign in str(error) for sign in _UNREADABLE):
                raise UnreadableFileError(f"{self._path} can't be read: {_first_line(error)}.") from error
            if isinstance(error, _TRY_AGAIN):
                raise OSError(f"{self._path} can't be written now: {_first_line(error)}") from error
            raise DamagedFileError(
                f"{self._path} can't be used any more: {_first_line(error)}. Start again."
            ) from error


class _Steadiness:
    """Whether the clock can be believed about ages.

    A clock that is set ten days ahead by mistake, and back, must not make today's salt look old: the visitors of the
    day would count twice. So after a jump nothing is forgotten for as long as a salt is kept.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._last: tuple[datetime, float] | None = None
        self._jumped_at: float | None = None

    def holds(self, now: datetime) -> bool:
        """Ask about once a second with the clock's time."""
        monotonic = self._monotonic()
        if self._last is not None:
            last_now, last_monotonic = self._last
            if abs((now - last_now).total_seconds() - (monotonic - last_monotonic)) > JUMP.total_seconds():
                self._jumped_at = monotonic
        self._last = now, monotonic
        return self._jumped_at is None or monotonic - self._jumped_at > SALT_AGE.total_seconds()


class _Salts(dict[int, bytes]):
    """The table `salts` in memory, by days since 1970: a row for each day of which events came in the last 48 hours."""

    def __init__(self, db: duckdb.DuckDBPyConnection) -> None:
        super().__init__()
        self._db = db
        self._made_at: dict[int, datetime] = {}

    def __missing__(self, day: int) -> bytes:
        """Make a day's salt, which is then to be saved."""
        self[day] = salt = secrets.token_bytes(SALT_BYTES)
        return salt

    def load(self) -> None:
        self.clear()
        self._made_at.clear()
        for day, salt, made_at in self._db.execute("SELECT day, salt, made_at FROM salts ORDER BY made_at").fetchall():
            number = (day - _EPOCH_DAY).days
            self[number] = salt
            self._made_at[number] = made_at

    def save(self, now: datetime) -> None:
        """Add those made since the last time to the table; call within the transaction that they serve."""
        made = self.keys() - self._made_at.keys()
        if made:
            with self._db.appender("salts") as salts:
                salts.append_rows((_EPOCH_DAY + timedelta(days=day), self[day], now) for day in made)
            self._made_at.update(dict.fromkeys(made, now))

    def forget(self, until: datetime) -> bool:
        """Forget what was made until then; whether there was any."""
        oldest = next(iter(self._made_at.values()), None)
        if oldest is None or oldest > until:
            return False
        self._db.execute("DELETE FROM salts WHERE made_at <= ?", [until])
        self.load()
        return True


class _EventIds:
    """The table `event_ids`: what tells an event that is sent again from a new one."""

    def __init__(self, db: duckdb.DuckDBPyConnection) -> None:
        self._db = db
        self._seen_at: dict[int, datetime] = {}
        self._fresh: dict[int, datetime] = {}

    def look_up(self, batches: Sequence[list[Entry] | None]) -> None:
        """Fetch what the table knows of the ids in `batches`; call within the transaction that they serve."""
        self._fresh = {}
        ids = [
            _event_number(entry)
            for entries in batches
            for entry in entries or ()
            if isinstance(entry, Event) and entry.event_id is not None
        ]
        self._seen_at = {}
        if ids:
            self._seen_at.update(
                self._db.execute(
                    "SELECT id, max(seen_at) FROM event_ids WHERE id IN (SELECT unnest(?::HUGEINT[])) GROUP BY id",
                    [ids],
                ).fetchall()
            )

    def is_duplicate(self, event: Event) -> bool:
        """Whether the same id of the same site was received within 24 hours of this one, which it is now."""
        number = _event_number(event)
        received_at = _EPOCH + timedelta(microseconds=event.received_ns // 1_000)
        seen_at = self._seen_at.get(number)
        if seen_at is not None and abs(received_at - seen_at) < DUPLICATE_AGE:
            return True
        self._seen_at[number] = self._fresh[number] = received_at
        return False

    def save(self) -> None:
        """Add those that were new; call within the same transaction."""
        if self._fresh:
            with self._db.appender("event_ids") as ids:
                ids.append_rows(list(self._fresh.items()))

    def forget(self, until: datetime) -> None:
        self._db.execute("DELETE FROM event_ids WHERE seen_at <= ?", [until])


def _event_number(event: Event) -> int:
    digest = blake2b(msgspec.msgpack.encode((event.site_id, event.event_id)), digest_size=16)
    return int.from_bytes(digest.digest(), "big", signed=True)


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
    unfinished.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


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
    text = _first_line(error)
    if "Could not set lock on file" in text:
        holder = re.search(r"\(PID (\d+)\)", text)
        return AlreadyInUseError(
            f"{path} is already open in {f'process {holder[1]}' if holder else 'another process'}. Only one process "
            "can open a DuckDB database, so processor and reporting must share one: `footfall run processor reporting`."
        )
    if any(reason in text for reason in _NOT_TO_BE_HAD):
        return FootfallError(f"{path} can't be opened (database.url): {text}")
    if "replaying WAL" in text:
        return UnreadableFileError(
            f"The log of the database {path} is damaged ({text}). Move {log_of(path)} away, and that file only: "
            "the queue still has what was in it, and brings it again."
        )
    meaning = UnreadableFileError if any(sign in text for sign in _UNREADABLE) else DamagedFileError
    return meaning(
        f"{path} is not a readable database ({text}). Make it anew with `footfall rebuild`, which keeps this one, "
        "or bring it back from a copy."
    )


def _path_of(db: duckdb.DuckDBPyConnection) -> Path:
    [(path,)] = db.execute("SELECT path FROM duckdb_databases() WHERE NOT internal").fetchall()
    return Path(path)


def log_of(path: Path) -> Path:
    """Where DuckDB keeps the write-ahead log of a database."""
    return path.with_name(path.name + ".wal")


def _first_line(error: duckdb.Error) -> str:
    return str(error).partition("\n")[0]
