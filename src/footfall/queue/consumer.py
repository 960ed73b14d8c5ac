"""The one loop that brings batches from a queue into a sink: read, write, report."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Final

from footfall.errors import AssignmentLostError
from footfall.failpoint import Failpoint, reach
from footfall.queue.base import Batch, Feed, Progress
from footfall.queue.broker.tracing import OFF, Tracing
from footfall.queue.sink import LOST, Sink

POLL_S: Final = 0.05
"""How long to wait before looking at an empty queue again."""
GATHER_S: Final = 0.1
"""The time from one write to the next. A few large writes cost less than many small ones, and /stats stays fresh."""
IDLE_WRITE_S: Final = 1.0
"""How often an idle sink gets an empty write, so that it can do its upkeep."""
RETRY_S: Final = 1.0

_log = logging.getLogger(__name__)


def consume(
    feed: Feed,
    open_sink: Callable[[], Sink],
    stop: threading.Event,
    *,
    on_assigned: Callable[[], None],
    tracing: Tracing = OFF,
    gather_s: float = GATHER_S,
) -> None:
    """Write to the sink while the queue assigns something to this consumer, until `stop` is set.

    Args:
        feed: the queue; the caller closes it.
        open_sink: opens the sink; called for each assignment.
        stop: set when the consumer is to stop.
        on_assigned: called as soon as the sink is open and knows its position.
        tracing: makes a span for each write.
        gather_s: the time from one write to the next, seconds.

    Raises:
        DamagedFileError: it would not be safe to go on.
        FootfallError: the sink can't be opened.
    """
    is_told = False
    while feed.wait_for_assignment(stop):
        try:
            sink = open_sink()
        except OSError as error:
            if not is_told:
                _log.error("the sink can't be opened, retrying every %g s: %s", RETRY_S, error)
            is_told = True
            stop.wait(RETRY_S)
            continue
        is_told = False
        with closing(sink):
            consumer = Consumer(feed, sink, tracing, gather_s)
            try:
                consumer.resume()
                on_assigned()
                consumer.run(stop)
            except AssignmentLostError as error:
                _log.warning("%s: %s", sink.name, error)


class Consumer:
    """The loop itself. It needs a thread of its own, and a feed and a sink that nothing else uses."""

    def __init__(self, feed: Feed, sink: Sink, tracing: Tracing = OFF, gather_s: float = GATHER_S) -> None:
        self._feed = feed
        self._sink = sink
        self._tracing = tracing
        self._gather_s = gather_s
        self._is_resumed = False
        self._trouble: str | None = None
        self._failing_since = 0.0

    def resume(self) -> bool:
        """Let the sink find its position, and return whether it could. `run` does this first if nobody has.

        Raises:
            DamagedFileError: as `run`.
        """
        memory = self._feed.memory()
        try:
            if memory is not None:
                self._sink.resume(memory.source, memory.report, memory.read)
        except OSError as error:
            self._fail(error)
            return False
        self._is_resumed = True
        self._recover()
        self._report()
        return True

    def run(self, stop: threading.Event) -> None:
        """Write until `stop` is set and everything that was in the queue by then is written.

        Raises:
            AssignmentLostError: another consumer takes over.
            DamagedFileError: it would not be safe to go on; the position says where the output ends.
        """
        while not (self._is_resumed or self.resume()):
            if stop.wait(RETRY_S):
                return
        wrote_at = time.monotonic()
        while True:
            batches: Sequence[Batch] = ()
            before = dict(self._sink.progress())
            if stop.is_set() and (self._trouble is not None or self._feed.may_stop(before)):
                return
            try:
                batches = self._feed.read(before)
                if not batches and time.monotonic() - wrote_at < IDLE_WRITE_S:
                    self._feed.rest(POLL_S, stop)
                    continue
                reach(Failpoint.CONSUMER_READ, self._sink.name)
                wrote_at = time.monotonic()
                with self._tracing.writing(self._sink.name, batches):
                    self._sink.write(batches)
            except OSError as error:
                self._fail(error)
                stop.wait(RETRY_S)
            else:
                reach(Failpoint.CONSUMER_WRITTEN, self._sink.name)
                self._recover()
                self._tell_loss(before)
            self._report()
            if batches and not stop.is_set():
                self._feed.rest(self._gather_s - (time.monotonic() - wrote_at), stop)

    def _report(self) -> None:
        self._feed.report(self._sink.progress(), self._trouble, self._sink.mark())

    def _tell_loss(self, before: Mapping[str, Progress]) -> None:
        for source, progress in self._sink.progress().items():
            lost = progress.skipped.get(LOST, 0) - before.get(source, Progress()).skipped.get(LOST, 0)
            if lost:
                _log.error("%s sink: %d entries are lost; the ledger counts them", self._sink.name, lost)

    def _fail(self, error: OSError) -> None:
        if self._trouble is None:
            self._failing_since = time.monotonic()
            _log.error("%s sink is failing, retrying every %g s: %s", self._sink.name, RETRY_S, error)
        self._trouble = str(error)

    def _recover(self) -> None:
        if self._trouble is not None:
            failing_s = time.monotonic() - self._failing_since
            _log.warning("%s sink recovered after %.0f s", self._sink.name, failing_s)
        self._trouble = None
