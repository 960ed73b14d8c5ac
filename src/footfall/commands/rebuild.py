"""`footfall rebuild`: the database made anew, by the present rules, from what else holds its contents.

What is in the queue's retained batches is taken from there, since they are what was sent, whole. What is older comes
from the visits log, or from exported events (`footfall.commands.export`):

- **The visits log** has the hits. It does not tell what the query of a hit said (site, path, user), so their site and
  page are those of their referrer, and it has no events. A hit that is in the log and in a batch is told by its line,
  which is the same byte for byte, but for what `storage.addresses` and `storage.referrer_queries` left out when it was
  written: each hit of a batch takes one such line out of the log. This needs no assumption about the order of the
  lines, the files they were rotated into, or those that were deleted.
- **An export** has everything the database knew, but not what is behind it (address, user agent). It says up to which
  batch it goes, so the batches are taken from there on.

The new database is made beside the old one, as `<file>.new`; the same sink writes it. Only when it is whole and on the
disk does it take the old one's place, which is kept under another name. Whatever ends a rebuild before that leaves
the old database in place; a `<file>.new` that is left over is replaced by the next one.

In the ledger, entries of the queue that no source brought back count as skipped, `not_rebuilt`. Lines of a log that
this queue never had, of an earlier `data_dir`, say, are in no ledger: their count is kept under the source
`LOG_SOURCE`.

A processor that is started afterwards goes on behind the last batch that was taken.
"""

import os
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

import duckdb
import msgspec
from msgspec import Struct, field

from footfall.commands.export import Export, count_events
from footfall.commands.logfile import LogFile, ReadError, Skipped
from footfall.database.duckdb.file import log_of, open_database
from footfall.database.duckdb.writer import CHECKPOINT_ROWS, DuckdbSink
from footfall.database.schema import NAMES
from footfall.durable.files import is_trusted, real_path
from footfall.durable.sync import sync
from footfall.entry import Hit, encode_entries
from footfall.errors import AlreadyInUseError, BadUsageError, FootfallError, QueueBrokenError, QueueFullError
from footfall.failpoint import Failpoint, reach
from footfall.queue.base import Batch, Progress
from footfall.queue.local.store import LocalQueue
from footfall.queue.sink import DATABASE, LOST, UNREADABLE, VISIT_LOG, entries_of
from footfall.referrer import host_of
from footfall.settings import DatabaseSettings
from footfall.visit_log.line import parse_line
from footfall.visit_log.redaction import possible_lines

NOT_REBUILT: Final = "not_rebuilt"
"""Why the database skips entries that it once may have had: nothing was left to take them from."""
LOG_SOURCE: Final = "visits log"
"""The source, in `positions`, of rows that came from the visits log and from no queue that is known."""

_CHUNK_ROWS: Final = 10_000
_LATEST_NS: Final = 2**63 - 1
_CACHE_KIB: Final = 65_536
_SHOWN_SITES: Final = 10
_ROTATED: Final = r"(?:[.-][0-9][0-9.-]*)?"
_OTHER_PACKERS: Final = {".bz2", ".lz4", ".xz", ".Z", ".zst"}

_Row = TypeVar("_Row")

OnProgress = Callable[[int], object]
"""Called now and then with the bytes that were read since the last call."""


class RebuildReport(Struct):
    """What a new database was made of.

    Attributes:
        events: how many it has.
        old_events: how many the old one had; None where there was none, or it could not be read.
        kept: what the old one is called now; None where there was none.
        from_batches: events from the queue's batches.
        from_log: those from the visits log.
        from_export: exported ones.
        skipped: lines of the log that have no place in the database, by reason.
        malformed: lines that are none, by file.
        sites: the sites with the most events from the log, with how many.
        not_rebuilt: entries of the queue that could not be brought back.
    """

    events: int = 0
    old_events: int | None = None
    kept: Path | None = None
    from_batches: int = 0
    from_log: int = 0
    from_export: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    malformed: dict[Path, Skipped] = field(default_factory=dict)
    sites: list[tuple[str, int]] = field(default_factory=list)
    not_rebuilt: int = 0


