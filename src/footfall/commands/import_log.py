"""`footfall import`: sends an existing access log through the queue, each line as the hit that it once was.

Each line counts once, however often the import is interrupted or run, and in whatever file a line comes again. With a
batch the queue stores, in the same transaction, two things:

- how many bytes of the log are done, and their digest. The next run hashes the beginning of its file, and goes on
  behind a stored digest that fits: a log that has grown, was renamed or compressed.
- a digest of each line that is sent (`known_lines`). A line that is in already is passed over: one of a shorter copy,
  of a part, or of several logs in one.

An import does not follow a log that is still being written. Run it again for the lines that were added since.
"""

import copy
import hashlib
import time
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec
from msgspec import Struct, field

from footfall.commands.access_log import FORMATS, LogFormat, LogLine, MalformedLineError, parse_line, recognise
from footfall.commands.known_lines import KnownLines
from footfall.commands.logfile import MAX_LINE_BYTES, LogFile, ReadError, Skipped
from footfall.commands.own_host import own_host
from footfall.commands.page_requests import REASONS, why_no_page
from footfall.entry import MAX_SITE_ID, Hit, encode_entries
from footfall.errors import BadUsageError, QueueFullError
from footfall.failpoint import Failpoint, reach
from footfall.queue.local.imports import ImportedBatch, ImportMark
from footfall.queue.local.store import LocalQueue
from footfall.referrer import host_of

_TOO_LONG = f"longer than {MAX_LINE_BYTES} bytes"
_OTHER_HOST = "another virtual host"
AS_ASKED: Final = REASONS | {_OTHER_HOST}
"""Why lines are skipped that somebody asked to have left out; nothing is wrong with them."""
_BATCH_HITS = 1_000
_BATCH_BYTES = 512 * 1024
_PIECE_BYTES = 1 << 20
_LINES_A_TICK = 1_000
_FULL_WAIT_S = 0.2
_MAX_TARGET = 4_096
"""What is sent of a target: twice what is kept of a path, for the query is behind it."""

_AGAIN = ":again"
"""Marks the log of an `again` that is under way, so that a plain run brings it to its end."""
_HEAD_BYTES = 48
"""The part of a log that it is looked up by: shorter than any line that is sent, so it stays while the log grows."""


class ImportReport(Struct):
    """What became of a log's lines.

    Attributes:
        already: lines that earlier runs had dealt with.
        lines: lines that this run had to deal with; each is sent or skipped.
        sent: those that are in the queue as hits.
        skipped: those that are not, by reason.
        uncompared: those that are so old that it was forgotten whether they are in; they were sent.
        is_interrupted: `should_stop` said so. What came before is sent.
        error: why reading ended before the file did, or None. What came before is sent.
    """

    already: int = 0
    lines: int = 0
    sent: int = 0
    skipped: dict[str, Skipped] = field(default_factory=dict)
    uncompared: int = 0
    is_interrupted: bool = False
    error: str | None = None


class Layout(Struct, frozen=True):
    """What the first lines of a log tell.

    Attributes:
        format: what its lines hold.
        host: the host its pages are on, where its lines do not say; empty where it is unknown.
    """

    format: LogFormat
    host: str


def layout_of(log: LogFile) -> Layout | None:
    """Look at the first lines of `log`; None for one without a line.

    Raises:
        BadUsageError: its format is none that is understood.
    """
    try:
        lines = log.first_lines()
    except ReadError as error:
        raise BadUsageError(f"{log.path} can't be read: {error}.") from error
    if not any(line.strip() for line in lines):
        return None
    log_format = recognise(lines)
    if log_format is None:
        known = ", ".join(known.name for known in FORMATS)
        raise BadUsageError(f"{log.path} is in no format that is understood here. These are: {known}.")
    return Layout(log_format, "" if log_format.has_host else own_host(lines, log_format))


