"""A new database is made, by the present rules, from what else holds its contents.

Whatever the queue still has is taken from its batches, because they hold all that was sent. What is older comes from
the visits log, or from exported events (`footfall.commands.export`):

- **The visits log** has the hits. It does not tell what the query of a hit said (site, path, user), so their site and
  page are those of their referrer, and it has no events. A hit that is in the log and in a batch is told by its line,
  which is the same byte for byte, but for what `storage.addresses` and `storage.referrer_queries` left out when it was
  written: each hit of a batch takes one such line out of the log. This needs no assumption about the order of the
  lines, the files they were rotated into, or those that were deleted.
- **An export** has everything the database knew, but not what is behind it (address, user agent). It says up to which
  batch it goes, so the batches are taken from there on.

The same sink writes the new database, which takes the old one's place at the end (`replacement`).

In the ledger, entries of the queue that no source brought back are skipped as `not_rebuilt`. Lines that this queue
never had (the log of an earlier `data_dir`, for example) are in no ledger; their count is kept under the source
`LOG_SOURCE`.

A processor that is started afterwards resumes behind the last batch that was taken.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

import duckdb
import msgspec
from msgspec import Struct, field

from footfall.commands.export import Export, count_events
from footfall.commands.logfile import LogFile, ReadError, Skipped
from footfall.commands.rebuild.account import NOT_REBUILT, settle
from footfall.commands.rebuild.logs import LoggedHits, hit_of, lines_in, logged_in
from footfall.commands.rebuild.replacement import Replacement
from footfall.database.duckdb.writer import CHECKPOINT_ROWS, DuckdbSink
from footfall.database.schema import NAMES
from footfall.entry import Hit, encode_entries
from footfall.errors import BadUsageError, QueueBrokenError, QueueFullError
from footfall.queue.base import Batch, Progress
from footfall.queue.local.store import LocalQueue
from footfall.queue.sink import DATABASE, LOST, VISIT_LOG
from footfall.settings import DatabaseSettings

LOG_SOURCE: Final = "visits log"
"""The source, in `positions`, of rows that came from the visits log and from no queue that is known."""

_CHUNK_ROWS: Final = 10_000
_SHOWN_SITES: Final = 10

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
        self._replacement = Replacement(path)
        self._queue = queue
        self._settings = settings
        self._on_progress = on_progress
        self._report = RebuildReport()

    def from_logs(self, logs: Sequence[LogFile], sites: Mapping[str, str]) -> RebuildReport:
        with self._replacement.made() as new:
            self._hold_batches()
            with closing(LoggedHits()) as retained, closing(self._sink(new)) as sink:
                older = self._take_batches(sink, retained)
                self._report.from_batches = count_events(new)
                for log in logs:
                    self._take_log(sink, log, retained, sites)
            self._report.from_log = count_events(new) - self._report.from_batches
            self._report.sites = _sites_behind(new, self._report.from_batches)
            settled = self._settle(new, sink.progress(), older=older, lost=0)
        return self._done(settled)

    def from_export(self, export: Export) -> RebuildReport:
        with self._replacement.made() as new:
            self._hold_batches()
            self._take_export(new, export)
            self._report.from_export = count_events(new)
            with closing(self._sink(new)) as sink:
                self._take_batches(sink, None)
            self._report.from_batches = count_events(new) - self._report.from_export
            known = export.progress().get(self._queue.source, Progress())
            settled = self._settle(new, sink.progress(), older=0, lost=known.skipped.get(LOST, 0))
        return self._done(settled)

    def _sink(self, new: duckdb.DuckDBPyConnection) -> DuckdbSink:
        return DuckdbSink(new, settings=self._settings)

    def _take_batches(self, sink: DuckdbSink, retained: LoggedHits | None) -> int:
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
                    hits = logged_in(batch)
                    retained.add(hits)
                    older -= len(hits) if batch.sequence <= logged else 0
                self._on_progress(len(batch.payload))
            position = batches[-1].sequence
        return max(0, older)

    def _take_log(self, sink: DuckdbSink, log: LogFile, retained: LoggedHits, sites: Mapping[str, str]) -> None:
        """Write the hits of a visits log, without those that batches hold."""
        hits: list[Hit] = []
        number = consumed = 0
        try:
            for number, line in enumerate(lines_in(log), 1):
                hit = hit_of(line, sites)
                if hit is None:
                    self._report.malformed.setdefault(log.path, Skipped()).add(number)
                elif not retained.take(line, hit):
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

    def _settle(
        self, new: duckdb.DuckDBPyConnection, progress: Mapping[str, Progress], *, older: int, lost: int
    ) -> Progress:
        """Write the account into the new database, and return that of the queue; the rest is as in `settle`."""
        queue, log = progress.get(self._queue.source, Progress()), progress.get(LOG_SOURCE, Progress())
        received = self._queue.received_until(queue.sequence)
        settled, beyond = settle(queue, log, received=received, older=older, lost=lost)
        positions = {**progress, self._queue.source: settled, LOG_SOURCE: beyond}
        if not beyond.written:
            del positions[LOG_SOURCE]
        _put_positions(new, positions)
        self._report.skipped = log.skipped
        self._report.not_rebuilt = settled.skipped.get(NOT_REBUILT, 0)
        self._report.events = count_events(new)
        return settled

    def _hold_batches(self) -> None:
        """Let the queue drop nothing until the new database has it, whatever the old one had."""
        report = self._queue.sink_reports().get(DATABASE)
        if report is not None:
            unsafe = Progress(report.sequence, 0, report.written, report.skipped)
            self._queue.report(DATABASE, unsafe, "is being rebuilt")

    def _done(self, settled: Progress) -> RebuildReport:
        # What does not get through now the processor reports at its start.
        with suppress(QueueFullError, QueueBrokenError):
            self._queue.report(DATABASE, settled)
        self._report.old_events = self._replacement.old_events
        self._report.kept = self._replacement.kept
        return self._report


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
