"""The visits log: a text file with a line for each hit, each exactly once, whatever kills the process.

Appending to a file and recording how far we came are two writes, so there are three steps, in this order:

1. *intend*: record what is about to be appended, and where; synced.
2. *append*: add to the file what is not there yet; synced.
3. *confirm*: move the position and forget the intent. This needs no sync of its own: after a power cut that undid it,
   the intent is still there and is found to be fulfilled.

At the next start, or after a failure at the next `write`, an intent that was not confirmed goes through steps 2 and 3
again, which is safe at any point: what the file holds past the recorded length is a beginning of what was intended,
and only the rest is appended. Nothing is ever truncated or rewritten: somebody may be reading along.

What is recorded is described in `footfall.visit_log.state`. The queue is told with each confirmation where the
log ended, so a state that is lost, or older than the log, is made again: what the log holds after that place is held
against the batches after the position that came with it (`resume`).

A file is known by its inode and the bytes before the place, so that it is found under the name that a rotation gave it,
and no other file is taken for it. The device is not recorded, since its number can change with each boot.

What it does not do: find a log that was moved to another directory, or compressed, between a crash and the next start
(the intent then goes into the present file, whole, unless the queue was told that it was fulfilled); or guard a log
that is compressed the moment it was renamed, while lines may still be on their way into it (logrotate's `delaycompress`
is for that).
"""

import logging
import os
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from footfall.durable.files import READ_BY_GROUP, is_trusted, open_file, real_path
from footfall.durable.lock import FileLock, lock_open_file
from footfall.durable.sync import sync
from footfall.entry import Hit
from footfall.errors import DamagedFileError, FootfallError
from footfall.failpoint import Failpoint, reach
from footfall.queue.base import Batch, Progress, SinkReport
from footfall.queue.sink import LOST, UNREADABLE, VISIT_LOG, entries_of, missed_before
from footfall.visit_log.line import format_line
from footfall.visit_log.redaction import LineFormat
from footfall.visit_log.state import BEFORE_BYTES, FILE_NAME, End, Intent, VisitLogState

LOCK_NAME = "visit_log.lock"
"""In the state directory; held while a visits log is open."""

_ENOUGH_BYTES = 4 * 1024 * 1024
"""An intent that has reached this takes no further batch."""

_log = logging.getLogger(__name__)