def import_log(
    log: LogFile,
    queue: LocalQueue,
    *,
    site_id: str,
    layout: Layout | None = None,
    hosts: Sequence[str] = (),
    only_pages: bool = False,
    again: bool = False,
    on_progress: Callable[[int], object] = lambda _: None,
    on_wait: Callable[[QueueFullError], object] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], object] = time.sleep,
) -> ImportReport:
    """Send the lines of `log` that no earlier run has sent. While the queue is full, wait.

    Args:
        log: just opened.
        queue: opened with a `max_bytes` well below that of the collectors, so that the import waits and hits find room.
        site_id: the site that every line counts for.
        layout: what `layout_of` said of it; looked for where it is None.
        hosts: of a log with virtual hosts, those that are wanted; of another, those that its pages are on. None of
            either where it is empty.
        only_pages: send only successful (2xx, 304) `GET`s of documents: paths without an extension, or with one that
            pages have, such as `.html` and `.php`. Feeds, downloads and robots.txt are none.
        again: send every line, also what was sent before.
        on_progress: called now and then with the bytes on disk that were consumed since the last call.
        on_wait: called with the reason when a batch finds the queue full.
        should_stop: asked before each line; what was read by then is sent.
        sleep: waits so many seconds.

    Raises:
        BadUsageError: `site_id` can't be one, or the log's format is not understood.
        AlreadyInUseError: another import for this site is under way.
        QueueBrokenError: whether the last batch was taken is unknown; the next run will know.
    """
    check_site_id(site_id)
    layout = layout or layout_of(log)
    if layout is None:
        return ImportReport()
    run = _Run(
        log,
        queue,
        layout,
        site_id=site_id,
        hosts=hosts,
        only_pages=only_pages,
        on_progress=on_progress,
        on_wait=on_wait,
        should_stop=should_stop,
        sleep=sleep,
    )
    return run.send(again=again)


def check_site_id(site_id: str) -> None:
    """Hold it to the limits of an event's; raises `BadUsageError`."""
    if not 1 <= len(site_id) <= MAX_SITE_ID:
        raise BadUsageError(f"A site id has 1 to {MAX_SITE_ID} characters, this one has {len(site_id)}.")
    if any(unicodedata.category(character) == "Cs" for character in site_id):  # from an argument in another encoding
        raise BadUsageError("The site id is not UTF-8.")


class _Cursor:
    """A place in a log, and the hash of everything before it."""

    def __init__(self) -> None:
        self.offset = 0
        self.line = 0
        self.is_in_line = False
        self.sha = hashlib.sha256()

    def take(self, content: bytes) -> None:
        """Move past `content`, which is not empty; the caller counts the lines."""
        self.sha.update(content)
        self.offset += len(content)
        self.is_in_line = not content.endswith(b"\n")

    def copy(self) -> "_Cursor":
        twin = copy.copy(self)
        twin.sha = self.sha.copy()
        return twin


