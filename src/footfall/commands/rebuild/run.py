"""A new database is made, by the present rules, of all that there is: nothing that the old one has is left out.

1. **The old database**, or the one or the export that is named in its place (`contents`): every event, by the present
   rules, with the positions, event ids and salts. It is left out only where it is gone or can't be read.
2. **The queue**: the batches behind the position that came with the first source, so none counts twice.
3. **The visits log**, if the ledger says that something is missing then, or if it is asked for. It has the hits alone,
   and does not tell what the query of a hit said (site, path, user), so their site and page are those of their
   referrer. A line whose hit is in the new database already is left out (`known_hits`).

The same sink writes the new database, which takes the old one's place at the end (`replacement`). Where a site has
fewer events on a day than it had (`difference`), that takes an order.

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

from footfall.commands.export import count_events
from footfall.commands.logfile import LogFile, ReadError, Skipped
from footfall.commands.rebuild.account import NOT_REBUILT, settle
from footfall.commands.rebuild.difference import DayCount, difference
from footfall.commands.rebuild.holdings import DuckdbHoldings, Holdings, Salt, events_by_day, opened
from footfall.commands.rebuild.known_hits import KnownHits
from footfall.commands.rebuild.logs import count_logged, hit_of, lines_in
from footfall.commands.rebuild.replacement import Replacement
from footfall.database.duckdb.removal import note, remove_erased
from footfall.database.duckdb.writer import CHECKPOINT_ROWS, DuckdbSink
from footfall.database.erasure import LOG_SOURCE, ErasureFile
from footfall.database.geo import FindPlace, nowhere
from footfall.database.schema import NAMES
from footfall.entry import Hit, encode_entries
from footfall.errors import BadUsageError, FootfallError, QueueBrokenError, QueueFullError
from footfall.failpoint import Failpoint, reach
from footfall.queue.base import Batch, Progress
from footfall.queue.local.store import LocalQueue
from footfall.queue.sink import DATABASE, LOST, UNREADABLE, VISIT_LOG
from footfall.settings import DatabaseSettings

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
        from_first: events from the old database, or from what was named in its place.
        from_batches: those from the queue's batches.
        from_log: those from the visits log.
        skipped: lines of the log that have no place in the database, by reason.
        malformed: lines that are none, by file.
        sites: the sites with the most events from the log, with how many.
        not_rebuilt: entries of the queue that could not be brought back.
        erased_lines: lines of the log from before an erasure; they may be of those whom it names.
    """

    events: int = 0
    old_events: int | None = None
    kept: Path | None = None
    from_first: int = 0
    from_batches: int = 0
    from_log: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    malformed: dict[Path, Skipped] = field(default_factory=dict)
    sites: list[tuple[str, int]] = field(default_factory=list)
    not_rebuilt: int = 0
    erased_lines: int = 0


class Logs(Struct, frozen=True):
    """The visits logs of a rebuild.

    Attributes:
        files: opened before the rebuild begins. What is appended to them from then on is in the queue's batches.
        sites: by the host in its referrer, the site that a hit of the logs counts for, where it is not that host.
        are_wanted: read them even if the ledger says that nothing is missing.
    """

    files: Sequence[LogFile] = ()
    sites: Mapping[str, str] = {}
    are_wanted: bool = False


NO_LOGS: Final = Logs()


def rebuild(
    path: Path,
    queue: LocalQueue | None,
    *,
    first: Holdings | None = None,
    logs: Logs = NO_LOGS,
    settings: DatabaseSettings = DatabaseSettings(),
    erasures: ErasureFile | None = None,
    find_place: FindPlace = nowhere,
    may_have_fewer: bool = False,
    on_progress: OnProgress = lambda _: None,
) -> RebuildReport:
    """Make the database anew.

    Args:
        path: the database; the caller holds its lock.
        queue: what the database is filled from; None behind a broker.
        first: takes the place of the old database as the first source.
        logs: the visits logs.
        settings: what rows hold.
        erasures: those that were ordered in this `data_dir`.
        find_place: tells where an address is.
        may_have_fewer: put the new database in place even if a site has fewer events on some day.
        on_progress: see `OnProgress`.

    Raises:
        FootfallError: it can't be done; the text says why. The old database is as it was.
    """
    made = _Rebuild(path, queue, settings=settings, erasures=erasures, find_place=find_place, on_progress=on_progress)
    return made.run(first, logs, may_have_fewer=may_have_fewer)