class VisitLog:
    """The sink that appends lines (`footfall.visit_log.line`) to `path`.

    Events are skipped as `event`, hits without an address as `no_address`. A log that was renamed or deleted is made
    anew before the next lines; each line is in exactly one file.

    Args:
        path: the log; made when it is not there, its directory is not.
        state_dir: where the position is kept; a directory that is there.
        is_told: `resume` will be called, with what the queue knows. A broker knows nothing of a sink, so that where the
            log ends is told by the state alone.
        line_format: writes a hit's line (`footfall.visit_log.redaction`). If it has changed, and the state was lost at
            the same time, lines that the queue was not told of yet are not recognised, and are written again.

    Raises:
        AlreadyInUseError: another process holds the log, or the state; the text says which.
        DamagedFileError: the log or the state is not as Footfall left it.
        FootfallError: a file can't be made or opened; the text names the setting.
    """

    name = VISIT_LOG

    def __init__(
        self, path: Path, state_dir: Path, *, is_told: bool = True, line_format: LineFormat = format_line
    ) -> None:
        with _naming("storage.path", path):
            self._path = real_path(path)
        state_path = state_dir.resolve() / FILE_NAME
        self._line_format = line_format
        self._broken: DamagedFileError | None = None
        with ExitStack() as held:
            with _naming("storage.path", self._path):
                self._fd = _open_named(self._path)
                held.callback(lambda: os.close(self._fd))
            with _naming("data_dir", state_path):
                state_lock = state_path.with_name(LOCK_NAME)
                held.enter_context(FileLock(state_lock, purpose=f"the visits log's state {state_path}"))
                self._state = held.enter_context(closing(VisitLogState(state_path)))
            # A full disk is no reason not to start: hits are collected meanwhile, and `write` tries again.
            with suppress(OSError):
                intent = self._state.intent
                # Where its file is gone, the queue may know that the lines were in it (`resume`).
                if intent is not None and (not is_told or self._find(intent)):
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
            self._follow()  # another file may have been opened in the search
        else:
            self._finish()
        known = self._state.positions.get(source, Progress())
        if report is not None and report.mark and (self._state.end is None or report.sequence > known.sequence):
            _log.warning("%s is new, or older than the log; going on from what the queue was told", self._state.path)
            known = Progress(report.sequence, report.sequence, report.written, report.skipped)
            self._state.confirm({source: known}, End.parse(report.mark))
        intent = self._lost_intent(source, known, read)
        if intent is not None:
            _log.warning("%s holds lines that its state did not tell of", self._path)
            self._state.record(intent)
            self._finish()
        before = self._read_end()
        if self._state.end is None:
            status = os.fstat(self._fd)
            self._state.end = End.of(status.st_ino, status.st_size, before)

    def write(self, batches: Sequence[Batch]) -> None:
        if self._broken is not None:
            raise self._broken
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
        if self._state.end is None and self._state.intent is None and os.fstat(self._fd).st_size:
            raise DamagedFileError(
                f"The visits log {self._path} has lines, and {self._state.path} does not tell which: it is new, or was "
                "damaged. All that the broker keeps would be written again. Put the state back, or move the log to "
                "another directory: then all that the broker keeps goes into a new one."
            )

    # The steps.

    def _put(self, text: bytes, positions: dict[str, Progress]) -> None:
        self._intend(text, positions)
        self._finish()

    def _finish(self) -> None:
        """Bring the intent, if there is one, to its end, wherever it was left."""
        intent = self._state.intent
        if intent is None:
            return
        if not self._find(intent):
            # The file is gone, and its lines with it.
            intent = self._intend(intent.text, intent.positions)
        self._append(intent)
        end = End.of(intent.inode, intent.length + len(intent.text), intent.before + intent.text[-BEFORE_BYTES:])
        self._state.confirm(intent.positions, end)

    def _intend(self, text: bytes, positions: dict[str, Progress]) -> Intent:
        """Record durably what is to be appended to the file that has the log's name now."""
        self._follow()
        status = os.fstat(self._fd)
        intent = Intent(status.st_ino, status.st_size, self._read_end(), text, positions)
        self._state.record(intent)
        reach(Failpoint.VISIT_LOG_INTENDED)
        return intent

    def _append(self, intent: Intent) -> None:
        """Make the file hold the intended text, durably."""
        if not intent.text:
            return
        there = os.pread(self._fd, len(intent.text), intent.length)
        if not intent.text.startswith(there):
            raise DamagedFileError(
                f"The visits log {self._path} holds other lines from byte {intent.length} on than those that Footfall "
                "was writing there. Move it to another directory and start again: the lines go into a new log."
            )
        missing = memoryview(intent.text)[len(there) :]
        while missing:
            missing = missing[os.write(self._fd, missing) :]
        reach(Failpoint.VISIT_LOG_APPENDED)
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            # The kernel may have dropped what it could not write, so that another sync would prove nothing.
            self._broken = DamagedFileError(
                f"{self._path}: sync failed ({error.strerror}). Look at the disk and start again: "
                "Footfall will check the file."
            )
            raise self._broken from error
        reach(Failpoint.VISIT_LOG_SYNCED)

    # What a state that was lost had to tell.

    def _is_outlived(self, source: str, report: SinkReport | None) -> bool:
        """Whether the queue was told that the intent is fulfilled, and its file is gone since, compressed perhaps."""
        intent = self._state.intent
        if intent is None or report is None or not report.mark or source not in intent.positions:
            return False
        return report.sequence >= intent.positions[source].sequence and not self._find(intent)

    def _lost_intent(self, source: str, known: Progress, read: Callable[[int], Sequence[Batch]]) -> Intent | None:
        """The intent for the last batch after `known` that the log holds, in whole or in part; None if it has none."""
        found = None
        progress = known
        with ExitStack() as held:
            for fd, start in self._places_after_end(held):
                for text, after, offset in _texts_in(fd, start, progress, read, self._line_format):
                    progress = after
                    if text:
                        found = Intent(os.fstat(fd).st_ino, offset, _before(fd, offset), text, {source: progress})
        return found

    def _places_after_end(self, held: ExitStack) -> Iterator[tuple[int, int]]:
        """Where there are lines that were written after the last known end, in the order of writing."""
        end = self._state.end
        if end is None:
            return
        status = os.fstat(self._fd)
        for path in self._named(end.inode):
            fd = open_file(path, os.O_RDONLY)
            held.callback(os.close, fd)
            if zlib.crc32(_before(fd, end.length)) == end.digest:
                if os.fstat(fd).st_size > end.length:
                    yield fd, end.length
                if end.inode == status.st_ino:
                    return
                break
        if status.st_size:
            yield self._fd, 0

    # The log's file.

    def _follow(self) -> None:
        """Open the log anew when the open file has lost its name."""
        try:
            if os.path.samestat(self._path.lstat(), os.fstat(self._fd)):
                return
        except FileNotFoundError:
            pass
        self._exchange(_open_named(self._path))

    def _find(self, intent: Intent) -> bool:
        """Make the intent's file the open one, whatever it is called by now; whether it is there at all."""
        if _is_file_of(intent, self._fd):
            return True
        if os.fstat(self._fd).st_ino == intent.inode:
            return False
        for path in self._named(intent.inode):
            with suppress(FileNotFoundError):  # gone since it was listed
                self._exchange(_open(path, self._path))
                if _is_file_of(intent, self._fd):
                    return True
        return False

    def _named(self, inode: int) -> Iterator[Path]:
        """The files beside the log that have that inode."""
        for path in self._path.parent.iterdir():
            with suppress(FileNotFoundError):
                status = path.lstat()
                if status.st_ino == inode and stat.S_ISREG(status.st_mode) and is_trusted(path):
                    yield path

    def _exchange(self, fd: int) -> None:
        os.close(self._fd)
        self._fd = fd

    def _read_end(self) -> bytes:
        """The last bytes of the file.

        Raises:
            DamagedFileError: it ends within a line.
        """
        length = os.fstat(self._fd).st_size
        end = os.pread(self._fd, BEFORE_BYTES, max(0, length - BEFORE_BYTES))
        if end and not end.endswith(b"\n"):
            raise DamagedFileError(
                f"The visits log {self._path} ends within a line. If a storage with another data_dir was killed "
                "while writing it, start that one once, so that it ends the line; else move the file away."
            )
        return end


