"""The writer of the visits log: it appends a line for each hit, each exactly once, whatever kills the process.

Appending to a file and recording the position are two writes, so there are three steps, in this order:

1. *intend*: record what will be appended, and where; synced.
2. *append*: append what the file does not hold yet; synced.
3. *confirm*: move the position and forget the intent. This needs no sync of its own: if a power cut undoes it, the
   intent is still there, and the file turns out to hold its text.

An intent that was not confirmed goes through steps 2 and 3 again, at the next start or, after a failure, at the next
`write`. That is safe at any point: what the file holds past the recorded length is the beginning of the intended text,
and only the rest is appended. Nothing is ever truncated or rewritten, because somebody may be reading the file.

`footfall.visit_log.state` describes what is recorded. With each confirmation the queue learns where the log ended. So a
state that is lost, or older than the log, is restored (`resume`): what the log holds after that place is compared with
the batches that follow the position.

What it does not do: find a log that was moved to another directory, or compressed, between a crash and the next start.
The whole intent then goes into the present file, unless the queue knows that it was fulfilled. Nor does it guard a log
that is compressed as soon as it is renamed, while lines may still be on their way into it; logrotate's `delaycompress`
does that.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from footfall.durable.lock import FileLock
from footfall.entry import Hit
from footfall.errors import DamagedFileError, FootfallError
from footfall.failpoint import Failpoint, reach
from footfall.queue.base import Batch, Progress, SinkReport
from footfall.queue.sink import LOST, UNREADABLE, VISIT_LOG, entries_of, missed_before
from footfall.visit_log.file import VisitLogFile, bytes_before
from footfall.visit_log.line import format_line
from footfall.visit_log.redaction import LINE_FORMATS, LineFormat
from footfall.visit_log.state import BEFORE_BYTES, FILE_NAME, End, Intent, VisitLogState

LOCK_NAME: Final = "visit_log.lock"
"""In the state directory; held while a visits log is open."""

_ENOUGH_BYTES: Final = 4 * 1024 * 1024
"""An intent of this size takes no further batch."""

_log = logging.getLogger(__name__)


class VisitLog:
    """The sink that appends lines (`footfall.visit_log.line`) to a log.

    It skips events as `event`, and hits without an address as `no_address`. After the log was renamed or deleted, it
    makes a new one before the next lines. Each line is in exactly one file.

    Args:
        path: the log; it is made if it is not there, but its directory must exist.
        state_dir: the directory that keeps the position; it must exist.
        is_told: the queue knows where the log ended, and tells it by `resume`. A broker doesn't, so that only the state
            knows.
        line_format: writes a hit's line (`footfall.visit_log.redaction`).

    Raises:
        AlreadyInUseError: another process uses the log or the state; the text says which.
        DamagedFileError: the log or the state is not as Footfall left it.
        FootfallError: a file can't be made or opened; the text names the setting.
    """

    name = VISIT_LOG

    def __init__(
        self, path: Path, state_dir: Path, *, is_told: bool = True, line_format: LineFormat = format_line
    ) -> None:
        state_path = state_dir.resolve() / FILE_NAME
        self._line_format = line_format
        with ExitStack() as held:
            with _naming("storage.path", path):
                self._file = held.enter_context(closing(VisitLogFile(path)))
            with _naming("data_dir", state_path):
                state_lock = state_path.with_name(LOCK_NAME)
                held.enter_context(FileLock(state_lock, purpose=f"the visits log's state {state_path}"))
                self._state = held.enter_context(closing(VisitLogState(state_path)))
            # A full disk doesn't prevent a start: hits are collected meanwhile, and `write` tries again.
            with suppress(OSError):
                intent = self._state.intent
                # If its file is gone, the queue may know that the lines were in it (`resume`).
                if intent is not None and (not is_told or self._file.find(intent)):
                    self._finish()
            if not is_told:
                self._demand_state()
            self._held = held.pop_all()

    # What a consumer calls.

    def progress(self) -> Mapping[str, Progress]:
        return self._state.positions

    def mark(self) -> str:
        return "" if self._state.end is None else str(self._state.end)

    def resume(self, source: str, report: SinkReport | None, read: Callable[[int], Sequence[Batch]]) -> None:
        if self._is_outlived(source, report):
            self._file.follow()  # another file may have been opened in the search
        else:
            self._finish()
        known = self._state.positions.get(source, Progress())
        if report is not None and report.mark and (self._state.end is None or report.sequence > known.sequence):
            if report.sequence > known.sequence:  # else nothing has been written yet, and so nothing was noted
                _log.warning("%s is new, or older than the log; using what the queue knows", self._state.path)
            known = Progress(report.sequence, report.sequence, report.written, report.skipped)
            self._state.confirm({source: known}, End.parse(report.mark))
        intent = self._lost_intent(source, known, read)
        if intent is not None:
            _log.warning("%s holds lines that its state does not know; taking them over", self._file.path)
            self._state.record(intent)
            self._finish()
        before = self._file.last_bytes()
        if self._state.end is None:
            self._state.end = End.of(self._file.inode, self._file.size, before)

    def write(self, batches: Sequence[Batch]) -> None:
        self._file.check()
        self._finish()
        reached = dict(self._state.positions)
        texts: list[bytes] = []
        moved: dict[str, Progress] = {}
        size = 0
        for batch in batches:
            before = reached.get(batch.source, Progress())
            if batch.sequence <= before.sequence:
                continue
            text, after = _render(batch, before, self._line_format)
            reached[batch.source] = moved[batch.source] = after
            texts.append(text)
            size += len(text)
            if size >= _ENOUGH_BYTES:
                self._put(b"".join(texts), moved)
                texts, moved, size = [], {}, 0
        if moved:
            self._put(b"".join(texts), moved)

    def close(self) -> None:
        self._held.close()

    def _demand_state(self) -> None:
        if self._state.end is None and self._state.intent is None and self._file.size:
            raise DamagedFileError(
                f"The visits log {self._file.path} has lines, and {self._state.path} does not tell which: it is new or "
                "was damaged. All that the broker keeps would be written again. Put the state back, or move the log to "
                "another directory: then all that the broker keeps goes into a new one."
            )

    # The three steps.

    def _put(self, text: bytes, positions: dict[str, Progress]) -> None:
        self._intend(text, positions)
        self._finish()

    def _finish(self) -> None:
        """Fulfil the intent, if there is one, from wherever it was left."""
        intent = self._state.intent
        if intent is None:
            return
        if not self._file.find(intent):
            # The file is gone, and so are the lines in it.
            intent = self._intend(intent.text, intent.positions)
        self._file.append(intent)
        end = End.of(intent.inode, intent.length + len(intent.text), intent.before + intent.text[-BEFORE_BYTES:])
        self._state.confirm(intent.positions, end)

    def _intend(self, text: bytes, positions: dict[str, Progress]) -> Intent:
        """Record durably what will be appended to the file that has the log's name now."""
        self._file.follow()
        intent = Intent(self._file.inode, self._file.size, self._file.last_bytes(), text, positions)
        self._state.record(intent)
        reach(Failpoint.VISIT_LOG_INTENDED)
        return intent

    # Restoring a state that was lost.

    def _is_outlived(self, source: str, report: SinkReport | None) -> bool:
        """Whether the queue knows that the intent was fulfilled, and its file is gone since, perhaps compressed."""
        intent = self._state.intent
        if intent is None or report is None or not report.mark or source not in intent.positions:
            return False
        return report.sequence >= intent.positions[source].sequence and not self._file.find(intent)

    def _lost_intent(self, source: str, known: Progress, read: Callable[[int], Sequence[Batch]]) -> Intent | None:
        """The intent of the last batch after `known` that has lines in the log, perhaps not all; None if none has."""
        found = None
        progress = known
        with ExitStack() as held:
            places = () if self._state.end is None else self._file.places_after(self._state.end, held)
            for fd, start in places:
                for text, after, offset in _texts_in(fd, start, progress, read, self._line_format):
                    progress = after
                    if text:
                        found = Intent(os.fstat(fd).st_ino, offset, bytes_before(fd, offset), text, {source: progress})
        return found


