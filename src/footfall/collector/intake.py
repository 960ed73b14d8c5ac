"""Group commit: what arrives while one commit is under way waits, together, for the next.

The event loop's thread collects; one writer thread commits. An event's acknowledgement is a callback after its
commit. A hit's image is served at once, so a hit alone does not hurry a commit: it waits up to `HIT_WAIT_S` for
company and is on disk well within the promised 10 ms.

When the queue falls behind, because a commit takes longer than `BEHIND_S`, a hit's image waits for its commit, too. So
clients wait instead of asking for more, and nothing is dropped. What waits is bounded by `MAX_WAITING_BYTES`: beyond it
`has_room` asks the server to read no further. Only when a commit has taken `GIVE_UP_S`, or has failed, is what waits
refused.

Nobody takes all of that bound: a sender may have as much waiting as is left free by all (the dynamic threshold of
Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). One that floods has half of it, two have a third
each, and a newcomer always finds room.

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
from itertools import chain
from queue import SimpleQueue
from typing import Final

from footfall.collector.shares import Shares
from footfall.entry import Entry, encode_entries
from footfall.errors import QueueBrokenError, QueueFullError
from footfall.failpoint import Failpoint, reach
from footfall.queue.local.store import LocalQueue

HIT_WAIT_S: Final = 0.004
REFUSED_WAIT_S: Final = 0.5
"""How long a refusal may wait to be counted on disk when nothing else is committed."""
BEHIND_S: Final = 0.005
"""How long a commit may take before the queue is behind, and images wait for theirs."""
GIVE_UP_S: Final = 5.0
"""How long it may take before what waits is refused; SQLite waits as long for a lock that another process holds."""
MAX_WAITING_BYTES: Final = 16 * 1024 * 1024
"""What may wait for a commit. It bounds a batch, too, and so what a sink makes of one."""
ENTRY_BYTES: Final = 1_024
"""What an entry counts for besides its text: it and its answer in memory."""
_OVERSHOOT_BYTES: Final = 2 * 1024 * 1024
"""What a sender may add beyond its share: `has_room` is asked before a request is read, and not within."""
_ANSWERS_A_TURN = 100
"""Events that are answered before others have a turn of the loop: thousands may be in a commit."""

PROBE_S: Final = 1.0
"""From a failed commit to the next try, which carries no entry: nothing of it can be in doubt."""
CLOSE_S: Final = 3.0


class Outcome(Enum):
    """What became of entries."""

    COMMITTED = "on disk"
    REFUSED = "not recorded"
    UNKNOWN = "perhaps recorded: the commit failed at its last step"


Done = Callable[[Outcome], None]
"""Called once, in the loop's thread."""

_log = logging.getLogger(__name__)


class _Job:
    """What one commit takes.

    Attributes:
        entries: hits and events, in the order of their arrival.
        done: tells those who wait for their events.
        images: serves those who wait for an image.
        refused: what is not recorded, by reason.
        free: bytes that may still be added.
        free_share: after its commit, the part of the queue's room that is left.
        held: bytes by sender.
    """

    __slots__ = ("done", "entries", "free", "free_share", "held", "images", "refused")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.done: list[Done] = []
        self.images: list[Done] = []
        self.refused: Counter[str] = Counter()
        self.free = MAX_WAITING_BYTES
        self.held: dict[str | None, int] = {}
        self.free_share = 1.0


