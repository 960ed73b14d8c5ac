"""The sink that fills a DuckDB database: rows and position move in one transaction.

The file is described in `footfall.database.duckdb.file`. Checkpoints are made only here, when enough has been written,
and never by DuckDB in the middle of a commit. `safe_sequence` is the position that the last checkpoint covered, so if
the log of a crashed process is lost, the queue still has what was in it.

A salt (`footfall.database.salts`) is forgotten 48 hours after it was made: its row is deleted, and its bytes leave the
file as the next checkpoints write over them. From then on nobody, the owner of the file included, can compute the
visitor number of an address (what the visits log still tells is in docs/security.md). An event that comes later for
such a day gets a new salt, so its visitor counts as another one.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Final

import duckdb
import msgspec

from footfall.database.duckdb.days import RolledDays, SiteDay
from footfall.database.duckdb.event_ids import EventIds
from footfall.database.duckdb.file import first_line, is_unreadable, log_of, path_of
from footfall.database.duckdb.removal import REMOVED_ROWS, erasures_in, remove_erased, remove_old
from footfall.database.duckdb.salts import DuckdbSalts
from footfall.database.erasure import Erasure, ErasureFile, Keeping, oldest_kept
from footfall.database.geo import FindPlace, nowhere
from footfall.database.rows import DUPLICATE_AGE, SeenIds, keys_in, rows_of
from footfall.database.salts import SALT_AGE, Steadiness, running_time
from footfall.database.schema import NAMES
from footfall.errors import DamagedFileError, UnreadableFileError
from footfall.failpoint import Failpoint, reach
from footfall.queue.base import Batch, Progress, SinkReport
from footfall.queue.sink import DATABASE, entries_of, past
from footfall.settings import DatabaseSettings

CHECKPOINT_ROWS: Final = 250_000
"""After so many rows a checkpoint is due; they take some 50 MB in memory and in the log."""
CHECKPOINT_BYTES: Final = 128 * 1024 * 1024
CHECKPOINT_AGE: Final = timedelta(seconds=60)
"""The longest that a row waits for one, while the disk has room."""

_SPARE_BYTES: Final = 16 * 1024 * 1024
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - the database holds UTC without saying so

_TRY_AGAIN: Final = (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.TransactionException)
"""Errors after which DuckDB has rolled the transaction back and goes on; a failed commit is the last of them."""


class DuckdbSink:
    """The sink that fills `events`.

    Args:
        connection: what `open_database` gave; the sink works on a cursor of its own and leaves it open.
        clock: nanoseconds since 1970.
        monotonic: seconds that no one sets.
        settings: what rows hold.
        find_place: tells where an address is.
        checkpoint_bytes: after so many bytes of the queue a checkpoint is due, because the queue has to keep what no
            checkpoint covers.
        erasures: those that were ordered in this `data_dir`.
        days: shared with the roll-up, if there is one.

    Raises:
        OSError, DamagedFileError: as `write`.
    """

    name = DATABASE

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        clock: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = running_time,
        *,
        settings: DatabaseSettings = DatabaseSettings(),
        find_place: FindPlace = nowhere,
        checkpoint_bytes: int = CHECKPOINT_BYTES,
        erasures: ErasureFile | None = None,
        days: RolledDays | None = None,
    ) -> None:
        self._db = connection.cursor()
        self._clock = clock
        self._settings = settings
        self._find_place = find_place
        self._steadiness = Steadiness(monotonic)
        self._path = path_of(self._db)
        self._salts = DuckdbSalts(self._db, self._now)
        self._event_ids = EventIds(self._db)
        self._days = days or RolledDays(connection)
        self._positions: dict[str, Progress] = {}
        self._ordered = erasures
        self._done: dict[str, Erasure] = {}
        self._cleared_until: datetime | None = None
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
        """The last erasure that is done, for whoever waits for it."""
        return max(self._done.values(), key=lambda erasure: erasure.made_us).id if self._done else ""

    def resume(self, source: str, report: SinkReport | None, read: Callable[[int], Sequence[Batch]]) -> None:
        """There is nothing to find out: position and rows are in one transaction."""

    def write(self, batches: Sequence[Batch]) -> None:
        with self._naming_errors():
            self._erase()
            if fresh := past(batches, self._positions):
                self._put(fresh)
            self._keep_up()

    def close(self) -> None:
        # If the checkpoint fails, what is in the log is safe there.
        with suppress(duckdb.Error):
            if self._uncovered_since is not None:
                self._checkpoint()
        self._db.close()

    def _put(self, batches: Sequence[Batch]) -> None:
        """Rows, new salts and positions, in one transaction."""
        now = self._now()
        keeping = Keeping(oldest_kept(now, self._settings.retention_days), list(self._done.values()))
        moved: dict[str, Progress] = {}
        rows = 0
        entries = [entries_of(batch) for batch in batches]
        touched: set[SiteDay] = set()
        with self._days.changing(), self._transaction():
            seen = SeenIds(self._event_ids.look_up(keys_in(entries)), self._salts)
            with self._db.appender("events", columns=list(NAMES)) as events:
                for batch, batch_entries in zip(batches, entries, strict=True):
                    before = moved.get(batch.source) or self._positions.get(batch.source, Progress())
                    added = rows_of(
                        batch,
                        batch_entries,
                        before,
                        self._salts,
                        seen,
                        settings=self._settings,
                        find_place=self._find_place,
                        keeping=keeping,
                    )
                    events.append_rows(added.rows)
                    touched |= {(row[1], row[0].date()) for row in added.rows}
                    moved[batch.source] = added.progress
                    rows += len(added.rows)
            reach(Failpoint.DATABASE_APPENDED)
            self._days.mark(self._db, touched)
            self._event_ids.save(seen.new)
            self._salts.save(now)
            for source, after in moved.items():
                self._move(source, after)
            reach(Failpoint.DATABASE_MOVED)
        reach(Failpoint.DATABASE_COMMITTED)
        self._positions.update(moved)
        self._uncovered_rows += rows
        self._uncovered_bytes += sum(len(batch.payload) for batch in batches)
        self._uncovered_since = self._uncovered_since or now

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
            self._clear(now)
        if self._uncovered_since is not None and (
            self._uncovered_rows >= CHECKPOINT_ROWS
            or self._uncovered_bytes >= self._checkpoint_bytes
            or abs(now - self._uncovered_since) >= CHECKPOINT_AGE
        ):
            self._checkpoint()

    def _erase(self) -> None:
        """Remove what was ordered to be, before anything of later is written."""
        for erasure in self._ordered.read() if self._ordered else ():
            is_last = erasure.id in self._done
            while not is_last:
                with self._days.changing(), self._transaction():
                    is_last = remove_erased(self._db, erasure, days=self._days)
                    reach(Failpoint.ERASURE_REMOVED)
                reach(Failpoint.ERASURE_COMMITTED)
                self._uncovered_since = self._uncovered_since or self._now()
                self._load()

    def _clear(self, now: datetime) -> None:
        """Remove some of what is too old, if there is any."""
        oldest = oldest_kept(now, self._settings.retention_days)
        if oldest is None or oldest == self._cleared_until:
            return
        with self._days.changing(), self._transaction():
            count = remove_old(self._db, oldest, self._days)
            reach(Failpoint.RETENTION_REMOVED)
        reach(Failpoint.RETENTION_COMMITTED)
        if count:
            self._uncovered_since = self._uncovered_since or now
            self._load()
        if count < REMOVED_ROWS:
            self._cleared_until = oldest

    def _forget(self, now: datetime) -> None:
        # By whatever clock that was: it may have been ahead by years.
        if abs(now - self._ids_forgotten_at) >= DUPLICATE_AGE:
            # Kept twice as long, for a sink that is late.
            self._event_ids.forget(now - 2 * DUPLICATE_AGE)
            self._ids_forgotten_at = now
        if self._salts.forget(now - SALT_AGE):
            self._uncovered_since = self._uncovered_since or now

    def _checkpoint(self) -> None:
        """Bring the log into the file, or leave that to a later call.

        On a full disk none is tried: a checkpoint that fails makes the database unusable for all its users until it is
        opened again.
        """
        log = log_of(self._path)
        log_bytes = log.stat().st_size if log.exists() else 0
        if shutil.disk_usage(self._path.parent).free < log_bytes + _SPARE_BYTES:
            return
        reach(Failpoint.DATABASE_CHECKPOINTING)
        try:
            self._db.execute("CHECKPOINT")
        except duckdb.TransactionException:  # another transaction is in the way
            return
        reach(Failpoint.DATABASE_CHECKPOINTED)
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
        self._done = {erasure.id: erasure for erasure in erasures_in(self._db)}
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
            if is_unreadable(error):
                raise UnreadableFileError(f"{self._path} can't be read: {first_line(error)}.") from error
            if isinstance(error, _TRY_AGAIN):
                raise OSError(f"{self._path} can't be written now: {first_line(error)}") from error
            raise DamagedFileError(f"{self._path} can't be used any more: {first_line(error)}. Start again.") from error