def _render(batch: Batch, before: Progress, line_format: LineFormat) -> tuple[bytes, Progress]:
    """The batch's lines, and where it leads from `before`."""
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


def _open_named(path: Path) -> int:
    """Open the log, made if need be; its name is safe on the disk before its first line is."""
    while True:
        fd = _open(path, path, os.O_CREAT)
        try:
            if os.path.samestat(path.lstat(), os.fstat(fd)):
                sync(path.parent)
                return fd
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # it was renamed before it was locked


def _open(path: Path, log: Path, flags: int = 0) -> int:
    """Open and lock a file of the log that is called `log`; the lock is on the file, and goes where that goes."""
    fd = open_file(path, os.O_RDWR | os.O_APPEND | flags, mode=READ_BY_GROUP)
    try:
        lock_open_file(fd, path, purpose=f"the visits log {log}")
        # After a failed sync the system's cache shows lines that the disk does not hold.
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _texts_in(
    fd: int, offset: int, progress: Progress, read: Callable[[int], Sequence[Batch]], line_format: LineFormat
) -> Iterator[tuple[bytes, Progress, int]]:
    """Each batch's text that a file holds from a place on, the last one perhaps in part; where it leads, and begins."""
    while batches := read(progress.sequence):
        for batch in batches:
            text, progress = _render(batch, progress, line_format)
            there = os.pread(fd, len(text), offset)
            if not text.startswith(there) or (text and not there):
                return
            yield text, progress, offset
            offset += len(there)


def _before(fd: int, offset: int) -> bytes:
    """The last bytes before a place in a file."""
    return os.pread(fd, min(offset, BEFORE_BYTES), max(0, offset - BEFORE_BYTES))


def _is_file_of(intent: Intent, fd: int) -> bool:
    """Whether it is the file that the intent was for, and still has a name.

    The inode alone would not tell: when a file is deleted, the next one made may get its number.
    """
    status = os.fstat(fd)
    before = os.pread(fd, len(intent.before), intent.length - len(intent.before))
    return status.st_ino == intent.inode and status.st_nlink > 0 and before == intent.before


@contextmanager
def _naming(setting: str, path: Path) -> Iterator[None]:
    """Say of which setting a file is that can't be had."""
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