class Intake:
    """All methods are for the loop's thread.

    Args:
        queue: handed over; only the writer thread touches it from now on.
        on_failed: called once when no more can be committed (the queue's file is no longer one, or there is an error
            that Footfall does not know) and the process must start again.

    Attributes:
        is_behind: a commit takes long, so an image has to wait for its own.
    """

    def __init__(self, queue: LocalQueue, *, on_failed: Callable[[Exception], None]) -> None:
        self._queue = queue
        self._on_failed = on_failed
        self._loop = asyncio.get_running_loop()
        self._waiting = _Job()
        self._shares = Shares()
        self._committing: _Job | None = None
        self.is_behind = False
        self._alarm: asyncio.TimerHandle | None = None
        self._on_room: Callable[[], None] | None = None
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0
        self._trouble: str | None = None
        self._due: deque[tuple[Done, Outcome]] = deque()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="intake", daemon=True)
        self._writer.start()

    def has_room(self, sender: str | None) -> bool:
        """Whether more may be read of a sender now. What has been read is taken in any case, or refused."""
        waiting = self._waiting
        return waiting.held.get(sender, 0) < waiting.free or self._trouble is not None

    def when_room(self, call: Callable[[], None]) -> None:
        """Call once, when `has_room` may be true again for a sender for which it is not."""
        self._on_room = call

    def add_hit(self, hit: Entry, size: int, sender: str | None, done: Done | None = None) -> bool:
        """Take a hit, or count why not.

        Args:
            hit: what to record.
            size: of its text, about, in bytes.
            sender: whose share of what may wait it takes.
            done: serves the image, after the hit's commit or a refusal; for a queue that `is_behind`. None where the
                image has been served.

        Returns:
            Whether it was taken.
        """
        if not self._may_add(1, size, sender):
            if done is not None:
                done(Outcome.REFUSED)
            return False
        waiting = self._waiting
        waiting.entries.append(hit)
        if done is not None:
            waiting.images.append(done)
        if self._timer is None and self._committing is None:
            self._commit_in(HIT_WAIT_S)
        return True

    def add_events(self, events: Sequence[Entry], size: int, sender: str | None, done: Done) -> None:
        """Take events of `size` bytes in all, as `add_hit` does; `done` is called after their commit, or a refusal."""
        if not self._may_add(len(events), size, sender):
            done(Outcome.REFUSED)
            return
        waiting = self._waiting
        waiting.entries.extend(events)
        waiting.done.append(done)
        # With the next turn of the loop, so that all that has arrived by now is in it.
        if self._committing is None and (self._timer is None or self._timer_at):
            self._commit_in(0)

    def refuse(self, reason: str, count: int = 1) -> None:
        """Count what is not recorded."""
        self._waiting.refused[reason] += count
        if self._timer is None and self._committing is None:
            self._commit_in(REFUSED_WAIT_S)

    @property
    def trouble(self) -> str | None:
        """Why nothing can be taken now, or None."""
        return self._trouble

    async def close(self) -> None:
        """Commit all that was taken, if the disk lets us."""
        deadline = self._loop.time() + CLOSE_S
        while self._committing is not None or self._waiting.entries or self._waiting.refused or self._due:
            if self._loop.time() > deadline:
                _log.error("stopping with %d entries that could not be committed", len(self._waiting.entries))
                break
            self._commit()
            await asyncio.sleep(0.001)
        self._jobs.put(None)
        await asyncio.to_thread(self._writer.join)

    def _may_add(self, count: int, size: int, sender: str | None) -> bool:
        """Make room for entries, or count them as refused."""
        if self._trouble is not None:
            self.refuse("queue_unavailable", count)
            return False
        waiting = self._waiting
        held = waiting.held.get(sender, 0)
        # The first is one of those who share a proxy's connections, which can't be left unread for one of them.
        if held > waiting.free + _OVERSHOOT_BYTES or sender in self._shares.flooding:
            self.refuse("flooding", count)
            return False
        size += count * ENTRY_BYTES
        waiting.held[sender] = held + size
        waiting.free -= size
        return True

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
        if self._committing is not None or not (job.entries or job.refused or self._trouble):
            return
        self._committing = job
        self.is_behind = job.free < MAX_WAITING_BYTES // 2  # so much takes its time
        self._alarm = self._loop.call_later(BEHIND_S, self._fall_behind)
        self._renew()
        reach(Failpoint.INTAKE_TAKEN)
        self._jobs.put(job)

    def _renew(self) -> None:
        """Nothing waits any more, so there is room."""
        self._waiting = _Job()
        if self._on_room is not None:
            on_room, self._on_room = self._on_room, None
            on_room()

    def _fall_behind(self) -> None:
        self.is_behind = True
        self._alarm = self._loop.call_later(GIVE_UP_S - BEHIND_S, self._give_up)

    def _give_up(self) -> None:
        """Nobody waits longer; what is being committed is perhaps recorded, what came after it is not."""
        assert self._committing is not None
        self._alarm = None
        self._refuse_all(f"the disk has not finished a commit in {GIVE_UP_S:.0f} s")
        images, self._committing.images = self._committing.images, []
        for done in images:
            done(Outcome.UNKNOWN)

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
                job.free_share = self._queue.free_share()
            else:
                self._queue.add_refused(job.refused)
                job.refused = Counter()  # counted, even if there is no room yet
                self._queue.make_sure_of_room()
        except (QueueFullError, QueueBrokenError) as error:
            return error
        return None

    def _committed(self, job: _Job, error: Exception | None) -> None:
        self._committing = None
        self.is_behind = False
        if self._alarm is not None:
            self._alarm.cancel()
        if error is None:
            self._recover()
            self._shares.add(job.held, job.free_share)
            outcome = Outcome.COMMITTED
        else:
            outcome = Outcome.UNKNOWN if isinstance(error, QueueBrokenError) else Outcome.REFUSED
            self._fail(job, error, outcome)
        self._answer(job, outcome)
        waiting = self._waiting
        if self._trouble is not None:
            self._commit_in(PROBE_S)
        elif waiting.done or waiting.images:
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
        self._refuse_all(str(error))
        refused = self._waiting.refused
        refused.update(job.refused)
        if job.entries and outcome is Outcome.REFUSED:
            refused["queue_unavailable"] += len(job.entries)

    def _refuse_all(self, trouble: str) -> None:
        """Refuse what waits and what comes; what was refused is counted with the first commit that succeeds."""
        if self._trouble is None:
            _log.error("refusing hits and events: %s", trouble)
        self._trouble = trouble
        late = self._waiting
        self._renew()
        self._waiting.refused = late.refused
        if late.entries:
            late.refused["queue_unavailable"] += len(late.entries)
        self._answer(late, Outcome.REFUSED)

    def _answer(self, job: _Job, outcome: Outcome) -> None:
        """Tell all who wait for it, those of an earlier job first."""
        is_answering = bool(self._due)
        self._due.extend((done, outcome) for done in chain(job.done, job.images))
        if not is_answering:
            self._answer_some()

    def _answer_some(self) -> None:
        for _ in range(min(_ANSWERS_A_TURN, len(self._due))):
            done, outcome = self._due.popleft()
            done(outcome)
            reach(Failpoint.INTAKE_ANSWERED)
        if self._due:
            self._loop.call_soon(self._answer_some)