class _Rebuild:
    """One database on its way to being replaced."""

    def __init__(
        self,
        path: Path,
        queue: LocalQueue | None,
        *,
        settings: DatabaseSettings,
        erasures: ErasureFile | None,
        find_place: FindPlace,
        on_progress: OnProgress,
    ) -> None:
        self._path = path
        self._queue = queue
        self._settings = settings
        self._find_place = find_place
        self._on_progress = on_progress
        self._erasures = {erasure.id: erasure for erasure in (erasures.read() if erasures else ())}
        self._report = RebuildReport()

    def run(self, first: Holdings | None, logs: Logs, *, may_have_fewer: bool) -> RebuildReport:
        replacement = Replacement(self._path)
        settled = None
        with replacement.made() as new, opened(self._path) as old:
            if self._queue is not None:
                _hold_batches(self._queue)
            if (source := first or old) is not None:
                self._take_contents(new, source, source.salts() or (old.salts() if old else []))
            elif self._queue is None:
                raise BadUsageError(
                    f"There is no database at {self._path} that can be read, and behind a broker (queue.url) only an "
                    "export can take its place: footfall rebuild --events FILE. Or move the database away and start "
                    "the processor: it reads again what the broker still has."
                )
            self._erase(new, source, old)
            self._report.from_first = count_events(new)
            if self._queue is not None:
                settled = self._take_rest(new, self._queue, logs, is_first=source is None)
            self._report.events = count_events(new)
            if old is not None:
                self._report.old_events = old.events
                not_done = [erasure for key, erasure in self._erasures.items() if key not in old.erasures()]
                _refuse_fewer(old.events_by_day(not_done), new, may_have_fewer=may_have_fewer)
        if self._queue is not None and settled is not None:
            # What does not get through now the processor reports at its start.
            with suppress(QueueFullError, QueueBrokenError):
                self._queue.report(DATABASE, settled)
        self._report.kept = replacement.kept
        return self._report

    def _erase(self, new: duckdb.DuckDBPyConnection, source: Holdings | None, old: Holdings | None) -> None:
        """Let all erasures that are known hold for the new database, and remove what they name and it still has."""
        done = source.erasures() if source else {}
        self._erasures |= (old.erasures() if old else {}) | done
        for key, erasure in self._erasures.items():
            # What was named in place of the old database may have been received after the erasure.
            until = None if source is old else erasure.made_at
            is_last = False
            while not is_last:
                new.begin()
                if is_last := key in done:
                    note(new, erasure)
                else:
                    is_last = remove_erased(new, erasure, until=until)
                new.commit()

    def _take_contents(self, new: duckdb.DuckDBPyConnection, contents: Holdings, salts: Sequence[Salt]) -> None:
        for ids in _chunks(contents.event_ids(), _CHUNK_ROWS):
            with new.appender("event_ids") as event_ids:
                event_ids.append_rows([(key, *seen) for key, seen in ids])
        consumed = uncovered = 0
        for rows in _chunks(contents.rows(self._settings), _CHUNK_ROWS):
            with new.appender("events", columns=list(NAMES)) as events:
                events.append_rows(rows)
            uncovered += len(rows)
            if uncovered >= CHECKPOINT_ROWS:
                new.execute("CHECKPOINT")
                uncovered = 0
            self._on_progress(contents.consumed() - consumed)
            consumed = contents.consumed()
        with new.appender("salts") as rows_of_salts:
            rows_of_salts.append_rows(salts)
        _put_positions(new, contents.progress())
        reach(Failpoint.REBUILD_TAKEN_OVER)

    def _take_rest(self, new: duckdb.DuckDBPyConnection, queue: LocalQueue, logs: Logs, *, is_first: bool) -> Progress:
        """Take what the first source has not from the queue and the logs; return the account of the queue.

        Args:
            new: the new database.
            queue: as for `rebuild`.
            logs: as for `rebuild`.
            is_first: there was no other source.
        """
        known = _positions(new)
        lost = known.get(queue.source, Progress()).skipped.get(LOST, 0)
        with closing(DuckdbSink(new, settings=self._settings, find_place=self._find_place)) as sink:
            older = self._take_batches(sink, queue)
            self._report.from_batches = count_events(new) - self._report.from_first
            _note_sites(new)
            if is_first or logs.are_wanted or _is_missing(sink.progress().get(queue.source, Progress())):
                with closing(KnownHits()) as hits:
                    hits.add(new)
                    for log in logs.files:
                        self._take_log(sink, log, hits, logs.sites)
            before = self._report.from_first + self._report.from_batches
            self._report.from_log = count_events(new) - before
            self._report.sites = _sites_since(new)
            return self._settle(new, queue, sink.progress(), known.get(LOG_SOURCE, Progress()), older=older, lost=lost)

    def _take_batches(self, sink: DuckdbSink, queue: LocalQueue) -> int:
        """Write the batches behind the sink's position.

        Returns:
            how many lines the log has of this queue's batches that are older than these.
        """
        reports = queue.sink_reports()
        position = sink.progress().get(queue.source, Progress()).sequence
        last = queue.last_sequence()  # a running collector must not keep this going for ever
        older, logged = (reports[VISIT_LOG].written, reports[VISIT_LOG].sequence) if VISIT_LOG in reports else (0, 0)
        while position < last and (batches := queue.read(position)):
            sink.write(batches)
            for batch in batches:
                older -= count_logged(batch) if batch.sequence <= logged else 0
                self._on_progress(len(batch.payload))
            position = batches[-1].sequence
        return max(0, older)

    def _take_log(self, sink: DuckdbSink, log: LogFile, known: KnownHits, sites: Mapping[str, str]) -> None:
        """Write the hits of a visits log, without those that are known."""
        # A line does not tell whose it is.
        named = [erasure.made_us for erasure in self._erasures.values() if erasure.needs_names]
        erased_until_ns = 1_000 * max(named) if named else None
        hits: list[Hit] = []
        number = consumed = 0
        try:
            for number, line in enumerate(lines_in(log), 1):
                hit = hit_of(line, sites)
                if hit is None:
                    self._report.malformed.setdefault(log.path, Skipped()).add(number)
                elif erased_until_ns is not None and hit.received_ns <= erased_until_ns:
                    self._report.erased_lines += 1
                elif not known.take(hit):
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

    def _settle(
        self,
        new: duckdb.DuckDBPyConnection,
        queue: LocalQueue,
        progress: Mapping[str, Progress],
        logged_before: Progress,
        *,
        older: int,
        lost: int,
    ) -> Progress:
        """Write the account into the new database, and return that of the queue; the rest is as in `settle`."""
        own, log = progress.get(queue.source, Progress()), progress.get(LOG_SOURCE, Progress())
        log = _since(log, logged_before)
        settled, beyond = settle(own, log, received=queue.received_until(own.sequence), older=older, lost=lost)
        positions = {**progress, queue.source: settled}
        if written := logged_before.written + beyond.written:
            positions[LOG_SOURCE] = Progress(beyond.sequence, written=written)
        else:
            positions.pop(LOG_SOURCE, None)
        _put_positions(new, positions)
        self._report.skipped = log.skipped
        self._report.not_rebuilt = settled.skipped.get(NOT_REBUILT, 0)
        return settled