def find_logs(path: Path, *, on_untrusted: Callable[[Path], object] = lambda _: None) -> list[Path]:
    """The visits log and what it was rotated into, by the names that logrotate gives; those written first come first.

    Args:
        path: the visits log; it need not be there.
        on_untrusted: called with a file that has such a name, and that another user of the machine could have put
            there (`footfall.durable.files`); it is left out.

    Raises:
        BadUsageError: one is compressed by something else than gzip.
        FootfallError: they can't be listed.
    """
    packed = rf"(?:\.gz|{'|'.join(map(re.escape, _OTHER_PACKERS))})?"
    found = {}
    try:
        path = real_path(path)
        name = re.compile(f"{re.escape(path.stem)}{_ROTATED}{re.escape(path.suffix)}{_ROTATED}{packed}")
        for file in filter(lambda file: name.fullmatch(file.name), path.parent.iterdir()):
            if is_trusted(file):
                found[file] = file.stat().st_mtime_ns
            elif not file.is_dir():
                on_untrusted(file)
    except FileNotFoundError:
        pass  # the directory
    except OSError as error:
        raise FootfallError(
            f"The logs beside {path} can't be listed (storage.path): {error.strerror}. Run this as the user that "
            "Footfall runs as, or name the logs to read (--log)."
        ) from error
    for file in found:
        if file.suffix in _OTHER_PACKERS:
            raise BadUsageError(f"{file} can't be read here: unpack it, or compress it with gzip.")
    # While a log is being compressed it is there twice, and the packed one is not whole yet.
    whole = [file for file in found if file.suffix != ".gz" or file.with_suffix("") not in found]
    return sorted(whole, key=lambda file: (found[file], file.name))


def rebuild_from_logs(
    path: Path,
    queue: LocalQueue,
    logs: Sequence[LogFile],
    *,
    sites: Mapping[str, str],
    settings: DatabaseSettings = DatabaseSettings(),
    on_progress: OnProgress = lambda _: None,
) -> RebuildReport:
    """Make the database anew from the queue's batches, and from visits logs for what is older.

    Args:
        path: the database; the caller holds its lock.
        queue: what the database is filled from.
        logs: opened before this is called. What is appended to them from then on is in the batches.
        sites: by the host in its referrer, the site that a hit of the logs counts for, where it is not that host.
        settings: what rows hold.
        on_progress: see `OnProgress`.

    Raises:
        FootfallError: it can't be done; the text says why. The old database is as it was.
    """
    return _Rebuild(path, queue, settings=settings, on_progress=on_progress).from_logs(logs, sites)


def rebuild_from_export(
    path: Path,
    queue: LocalQueue,
    export: Export,
    *,
    settings: DatabaseSettings = DatabaseSettings(),
    on_progress: OnProgress = lambda _: None,
) -> RebuildReport:
    """Make the database anew from exported events, and from the queue's batches that came after them.

    The other arguments and errors are those of `rebuild_from_logs`.
    """
    return _Rebuild(path, queue, settings=settings, on_progress=on_progress).from_export(export)


