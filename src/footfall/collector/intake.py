"""Group commit: what arrives while one commit is under way waits, together, for the next.

The event loop's thread collects; one writer thread commits. An event's acknowledgement is a callback after its
commit. A hit's image has been sent already, so a hit alone does not hurry a commit: it waits up to `HIT_WAIT_S` for
company and is on disk well within the promised 10 ms.

After a commit that failed everything is refused until one succeeds. To try again after a failed sync is sound here,
though it is not for a plain file: SQLite rewrites the frames of the failed transaction before it syncs again, so none
of them counts on a page that the kernel has dropped. But whether the failed one is found after a power cut is unknown,
so its clients are told nothing: their connections close.
"""

import asyncio
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from enum import Enum
from queue import SimpleQueue
from typing import Final

from footfall.entry import Entry, Event, Hit, encode_entries
from footfall.errors import QueueBrokenError, QueueFullError
from footfall.failpoint import Failpoint, reach
from footfall.queue.local.store import LocalQueue

HIT_WAIT_S: Final = 0.004
REFUSED_WAIT_S: Final = 0.5
"""How long a refusal may wait to be counted on disk when nothing else is committed."""
MAX_WAITING: Final = 20_000
"""Entries not yet handed to a commit; beyond it the disk is not keeping up, and more are refused."""
MAX_WAITING_BYTES: Final = 16 * 1024 * 1024
"""It bounds a batch, too, and so what a sink makes of one: a line of the visits log may be four times its hit."""
_ANSWERS_A_TURN = 100
"""Events that are answered before others have a turn of the loop: thousands may be in a commit."""

PROBE_S: Final = 1.0
"""From a failed commit to the next try, which carries no entry: nothing of it can be in doubt."""
CLOSE_S: Final = 3.0


class Outcome(Enum):
    """What became of events."""

    COMMITTED = "on disk"
    REFUSED = "not recorded"
    UNKNOWN = "perhaps recorded: the commit failed at its last step"


Done = Callable[[Outcome], None]
"""Called once, in the loop's thread."""

_log = logging.getLogger(__name__)


class _Job:
    """What one commit takes."""

    __slots__ = ("done", "entries", "refused")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.done: list[Done] = []
        self.refused: Counter[str] = Counter()