def _render(batch: Batch, before: Progress, line_format: LineFormat) -> tuple[bytes, Progress]:
    """The lines of a batch, and the progress after it."""
    entries = entries_of(batch)
    lines = []
    skipped = dict(before.skipped)
    if missed := missed_before(batch, before):
        skipped[LOST] = skipped.get(LOST, 0) + missed
    if entries is None:
        skipped[UNREADABLE] = skipped.get(UNREADABLE, 0) + batch.count
    for entry in entries or ():
        if not isinstance(entry, Hit):
            skipped["event"] = skipped.get("event", 0) + 1
        elif not entry.address:
            skipped["no_address"] = skipped.get("no_address", 0) + 1
        else:
            lines.append(line_format(entry.received_ns, entry.referrer, entry.user_agent, entry.address))
    lines.append("")
    after = Progress(batch.sequence, batch.sequence, before.written + len(lines) - 1, skipped)
    return "\n".join(lines).encode(), after


def _texts_in(
    fd: int, offset: int, progress: Progress, read: Callable[[int], Sequence[Batch]], line_format: LineFormat
) -> Iterator[tuple[bytes, Progress, int]]:
    """The batches whose text a file holds from a place on: the text, the progress after it, and where it begins.

    Of the last one the file may hold a part only.
    """
    while batches := read(progress.sequence):
        for batch in batches:
            for one in (line_format, *LINE_FORMATS):  # the setting may have been another then
                text, after = _render(batch, progress, one)
                there = os.pread(fd, len(text), offset)
                if text.startswith(there) and (there or not text):
                    break
            else:
                return
            yield text, after, offset
            progress, offset = after, offset + len(there)


@contextmanager
def _naming(setting: str, path: Path) -> Iterator[None]:
    """Name the setting of a file that can't be used."""
    try:
        yield
    except FileNotFoundError as error:
        raise FootfallError(
            f"{path.parent} is not there: make this directory, or choose another place ({setting})."
        ) from error
    except OSError as error:
        raise FootfallError(
            f"{error.filename or path} can't be used: {error.strerror or error} ({setting})."
        ) from error