class _Run:
    """One log on its way into the queue."""

    def __init__(
        self,
        log: LogFile,
        queue: LocalQueue,
        layout: Layout,
        *,
        site_id: str,
        hosts: Sequence[str],
        only_pages: bool,
        on_progress: Callable[[int], object],
        on_wait: Callable[[QueueFullError], object],
        should_stop: Callable[[], bool],
        sleep: Callable[[float], object],
    ) -> None:
        self._log = log
        self._queue = queue
        self._format = layout.format
        self._site_id = site_id
        self._hosts = [host.lower().removeprefix("www.") for host in hosts]
        self._own_hosts = [host.lower() for host in hosts] or [layout.host]
        self._only_pages = only_pages
        self._on_progress = on_progress
        self._on_wait = on_wait
        self._should_stop = should_stop
        self._sleep = sleep
        self._known = KnownLines(queue, hashlib.sha256(site_id.encode()).hexdigest())
        self._report = ImportReport()
        self._cursor = _Cursor()
        self._mark: ImportMark | None = None
        """What the queue has; the cursor is ahead of it by the lines of the next batch. None for standard input."""
        self._is_again = False
        self._again = ""
        self._hits: list[Hit] = []
        self._hit_bytes = 0
        self._consumed = 0

    def send(self, *, again: bool) -> ImportReport:
        try:
            self._is_again = again
            if self._log.can_seek:
                self._find_start(again=again)
            self._read_lines()
        except ReadError as error:
            self._report.error = f"{self._log.path} can't be read past line {self._cursor.line}: {error}"
        self._send_batch()
        if self._is_again and not (self._report.is_interrupted or self._report.error):
            self._queue.drop_import_marks(self._again)
        self._report.uncompared = self._known.too_old
        self._tick()
        return self._report

    def _find_start(self, *, again: bool) -> None:
        """Move past what earlier runs have done, and find the mark to move."""
        head = self._log.read(_HEAD_BYTES)
        wanted = (self._site_id, self._only_pages, head, *self._hosts)
        name = hashlib.sha256(msgspec.msgpack.encode(wanted)).hexdigest()
        self._again = f"{name}{_AGAIN}"
        if again:
            self._mark = ImportMark(self._again, 0, 0, 0, b"")
        else:
            self._is_again = self._resume(self._again)
            if not self._is_again:
                self._resume(name)
        self._report.already = self._cursor.line
        self._meet_last_lines(self._cursor.offset)
        self._log.seek(self._cursor.offset)
        self._tick()

    def _resume(self, name: str) -> bool:
        """Go behind what is done of the log; whether anything is, under that name."""
        marks = self._queue.import_marks(name)
        self._mark = ImportMark(name, len(marks), 0, 0, b"")
        cursor = _Cursor()
        self._log.seek(0)
        with suppress(ReadError):  # torn before a mark: it can't be the log of that mark
            for mark in sorted(marks, key=lambda mark: mark.offset):
                self._hash(cursor, mark.offset)
                if (mark.offset, mark.digest) == (cursor.offset, cursor.sha.digest()):
                    self._mark = mark
                    self._cursor = cursor.copy()
                    self._cursor.line = mark.line
        return self._cursor.offset > 0

    def _hash(self, cursor: _Cursor, end: int) -> None:
        while piece := self._log.read(min(end - cursor.offset, _PIECE_BYTES)):
            cursor.take(piece)

    def _meet_last_lines(self, end: int) -> None:
        """Those just before `end` are in; one behind it that is like one of them is another line."""
        start = max(0, end - _PIECE_BYTES)
        self._log.seek(start)
        lines = self._log.read(end - start).splitlines(keepends=True)
        for line in lines[1:] if start else lines:
            with suppress(MalformedLineError):
                request = parse_line(line, self._format)
                if self._why_not(request) is None:
                    self._known.meet(request.time_ns, request.text)

    def _read_lines(self) -> None:
        if self._cursor.is_in_line:  # the file ended here in an earlier run, which sent what there was of the line
            self._pass_line_end()
        while not self._stops() and (line := self._log.read_line()):
            is_whole = line.endswith(b"\n")
            if len(line) == MAX_LINE_BYTES and not is_whole:
                self._skip(_TOO_LONG)
                self._cursor.take(line)
                self._pass_line_end()
            else:
                reason = self._add(line)
                if reason is not None:
                    self._skip(reason)
                    if not is_whole:
                        break  # perhaps half-written: leave it for a later run
                self._cursor.take(line)
            self._cursor.line += 1
            if len(self._hits) == _BATCH_HITS or self._hit_bytes >= _BATCH_BYTES:
                self._send_batch()
            if self._cursor.line % _LINES_A_TICK == 0:
                self._tick()

    def _stops(self) -> bool:
        self._report.is_interrupted = self._should_stop()
        return self._report.is_interrupted

    def _pass_line_end(self) -> None:
        while self._cursor.is_in_line and (piece := self._log.read_line()):
            self._cursor.take(piece)

    def _add(self, line: bytes) -> str | None:
        """Put the line's hit into the next batch, unless it is in already; or return why there is none."""
        try:
            request = parse_line(line, self._format)
        except MalformedLineError as error:
            return error.reason
        if reason := self._why_not(request):
            return reason
        if self._known.take(request.time_ns, request.text) and not self._is_again:
            self._report.already += 1
            return None
        self._report.lines += 1
        target = request.target[:_MAX_TARGET].decode(errors="replace")
        self._hits.append(
            Hit(
                request.time_ns,
                request.address,
                request.referrer,
                request.user_agent,
                self._site_id,
                target,
                host=request.host or self._own_host(request.referrer),
            )
        )
        self._hit_bytes += len(line)
        return None

    def _why_not(self, request: LogLine) -> str | None:
        """Why a line is not wanted, or None."""
        if self._format.has_host and self._hosts and request.host.removeprefix("www.") not in self._hosts:
            return _OTHER_HOST
        return why_no_page(request) if self._only_pages else None

    def _own_host(self, referrer: bytes) -> str:
        """The host of the page that was viewed: that of the page before, if it is the site's, too."""
        before = host_of(referrer)
        bare = before.removeprefix("www.")
        is_own = any(bare == host.removeprefix("www.") or before.endswith(f".{host}") for host in self._own_hosts)
        return before if is_own and before else self._own_hosts[0]

    def _skip(self, reason: str) -> None:
        self._report.lines += 1
        self._report.skipped.setdefault(reason, Skipped()).add(self._cursor.line + 1)

    def _send_batch(self) -> None:
        if not self._hits:
            return
        cursor = self._cursor
        if self._mark is not None:
            self._mark = ImportMark(self._mark.log, self._mark.number, cursor.offset, cursor.line, cursor.sha.digest())
        self._append(encode_entries(self._hits), self._known.batch(self._mark))
        self._known.added()
        self._report.sent += len(self._hits)
        self._hits = []
        self._hit_bytes = 0

    def _append(self, payload: bytes, imported: ImportedBatch) -> None:
        is_first = True
        while True:
            try:
                self._queue.append(payload, len(self._hits), imported=imported)
            except QueueFullError as error:
                if is_first:
                    self._on_wait(error)
                    is_first = False
                self._sleep(_FULL_WAIT_S)
            else:
                reach(Failpoint.IMPORT_SENT)
                return

    def _tick(self) -> None:
        consumed = self._log.consumed()
        if consumed > self._consumed:
            self._on_progress(consumed - self._consumed)
            self._consumed = consumed