class _Rebuild:
    """One database on its way to being replaced."""

    def __init__(self, path: Path, queue: LocalQueue, *, settings: DatabaseSettings, on_progress: OnProgress) -> None:
        self._path = path.resolve()
        self._new_path = self._path.with_name(f"{self._path.name}.new")
        self._queue = queue
        self._settings = settings
        self._on_progress = on_progress
        self._report = RebuildReport()
        self._settled = Progress()

    def from_logs(self, logs: Sequence[LogFile], sites: Mapping[str, str]) -> RebuildReport:
        with self._replacing() as new:
            with closing(_LoggedHits()) as retained, closing(self._sink(new)) as sink:
                older = self._take_batches(sink, retained)
                self._report.from_batches = count_events(new)
                for log in logs:
                    self._take_log(sink, log, retained, sites)
            self._report.from_log = count_events(new) - self._report.from_batches
            self._report.sites = _sites_behind(new, self._report.from_batches)
            self._settle(new, sink.progress(), older=older, lost=0)
        return self._report

    def from_export(self, export: Export) -> RebuildReport:
        with self._replacing() as new:
            self._take_export(new, export)
            self._report.from_export = count_events(new)
            with closing(self._sink(new)) as sink:
                self._take_batches(sink, None)
            self._report.from_batches = count_events(new) - self._report.from_export
            known = export.progress().get(self._queue.source, Progress())
            self._settle(new, sink.progress(), older=0, lost=known.skipped.get(LOST, 0))
        return self._report

    def _sink(self, new: duckdb.DuckDBPyConnection) -> DuckdbSink:
        return DuckdbSink(new, settings=self._settings)

    # Where it comes from.

    def _take_batches(self, sink: DuckdbSink, retained: "_LoggedHits | None") -> int:
        """Write the batches behind the sink's position, and note the lines that they have in the visits log.

        Returns:
            how many lines the log has of this queue's batches that are older than these.
        """
        reports = self._queue.sink_reports()
        position = sink.progress().get(self._queue.source, Progress()).sequence
        last = self._queue.last_sequence()  # a running collector must not keep this going for ever
        older, logged = (reports[VISIT_LOG].written, reports[VISIT_LOG].sequence) if VISIT_LOG in reports else (0, 0)
        while position < last and (batches := self._queue.read(position)):
            sink.write(batches)
            for batch in batches:
                if retained is not None:
                    hits = _logged_in(batch)
                    retained.add(hits)
                    older -= len(hits) if batch.sequence <= logged else 0
                self._on_progress(len(batch.payload))
            position = batches[-1].sequence
        return max(0, older)

    def _take_log(self, sink: DuckdbSink, log: LogFile, retained: "_LoggedHits", sites: Mapping[str, str]) -> None:
        """Write the hits of a visits log, without those that batches hold."""
        hits: list[Hit] = []
        number = consumed = 0
        try:
            for number, line in enumerate(_lines_in(log), 1):
                if not retained.take(line):
                    hit = _hit_of(line, sites)
                    if hit is None:
                        self._report.malformed.setdefault(log.path, Skipped()).add(number)
                    else:
                        hits.append(hit)
                if number % _CHUNK_ROWS == 0:
                    _write_hits(sink, hits)
                    hits = []
                    self._on_progress(log.consumed() - consumed)
                    consumed = log.consumed()
        except ReadError as error:
            raise BadUsageError(
                f"{log.path} can't be read past line {number}: {error}. Mend it, or name the logs to read (--log)."
            ) from error
        _write_hits(sink, hits)
        self._on_progress(log.consumed() - consumed)

    def _take_export(self, new: duckdb.DuckDBPyConnection, export: Export) -> None:
        for ids in _chunks(export.event_ids(), _CHUNK_ROWS):
            with new.appender("event_ids", columns=["id", "seen_at"]) as event_ids:
                event_ids.append_rows(ids)
        consumed = uncovered = 0
        for rows in _chunks(export.rows(settings=self._settings), _CHUNK_ROWS):
            with new.appender("events", columns=list(NAMES)) as events:
                events.append_rows(rows)
            uncovered += len(rows)
            if uncovered >= CHECKPOINT_ROWS:
                new.execute("CHECKPOINT")
                uncovered = 0
            self._on_progress(export.consumed() - consumed)
            consumed = export.consumed()
        _put_positions(new, export.progress())

    # What the ledger says of it.

    def _settle(
        self, new: duckdb.DuckDBPyConnection, progress: Mapping[str, Progress], *, older: int, lost: int
    ) -> None:
        """Account for all that the queue had received, up to the last batch that was taken.

        Args:
            new: the new database.
            progress: what its sink has counted.
            older: how many lines in the logs are this queue's, apart from those that its batches hold.
            lost: how many entries were known as lost before.
        """
        queue = progress.get(self._queue.source, Progress())
        log = progress.get(LOG_SOURCE, Progress())
        self._report.skipped = log.skipped
        skipped = Counter(queue.skipped)
        # What the sink has missed, or could not read, the logs may have had.
        reasons = {LOST: min(lost, skipped.pop(LOST, 0)), UNREADABLE: skipped.pop(UNREADABLE, 0)}
        missing = max(0, self._queue.received_until(queue.sequence) - queue.written - skipped.total())
        room = min(missing, older)
        written = min(room, log.written)
        for reason, count in log.skipped.items():
            part = min(room - written, count)
            skipped[reason] += part
            room -= part
            missing -= part
        missing -= written
        for reason, count in reasons.items():
            skipped[reason] = min(missing, count)
            missing -= skipped[reason]
        skipped[NOT_REBUILT] += missing
        self._report.not_rebuilt = missing
        self._settled = Progress(queue.sequence, queue.sequence, queue.written + written, dict(+skipped))
        positions = {**progress, self._queue.source: self._settled}
        positions.pop(LOG_SOURCE, None)
        if log.written > written:
            positions[LOG_SOURCE] = Progress(log.sequence, written=log.written - written)
        _put_positions(new, positions)

    # The files.

    @contextmanager
    def _replacing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A new database, which takes the place of the old one at the end of the block, unless that fails."""
        try:
            _remove(self._new_path)
            with closing(open_database(self._new_path)) as new:
                self._look_at_old(new)
                self._hold_batches()
                yield new
                self._report.events = count_events(new)
                new.execute("CHECKPOINT")
            self._put_in_place()
        except (duckdb.Error, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise FootfallError(f"The database can't be made anew: {reason}. The old one is as it was.") from error
        finally:
            with suppress(OSError):
                _remove(self._new_path)
        # What does not get through now the processor reports at its start.
        with suppress(QueueFullError, QueueBrokenError):
            self._queue.report(DATABASE, self._settled)

    def _look_at_old(self, new: duckdb.DuckDBPyConnection) -> None:
        """Take over the salts, so that today's visitors are not counted as new ones, if the old one can be read."""
        if not self._path.exists():
            return
        try:
            with closing(open_database(self._path, read_only=True)) as old:
                salts = old.execute("SELECT day, salt, made_at FROM salts").fetchall()
                self._report.old_events = count_events(old)
        except AlreadyInUseError:
            raise
        except (FootfallError, duckdb.Error):
            return
        with new.appender("salts") as rows:
            rows.append_rows(salts)

    def _hold_batches(self) -> None:
        """Let the queue drop nothing until the new database has it, whatever the old one had."""
        report = self._queue.sink_reports().get(DATABASE)
        if report is not None:
            unsafe = Progress(report.sequence, 0, report.written, report.skipped)
            self._queue.report(DATABASE, unsafe, "is being rebuilt")

    def _put_in_place(self) -> None:
        """Keep the old database by another name, with its log, and give its name to the new one."""
        sync(self._new_path)
        reach(Failpoint.REBUILD_WHOLE)
        kept = self._path.with_name(f"{self._path.name}.before-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
        log = log_of(self._path)
        # By links: there is a database under the old name at any moment.
        if self._path.exists():
            os.link(self._path, kept)
            self._report.kept = kept
        if log.exists():
            os.link(log, log_of(kept))
        sync(self._path.parent)
        reach(Failpoint.REBUILD_KEPT)
        # Without its log the old database lacks its last moments, which the queue still has; a log beside a database
        # that it does not belong to would keep that from being opened.
        log.unlink(missing_ok=True)
        reach(Failpoint.REBUILD_PARTED)
        self._new_path.replace(self._path)
        sync(self._path.parent)
        reach(Failpoint.REBUILD_REPLACED)


class _LoggedHits:
    """Hits that are in the visits log, each to be found there once, by whatever line was written of it.

    What is too much for the memory SQLite keeps in a temporary file.
    """

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("CREATE TABLE lines (digest BLOB, hit INTEGER, PRIMARY KEY (digest, hit)) WITHOUT ROWID")
        self._db.execute("BEGIN")
        self._is_found = bytearray()
        self._left = 0

    def add(self, hits: Sequence[Hit]) -> None:
        first = len(self._is_found)
        self._db.executemany(
            "INSERT INTO lines VALUES (?, ?)",
            (
                (_digest(f"{line}\n".encode()), number)
                for number, hit in enumerate(hits, first)
                for line in possible_lines(hit)
            ),
        )
        self._is_found += bytes(len(hits))
        self._left += len(hits)

    def take(self, line: bytes) -> bool:
        """Whether the line is of one of them; each is found once."""
        if self._left == 0:
            return False
        digest = _digest(line)
        while row := self._db.execute("SELECT hit FROM lines WHERE digest = ? LIMIT 1", (digest,)).fetchone():
            self._db.execute("DELETE FROM lines WHERE digest = ? AND hit = ?", (digest, *row))
            if not self._is_found[row[0]]:
                self._is_found[row[0]] = True
                self._left -= 1
                return True
        return False

    def close(self) -> None:
        self._db.close()


def _digest(line: bytes) -> bytes:
    return blake2b(line, digest_size=16).digest()


def _logged_in(batch: Batch) -> list[Hit]:
    """The hits of a batch that have a line in the visits log."""
    return [entry for entry in entries_of(batch) or () if isinstance(entry, Hit) and entry.address]


def _lines_in(log: LogFile) -> Iterator[bytes]:
    """The lines that were there when `log` was opened; the first part of one that is too long to be a visit."""
    offset = 0
    while (log.is_packed or offset < log.size) and (line := log.read_line()):
        yield line
        offset += len(line)
        while not line.endswith(b"\n") and (line := log.read_line()):
            offset += len(line)


def _hit_of(line: bytes, sites: Mapping[str, str]) -> Hit | None:
    """The hit that a line tells of; None where it is not a whole line of a visits log."""
    if not line.endswith(b"\n"):
        return None
    try:
        visit = parse_line(line[:-1].decode())
        (visit.address or "").encode()
    except ValueError:
        return None
    if abs(visit.received_ns) > _LATEST_NS:
        return None
    site_id = sites.get(host_of(visit.referrer)) if sites else None
    return Hit(visit.received_ns, visit.address, visit.referrer, visit.user_agent, site_id)


def _write_hits(sink: DuckdbSink, hits: Sequence[Hit]) -> None:
    if hits:
        sequence = sink.progress().get(LOG_SOURCE, Progress()).sequence + 1
        sink.write([Batch(LOG_SOURCE, sequence, 0, len(hits), encode_entries(hits))])


def _sites_behind(new: duckdb.DuckDBPyConnection, first: int) -> list[tuple[str, int]]:
    """The sites with the most rows, of those after the first so many, and how many each has."""
    return new.execute(
        "SELECT site_id, count(*) AS events FROM events WHERE rowid >= ? GROUP BY site_id "
        "ORDER BY events DESC, site_id LIMIT ?",
        [first, _SHOWN_SITES],
    ).fetchall()


def _put_positions(new: duckdb.DuckDBPyConnection, positions: Mapping[str, Progress]) -> None:
    new.begin()
    new.execute("DELETE FROM positions")
    for source, progress in positions.items():
        new.execute(
            "INSERT INTO positions VALUES (?, ?, ?, ?)",
            [source, progress.sequence, progress.written, msgspec.json.encode(progress.skipped).decode()],
        )
    new.commit()


def _chunks(rows: Iterable[_Row], size: int) -> Iterator[list[_Row]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _remove(path: Path) -> None:
    """A database and its log."""
    for file in (log_of(path), path):
        file.unlink(missing_ok=True)
