"""The one loop that brings the queue into a sink: read, skip, write, report."""

import logging
import threading
import time
from typing import Final

from footfall.crashpoint import Point, reach
from footfall.errors import QueueBrokenError, QueueFullError
from footfall.queue.base import Progress
from footfall.queue.embedded import EmbeddedQueue
from footfall.sinks.base import LOST, Sink

POLL_S: Final = 0.05
"""How long an empty queue is left alone; one look costs some 20 µs."""
GATHER_S: Final = 0.1
"""From one write to the next: a few large writes cost less than many small ones, and /stats stays fresh."""
IDLE_WRITE_S: Final = 1.0
"""How often a sink with nothing to do gets an empty write, for its own upkeep."""
RETRY_S: Final = 1.0
TRIM_S: Final = 0.005
"""From one piece that is dropped from the queue to the next: a commit has to get in between."""

_log = logging.getLogger(__name__)


class Consumer:
    """Runs in a thread of its own, with a queue connection and a sink that nobody else uses."""

    def __init__(self, queue: EmbeddedQueue, sink: Sink) -> None:
        self._queue = queue
        self._sink = sink
        self._is_resumed = False
        self._trouble: str | None = None
        self._reported: tuple[Progress, str | None] | None = None
        self._is_unheard = False
        self._has_more_to_trim = False

    def resume(self) -> bool:
        """Let the sink find its place, as `run` else does: whoever calls it before knows that the sink can work.

        Raises:
            DamagedFileError: as `run`.
        """
        report = self._queue.sink_reports().get(self._sink.name)
        try:
            self._sink.resume(self._queue.source, report, self._queue.read)
        except OSError as error:
            self._fail(error)
            return False
        self._is_resumed = True
        self._recover()
        self._report()
        return True

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set and what was in the queue by then is written.

        Raises:
            DamagedFileError: going on would not be safe; the position is where the output ends.
        """
        while not (self._is_resumed or self.resume()):
            if stop.wait(RETRY_S):
                return
        target: int | None = None
        wrote_at = time.monotonic()
        while True:
            if target is None and stop.is_set():
                target = self._queue.last_sequence()
            progress = self._progress()
            position = progress.sequence
            if target is not None and (position >= target or self._trouble is not None):
                return
            batches = self._queue.read(position)
            if not batches and time.monotonic() - wrote_at < IDLE_WRITE_S:
                self._rest(stop, POLL_S)
                continue
            reach(Point.CONSUMER_READ, self._sink.name)
            started = wrote_at = time.monotonic()
            try:
                self._sink.write(batches)
            except OSError as error:
                self._fail(error)
                stop.wait(RETRY_S)
            else:
                reach(Point.CONSUMER_WRITTEN, self._sink.name)
                self._recover()
                self._tell_loss(progress)
            self._report()
            if batches and target is None:
                rest_s = GATHER_S - (time.monotonic() - started)
                self._rest(stop, max(rest_s, POLL_S) if self._has_more_to_trim else rest_s)

    def _rest(self, stop: threading.Event, seconds: float) -> None:
        """Write nothing for so long, and meanwhile give back the disk that the queue no longer needs."""
        until = time.monotonic() + seconds
        while self._has_more_to_trim and time.monotonic() < until and not stop.wait(TRIM_S):
            self._trim()
        stop.wait(until - time.monotonic())

    def _progress(self) -> Progress:
        return self._sink.progress().get(self._queue.source, Progress())

    def _report(self) -> None:
        """Tell the queue, for retention and the ledger; what does not get through now does with the next one."""
        progress = self._progress()
        if (progress, self._trouble) != self._reported:
            try:
                self._queue.report(self._sink.name, progress, self._trouble, mark=self._sink.mark())
            except (QueueFullError, QueueBrokenError) as error:
                if not self._is_unheard:
                    _log.warning("%s: the queue takes no reports for now: %s", self._sink.name, error)
                self._is_unheard = True
                return
            self._is_unheard = False
            reach(Point.CONSUMER_REPORTED, self._sink.name)
            self._reported = (progress, self._trouble)
        self._trim()

    def _trim(self) -> None:
        self._has_more_to_trim = False
        try:
            self._has_more_to_trim = self._queue.trim() > 0
        except (QueueFullError, QueueBrokenError) as error:
            _log.warning("%s: the queue can't be trimmed: %s", self._sink.name, error)

    def _tell_loss(self, before: Progress) -> None:
        lost = self._progress().skipped.get(LOST, 0) - before.skipped.get(LOST, 0)
        if lost:
            _log.error("%s: %d entries are lost, and counted so in the ledger", self._sink.name, lost)

    def _fail(self, error: OSError) -> None:
        if self._trouble is None:
            _log.error("%s can't be written, trying again: %s", self._sink.name, error)
        self._trouble = str(error)

    def _recover(self) -> None:
        if self._trouble is not None:
            _log.warning("%s is being written again", self._sink.name)
        self._trouble = None
