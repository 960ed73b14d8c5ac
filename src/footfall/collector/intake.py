"""Group commit: what arrives while one commit is under way waits, together, for the next.

The event loop's thread collects; one writer thread commits. An event's acknowledgement is a callback after its
commit. A hit's image has been sent already, so a hit alone does not hurry a commit: it waits up to `HIT_WAIT_S` for
company and is on disk well within the promised 10 ms.
"""

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

from footfall.errors import QueueBrokenError, QueueFullError
from footfall.event import Entry, Event, Hit, encode_entries
from footfall.queue.embedded import EmbeddedQueue

HIT_WAIT_S: Final = 0.004
REFUSED_WAIT_S: Final = 0.5
"""How long a refusal may wait to be counted on disk when nothing else is committed."""
MAX_WAITING: Final = 20_000
"""Entries not yet handed to a commit; beyond it the disk is not keeping up, and more are refused."""
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024

Done = Callable[[Exception | None], None]
"""Called in the loop's thread once an event is committed, or with why it is not."""

_log = logging.getLogger(__name__)


class _Job:
    """What one commit takes."""

    __slots__ = ("done", "entries", "hits", "refused")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.done: list[Done] = []
        self.hits = 0
        self.refused: Counter[str] = Counter()


class Intake:
    """All methods are for the loop's thread.

    Args:
        queue: handed over; only the writer thread touches it from now on.
        on_broken: called once when the queue's state is unknown and the process must start again.
    """

    def __init__(self, queue: EmbeddedQueue, *, on_broken: Callable[[QueueBrokenError], None]) -> None:
        self._queue = queue
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._waiting = _Job()
        self._waiting_bytes = 0
        self._committing = False
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0
        self._full = False
        self._broken: QueueBrokenError | None = None
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="intake", daemon=True)
        self._writer.start()

    def add_hit(self, hit: Hit, size: int) -> None:
        """Take a hit of about `size` bytes, or count why not."""
        waiting = self._waiting
        if self._broken is not None:
            return
        if not self._has_room(size):
            self.refuse("overloaded")
            return
        waiting.entries.append(hit)
        waiting.hits += 1
        self._waiting_bytes += size
        if self._timer is None and not self._committing:
            self._commit_in(HIT_WAIT_S)

    def add_event(self, event: Event, size: int, done: Done) -> None:
        """Take an event of about `size` bytes; `done` is called when it is committed, or with why it is not."""
        if self._broken is not None or not self._has_room(size):
            self.refuse("overloaded")
            done(self._broken or QueueFullError("events arrive faster than the disk takes them"))
            return
        waiting = self._waiting
        waiting.entries.append(event)
        waiting.done.append(done)
        self._waiting_bytes += size
        # With the next turn of the loop, so that all that has arrived by now is in it.
        if not self._committing and (self._timer is None or self._timer_at):
            self._commit_in(0)

    def refuse(self, reason: str) -> None:
        """Count a request that is not recorded."""
        self._waiting.refused[reason] += 1
        if self._timer is None and not self._committing and self._broken is None:
            self._commit_in(REFUSED_WAIT_S)

    @property
    def trouble(self) -> str | None:
        """Why nothing could be taken at the last commit, or None."""
        if self._broken is not None:
            return str(self._broken)
        return "the queue takes nothing more for now" if self._full else None

    async def close(self) -> None:
        """Commit all that was taken."""
        while self._broken is None and (self._committing or self._waiting.entries or self._waiting.refused):
            self._commit()
            await asyncio.sleep(0.001)
        self._jobs.put(None)
        await asyncio.to_thread(self._writer.join)

    def _has_room(self, size: int) -> bool:
        return len(self._waiting.entries) < MAX_WAITING and self._waiting_bytes + size <= MAX_WAITING_BYTES

    def _commit_in(self, delay_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = delay_s
        self._timer = self._loop.call_later(delay_s, self._commit) if delay_s else self._loop.call_soon(self._commit)

    def _commit(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        job = self._waiting
        if self._committing or not (job.entries or job.refused):
            return
        self._committing = True
        self._waiting = _Job()
        self._waiting_bytes = 0
        self._jobs.put(job)

    def _write(self) -> None:
        """The writer thread."""
        while (job := self._jobs.get()) is not None:
            error: Exception | None = None
            try:
                if job.entries:
                    self._queue.append(encode_entries(job.entries), len(job.entries), job.refused)
                else:
                    self._queue.add_refused(job.refused)
            except (QueueFullError, QueueBrokenError) as failure:
                error = failure
            self._loop.call_soon_threadsafe(self._committed, job, error)
        self._queue.close()

    def _committed(self, job: _Job, error: Exception | None) -> None:
        self._committing = False
        if isinstance(error, QueueBrokenError):
            # Nobody knows what is on disk, so nobody is told anything: the clients see their connections close.
            self._broken = error
            _log.error("%s; what was acknowledged is safe, starting again from the disk", error)
            self._on_broken(error)
            return
        if error is not None:
            self._not_committed(job, error)
        elif self._full:
            self._full = False
            _log.warning("the queue takes hits and events again")
        for done in job.done:
            done(error)
        waiting = self._waiting
        if waiting.done:
            self._commit()
        elif waiting.entries:
            self._commit_in(HIT_WAIT_S)
        elif waiting.refused:
            self._commit_in(REFUSED_WAIT_S)

    def _not_committed(self, job: _Job, error: Exception) -> None:
        if not self._full:
            self._full = True
            _log.error("refusing hits and events: %s", error)
        # What could not be counted on disk now is counted with a later commit.
        self._waiting.refused.update(job.refused)
        if job.entries:
            self._waiting.refused["queue_full"] += len(job.entries)
