"""`footfall import`: sends an existing access log through the queue, each line as the hit that it once was.

Each line counts once, however often the import is interrupted or repeated. With each batch, in the same transaction,
the queue stores how many bytes of the log are done, and a digest of them. The next run hashes the beginning of its file
and continues after the longest part whose digest is stored. So a log that has grown, or was renamed or compressed, is
recognised, and no other log is mistaken for it. This is remembered for each site, with and without `only_pages`.

An import does not follow a log that is still being written. Run it again for the lines that were added since.
"""

import copy
import hashlib
import re
import time
import unicodedata
from collections.abc import Callable
from contextlib import suppress

import msgspec
from msgspec import Struct, field

from footfall.commands.access_log import LogLine, MalformedLineError, parse_line
from footfall.commands.logfile import MAX_LINE_BYTES, LogFile, ReadError, Skipped
from footfall.entry import MAX_SITE_ID, Hit, encode_entries
from footfall.errors import BadUsageError, QueueFullError
from footfall.failpoint import Failpoint, reach
from footfall.queue.local.store import ImportMark, LocalQueue

_TOO_LONG = f"longer than {MAX_LINE_BYTES} bytes"
_BATCH_HITS = 1_000
_BATCH_BYTES = 512 * 1024
_PIECE_BYTES = 1 << 20
_LINES_A_TICK = 1_000
_FULL_WAIT_S = 0.2

_HEAD_BYTES = 48
"""The part of a log that it is looked up by: shorter than any line that is sent, so it stays while the log grows."""

_PAGE_EXTENSIONS = {"asp", "aspx", "cfm", "cgi", "htm", "html", "jsp", "jspx", "md", "php", "shtml", "xhtml"}
_EXTENSION = re.compile(r"\.([0-9A-Za-z]*[A-Za-z][0-9A-Za-z]*)\Z")
"""The end of a path that names a format; digits alone do not, as in `/releases/1.2`."""


class ImportReport(Struct):
    """What became of a log's lines.

    Attributes:
        already: lines that earlier runs had sent or skipped.
        lines: lines that this run has read; each was sent or skipped.
        sent: lines that are in the queue as hits.
        skipped: lines that are not, by reason.
        error: why reading stopped before the end of the file, or None. What came before it was sent.
    """

    already: int = 0
    lines: int = 0
    sent: int = 0
    skipped: dict[str, Skipped] = field(default_factory=dict)
    error: str | None = None