def _is_missing(progress: Progress) -> bool:
    """Whether something is not in the database that the visits log may have."""
    return any(progress.skipped.get(reason) for reason in (LOST, UNREADABLE, NOT_REBUILT))


def _since(log: Progress, before: Progress) -> Progress:
    """What became of the lines that were taken now."""
    skipped = {reason: count - before.skipped.get(reason, 0) for reason, count in log.skipped.items()}
    return Progress(log.sequence, written=log.written - before.written, skipped=skipped)


def _hold_batches(queue: LocalQueue) -> None:
    """Let the queue drop nothing until the new database has it, whatever the old one had."""
    report = queue.sink_reports().get(DATABASE)
    if report is not None:
        unsafe = Progress(report.sequence, 0, report.written, report.skipped)
        queue.report(DATABASE, unsafe, "is being rebuilt")


def _refuse_fewer(before: Iterator[DayCount], new: duckdb.DuckDBPyConnection, *, may_have_fewer: bool) -> None:
    found = difference(before, events_by_day(new))
    if found.days and not may_have_fewer:
        summary = (
            f"The new database would have fewer events than the old one on {found.days:,} days of its sites, "
            f"{found.missing:,} in all. The old one is as it was. To replace it all the same, add --allow-fewer."
        )
        raise FootfallError("\n".join([summary, *found.lines()]))


def _write_hits(sink: DuckdbSink, hits: Sequence[Hit]) -> None:
    if hits:
        sequence = sink.progress().get(LOG_SOURCE, Progress()).sequence + 1
        sink.write([Batch(LOG_SOURCE, sequence, 0, len(hits), encode_entries(hits))])


def _note_sites(new: duckdb.DuckDBPyConnection) -> None:
    """Remember how many events each site has, for `_sites_since`; a database may have a great many sites."""
    new.execute("CREATE TEMP TABLE noted AS SELECT site_id, count(*) AS events FROM events GROUP BY site_id")


def _sites_since(new: duckdb.DuckDBPyConnection) -> list[tuple[str, int]]:
    """The sites that have the most events more than were noted, and how many more each has."""
    return new.execute(
        "SELECT site_id, count(*) - coalesce(any_value(noted.events), 0) AS more FROM events "
        "LEFT JOIN noted USING (site_id) GROUP BY site_id HAVING more > 0 ORDER BY more DESC, site_id LIMIT ?",
        [_SHOWN_SITES],
    ).fetchall()


def _positions(new: duckdb.DuckDBPyConnection) -> dict[str, Progress]:
    return DuckdbHoldings(new).progress()


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