class Intake:
    """All methods are for the loop's thread.

    Args:
        queue: handed over; only the writer thread touches it from now on.
        on_failed: called once when no more can be committed (the queue's file is no longer one, or there is an error
            that Footfall does not know) and the process must start again.
    """

    def __init__(self, queue: LocalQueue, *, on_failed: Callable[[Exception], None]) -> None:
        self._queue = queue
        self._on_failed = on_failed
        self._loop = asyncio.get_running_loop()
        self._waiting = _Job()
        self._waiting_bytes = 0
        self._committing = False
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0
        self._trouble: str | None = None
        self._due: deque[tuple[Done, Outcome]] = deque()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="intake", daemon=True)
        self._writer.start()

    def add_hit(self, hit: Hit, size: int) -> None:
        """Take a hit of about `size` bytes, or count why not."""
        reason = self._reason_against(size)
        if reason is not None:
            self.refuse(reason)
            return
        self._waiting.entries.append(hit)
        self._waiting_bytes += size
        if self._timer is None and not self._committing:
            self._commit_in(HIT_WAIT_S)

    def add_events(self, events: Sequence[Event], size: int, done: Done) -> None:
        """Take events of about `size` bytes in all; `done` is called when they are committed, or are not."""
        reason = self._reason_against(size)
        if reason is not None:
            self.refuse(reason, len(events))
            done(Outcome.REFUSED)
            return
        waiting = self._waiting
        waiting.entries.extend(events)
        waiting.done.append(done)
        self._waiting_bytes += size
        # With the next turn of the loop, so that all that has arrived by now is in it.
        if not self._committing and (self._timer is None or self._timer_at):
            self._commit_in(0)

    def refuse(self, reason: str, count: int = 1) -> None:
        """Count what is not recorded."""
        self._waiting.refused[reason] += count
        if self._timer is None and not self._committing:
            self._commit_in(REFUSED_WAIT_S)

    @property
    def trouble(self) -> str | None:
        """Why the last commit failed, or None."""
        return self._trouble

    async def close(self) -> None:
        """Commit all that was taken, if the disk lets us."""
        deadline = self._loop.time() + CLOSE_S
        while self._committing or self._waiting.entries or self._waiting.refused or self._due:
            if self._loop.time() > deadline:
                _log.error("stopping with %d entries that could not be committed", len(self._waiting.entries))
                break
            self._commit()
            await asyncio.sleep(0.001)
        self._jobs.put(None)
        await asyncio.to_thread(self._writer.join)

    def _reason_against(self, size: int) -> str | None:
        if self._trouble is not None:
            return "queue_unavailable"
        if len(self._waiting.entries) >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES:
            return "overloaded"
        return None

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
        if self._committing or not (job.entries or job.refused or self._trouble):
            return
        self._committing = True
        self._waiting = _Job()
        self._waiting_bytes = 0
        reach(Failpoint.INTAKE_TAKEN)
        self._jobs.put(job)

    def _write(self) -> None:
        """The writer thread."""
        try:
            while (job := self._jobs.get()) is not None:
                self._loop.call_soon_threadsafe(self._committed, job, self._append(job))
        except Exception as error:  # noqa: BLE001 - the process ends with it
            self._loop.call_soon_threadsafe(self._on_failed, error)
        self._queue.close()

    def _append(self, job: _Job) -> Exception | None:
        """Commit a job; why that failed, if a later one may succeed."""
        try:
            if job.entries:
                payload = encode_entries(job.entries)
                reach(Failpoint.INTAKE_ENCODED)
                self._queue.append(payload, len(job.entries), job.refused)
            else:
                self._queue.add_refused(job.refused)
                job.refused = Counter()  # counted, even if there is no room yet
                self._queue.make_sure_of_room()
        except (QueueFullError, QueueBrokenError) as error:
            return error
        return None

    def _committed(self, job: _Job, error: Exception | None) -> None:
        self._committing = False
        if error is None:
            self._recover()
            outcome = Outcome.COMMITTED
        else:
            outcome = Outcome.UNKNOWN if isinstance(error, QueueBrokenError) else Outcome.REFUSED
            self._fail(job, error, outcome)
        self._answer(job, outcome)
        waiting = self._waiting
        if self._trouble is not None:
            self._commit_in(PROBE_S)
        elif waiting.done:
            self._commit()
        elif waiting.entries:
            self._commit_in(HIT_WAIT_S)
        elif waiting.refused:
            self._commit_in(REFUSED_WAIT_S)

    def _recover(self) -> None:
        if self._trouble is not None:
            self._trouble = None
            _log.warning("the queue takes hits and events again")

    def _fail(self, job: _Job, error: Exception, outcome: "Outcome") -> None:
        """Refuse what comes, and what came meanwhile, until a commit succeeds; what was refused is counted by then."""
        if self._trouble is None:
            _log.error("refusing hits and events: %s", error)
        self._trouble = str(error)
        late, self._waiting = self._waiting, _Job()
        self._waiting_bytes = 0
        self._waiting.refused = job.refused + late.refused
        lost = len(late.entries) + (len(job.entries) if outcome is Outcome.REFUSED else 0)
        if lost:
            self._waiting.refused["queue_unavailable"] += lost
        self._answer(late, Outcome.REFUSED)

    def _answer(self, job: _Job, outcome: Outcome) -> None:
        """Tell all who wait for it, those of an earlier job first."""
        is_answering = bool(self._due)
        self._due.extend((done, outcome) for done in job.done)
        if not is_answering:
            self._answer_some()

    def _answer_some(self) -> None:
        for _ in range(min(_ANSWERS_A_TURN, len(self._due))):
            done, outcome = self._due.popleft()
            done(outcome)
            reach(Failpoint.INTAKE_ANSWERED)
        if self._due:
            self._loop.call_soon(self._answer_some)
