"""The embedded queue, as the consumer of one sink sees it."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

from footfall.errors import QueueBrokenError, QueueFullError
from footfall.failpoint import Failpoint, reach
from footfall.queue.base import Batch, Memory, Progress
from footfall.queue.local.store import LocalQueue
from footfall.queue.sink import REMOVED

POLL_S: Final = 0.05
"""How long to wait before looking at an empty queue again. A look takes some 20 µs."""
TRIM_S: Final = 0.005
"""From one piece that is dropped from the queue to the next: a commit has to get in between."""

_log = logging.getLogger(__name__)


class LocalFeed:
    """A `Feed`. A sink's one consumer on this machine holds a lock already, so its assignment never ends.

    Args:
        queue: a connection that nobody else uses; handed over.
        sink: the sink's name.
    """

    def __init__(self, queue: LocalQueue, sink: str) -> None:
        self._queue = queue
        self._sink = sink
        self._target: int | None = None
        self._reported: tuple[Progress, str | None, dict[str, int] | None, str] | None = None
        self._is_unheard = False
        self._has_more_to_trim = False

    def wait_for_assignment(self, stop: threading.Event) -> bool:
        return not stop.is_set()

    def memory(self) -> Memory:
        return Memory(self._queue.source, self._queue.sink_reports().get(self._sink), self._queue.read)

    def read(self, positions: Mapping[str, Progress]) -> Sequence[Batch]:
        return self._queue.read(self._own(positions).sequence)

    def report(self, positions: Mapping[str, Progress], trouble: str | None, mark: str) -> None:
        progress = self._own(positions)
        removed = positions[REMOVED].skipped if REMOVED in positions else None
        if (progress, trouble, removed, mark) != self._reported:
            try:
                self._queue.report(self._sink, progress, trouble, mark=mark, removed=removed)
            except (QueueFullError, QueueBrokenError) as error:
                if not self._is_unheard:
                    _log.warning("%s: the queue takes no reports for now: %s", self._sink, error)
                self._is_unheard = True
                return
            self._is_unheard = False
            reach(Failpoint.CONSUMER_REPORTED, self._sink)
            self._reported = (progress, trouble, removed, mark)
        self._trim()

    def rest(self, seconds: float, stop: threading.Event) -> None:
        """Give back meanwhile the disk that the queue no longer needs."""
        until = time.monotonic() + (max(seconds, POLL_S) if self._has_more_to_trim else seconds)
        while self._has_more_to_trim and time.monotonic() < until and not stop.wait(TRIM_S):
            self._trim()
        stop.wait(until - time.monotonic())

    def may_stop(self, positions: Mapping[str, Progress]) -> bool:
        if self._target is None:
            self._target = self._queue.last_sequence()
        return self._own(positions).sequence >= self._target

    def close(self) -> None:
        self._queue.close()

    def _own(self, positions: Mapping[str, Progress]) -> Progress:
        return positions.get(self._queue.source, Progress())

    def _trim(self) -> None:
        self._has_more_to_trim = False
        try:
            self._has_more_to_trim = self._queue.trim() > 0
        except (QueueFullError, QueueBrokenError) as error:
            _log.warning("%s: the queue can't be trimmed: %s", self._sink, error)
