"""The one loop that brings the queue into a sink: read, skip, write, report."""

import logging
import threading
import time
from typing import Final

from footfall.crashpoint import Point, reach
from footfall.errors import QueueBrokenError, QueueFullError
from footfall.queue.base import Progress
from footfall.queue.embedded import EmbeddedQueue
from footfall.sinks.base import Sink

POLL_S: Final = 0.05
"""How long an empty queue is left alone; one look costs some 20 µs."""
GATHER_S: Final = 0.1
"""From one write to the next: a few large writes cost less than many small ones, and /stats stays fresh."""
IDLE_WRITE_S: Final = 1.0
"""How often a sink with nothing to do gets an empty write, for its own upkeep."""
RETRY_S: Final = 1.0

_log = logging.getLogger(__name__)


class Consumer:
    """Runs in a thread of its own, with a queue connection and a sink that nobody else uses."""

    def __init__(self, queue: EmbeddedQueue, sink: Sink) -> None:
        self._queue = queue
        self._sink = sink
        self._trouble: str | None = None
        self._reported: tuple[Progress, str | None] | None = None

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set and what was in the queue by then is written.

        Raises:
            DamagedFileError: going on would not be safe; the position is where the output ends.
        """
        self._report()
        target: int | None = None
        wrote_at = time.monotonic()
        while True:
            if target is None and stop.is_set():
                target = self._queue.last_sequence()
            position = self._progress().sequence
            if target is not None and (position >= target or self._trouble is not None):
                return
            batches = self._queue.read(position)
            if not batches and time.monotonic() - wrote_at < IDLE_WRITE_S:
                stop.wait(POLL_S)
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
            self._report()
            if batches and target is None:
                stop.wait(GATHER_S - (time.monotonic() - started))

    def _progress(self) -> Progress:
        return self._sink.progress().get(self._queue.source, Progress())

    def _report(self) -> None:
        """Tell the queue, for retention and the ledger; what does not get through now does with the next one."""
        progress = self._progress()
        if (progress, self._trouble) != self._reported:
            try:
                self._queue.report(self._sink.name, progress, self._trouble)
            except (QueueFullError, QueueBrokenError) as error:
                _log.warning("%s: the queue does not take a report: %s", self._sink.name, error)
                return
            reach(Point.CONSUMER_REPORTED, self._sink.name)
            self._reported = (progress, self._trouble)
        self._trim()

    def _trim(self) -> None:
        try:
            self._queue.trim()
        except (QueueFullError, QueueBrokenError) as error:
            _log.warning("%s: the queue can't be trimmed: %s", self._sink.name, error)

    def _fail(self, error: OSError) -> None:
        if self._trouble is None:
            _log.error("%s can't be written, trying again: %s", self._sink.name, error)
        self._trouble = str(error)

    def _recover(self) -> None:
        if self._trouble is not None:
            _log.warning("%s is being written again", self._sink.name)
        self._trouble = None