def import_log(
    log: LogFile,
    queue: LocalQueue,
    *,
    site_id: str,
    only_pages: bool = False,
    again: bool = False,
    on_progress: Callable[[int], object] = lambda _: None,
    on_wait: Callable[[QueueFullError], object] = lambda _: None,
    sleep: Callable[[float], object] = time.sleep,
) -> ImportReport:
    """Send the lines of `log` that no earlier run has sent. While the queue is full, wait.

    Args:
        log: just opened.
        queue: opened with a `max_bytes` well below that of the collectors, so that the import waits and hits find room.
        site_id: the site that every line counts for.
        only_pages: send only successful (2xx, 304) `GET`s of documents: paths without an extension, or with one that
            pages have, such as `.html` and `.php`. Feeds, downloads and robots.txt are not documents.
        again: send every line, including those that were sent before.
        on_progress: called now and then with the number of bytes on disk that were read since the last call.
        on_wait: called with the reason when the queue is full.
        sleep: waits that many seconds.

    Raises:
        BadUsageError: `site_id` is not a possible site id.
        AlreadyInUseError: another import of this log is running.
        QueueBrokenError: it is unknown whether the last batch was taken; the next run will find out.
    """
    if not 1 <= len(site_id) <= MAX_SITE_ID:
        raise BadUsageError(f"A site id has 1 to {MAX_SITE_ID} characters, this one has {len(site_id)}.")
    if any(unicodedata.category(character) == "Cs" for character in site_id):  # from an argument in another encoding
        raise BadUsageError("The site id is not UTF-8.")
    run = _Run(
        log, queue, site_id=site_id, only_pages=only_pages, on_progress=on_progress, on_wait=on_wait, sleep=sleep
    )
    return run.send(again=again)


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
        *,
        site_id: str,
        only_pages: bool,
        on_progress: Callable[[int], object],
        on_wait: Callable[[QueueFullError], object],
        sleep: Callable[[float], object],
    ) -> None:
        self._log = log
        self._queue = queue
        self._site_id = site_id
        self._only_pages = only_pages
        self._on_progress = on_progress
        self._on_wait = on_wait
        self._sleep = sleep
        self._report = ImportReport()
        self._cursor = _Cursor()
        self._mark: ImportMark
        """How far the queue is; the cursor is ahead of it by the lines of the next batch."""
        self._hits: list[Hit] = []
        self._hit_bytes = 0
        self._consumed = 0

    def send(self, *, again: bool) -> ImportReport:
        try:
            self._find_start(again=again)
            self._read_lines()
        except ReadError as error:
            self._report.error = f"{self._log.path} can't be read past line {self._cursor.line}: {error}"
        self._send_batch()
        self._tick()
        return self._report

    def _find_start(self, *, again: bool) -> None:
        """Move past what earlier runs have done, and find the mark to move."""
        head = self._log.read(_HEAD_BYTES)
        name = hashlib.sha256(msgspec.msgpack.encode((self._site_id, self._only_pages, head))).hexdigest()
        marks = self._queue.import_marks(name)
        self._mark = ImportMark(name, len(marks), 0, 0, b"")
        self._log.seek(0)
        cursor = _Cursor()
        with suppress(ReadError):  # it ends before the mark, so the mark is of another log
            for mark in sorted(marks, key=lambda mark: mark.offset):
                self._hash(cursor, mark.offset)
                if (mark.offset, mark.digest) == (cursor.offset, cursor.sha.digest()):
                    self._mark = mark
                    self._cursor = cursor.copy()
                    self._cursor.line = mark.line
        if again:
            self._cursor = _Cursor()
        self._report.already = self._cursor.line
        self._log.seek(self._cursor.offset)
        self._tick()

    def _hash(self, cursor: _Cursor, end: int) -> None:
        while piece := self._log.read(min(end - cursor.offset, _PIECE_BYTES)):
            cursor.take(piece)

    def _read_lines(self) -> None:
        if self._cursor.is_in_line:  # the file ended here in an earlier run, which sent what there was of the line
            self._pass_line_end()
        while line := self._log.read_line():
            is_whole = line.endswith(b"\n")
            self._report.lines += 1
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

    def _pass_line_end(self) -> None:
        while self._cursor.is_in_line and (piece := self._log.read_line()):
            self._cursor.take(piece)

    def _add(self, line: bytes) -> str | None:
        """Add the line's hit to the next batch, or return why it is skipped."""
        try:
            request = parse_line(line)
        except MalformedLineError as error:
            return error.reason
        if self._only_pages and (reason := _why_no_page(request)):
            return reason
        self._hits.append(
            Hit(
                request.time_ns,
                request.address,
                request.referrer,
                request.user_agent,
                self._site_id,
                request.path,
                host="",
            )
        )
        self._hit_bytes += len(line)
        return None

    def _skip(self, reason: str) -> None:
        self._report.skipped.setdefault(reason, Skipped()).add(self._cursor.line + 1)

    def _send_batch(self) -> None:
        if not self._hits:
            return
        cursor = self._cursor
        mark = ImportMark(self._mark.log, self._mark.number, cursor.offset, cursor.line, cursor.sha.digest())
        self._append(encode_entries(self._hits), (self._mark, mark))
        self._mark = mark
        self._report.sent += len(self._hits)
        self._hits = []
        self._hit_bytes = 0

    def _append(self, payload: bytes, moved: tuple[ImportMark, ImportMark]) -> None:
        is_first = True
        while True:
            try:
                self._queue.append(payload, len(self._hits), moved=moved)
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


def _why_no_page(request: LogLine) -> str | None:
    if request.method != "GET":
        return "not a GET"
    if not (200 <= request.status < 300 or request.status == 304):
        return "not successful"
    extension = _EXTENSION.search(request.path)
    if extension and extension[1].lower() not in _PAGE_EXTENSIONS:
        return "not a document"
    return None
