"""Group commit: entries that arrive during a commit wait together for the next one.

The event loop's thread collects entries, and one writer thread commits them. An event is acknowledged by a callback
after its commit. A hit's image is served at once, so a hit does not hurry a commit: it waits up to `HIT_WAIT_S` for
other entries, and is on disk well within the promised 10 ms.

The queue is behind when a commit takes longer than `BEHIND_S`. Then a hit's image waits for its commit, too, so clients
wait instead of sending more, and nothing is dropped. `MAX_WAITING_BYTES` bounds what waits. Beyond it, `has_room` tells
the server to stop reading. What waits is refused only when a commit has failed or has taken `GIVE_UP_S`.

No sender can take all of that room: a sender may have as many bytes waiting as are still free (the dynamic threshold of
Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). One sender that floods gets half of the room, two
get a third each, and a newcomer always finds some.

After a failed commit, everything is refused until a commit succeeds. For a plain file it would be wrong to try again
after a failed sync, because the kernel may have dropped the pages. Here it is safe: SQLite writes the frames of the
failed transaction again before it syncs again. But nobody knows whether the failed transaction would be found after a
power cut. So its clients get no answer, and their connections close.
"""

import asyncio
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
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
"""How long a refusal may wait to be counted on disk if nothing else is committed."""
BEHIND_S: Final = 0.005
"""How long a commit may take before the queue is behind, and images wait for theirs."""
GIVE_UP_S: Final = 5.0
"""How long a commit may take before what waits is refused. SQLite waits this long for another process's lock, too."""
MAX_WAITING_BYTES: Final = 16 * 1024 * 1024
"""How much may wait for a commit. This also bounds a batch, and so the work of a sink on one batch."""
ENTRY_BYTES: Final = 1_024
"""What an entry counts for besides its text: the memory of the entry itself and of its answer."""
_OVERSHOOT_BYTES: Final = 2 * 1024 * 1024
"""How far a sender may exceed its share: `has_room` is asked before a request is read, but not while it is read."""
_ANSWERS_A_TURN = 100
"""How many events are answered before the loop does other work; a commit may hold thousands."""

PROBE_S: Final = 1.0
"""The time from a failed commit to the next try. That try carries no entry, so none can be in doubt after it."""
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
        done: callbacks that acknowledge events.
        images: callbacks that serve images which have to wait.
        images_due: the loop's time at which they are served in any case.
        refused: how many were not recorded, by reason.
        free: how many bytes may still be added.
        free_share: the part of the queue's room that is left after the commit. None if nothing was added, or if the
            room could not be measured.
        held: bytes by sender.
    """

    __slots__ = ("done", "entries", "free", "free_share", "held", "images", "images_due", "refused")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.done: list[Done] = []
        self.images: list[Done] = []
        self.images_due = 0.0
        self.refused: Counter[str] = Counter()
        self.free = MAX_WAITING_BYTES
        self.held: dict[str | None, int] = {}
        self.free_share: float | None = None


class Intake:
    """All methods are for the loop's thread.

    Args:
        queue: the local queue. From now on, only the writer thread touches it.
        on_failed: called once if nothing can be committed any more, because the queue's file is damaged or an
            unexpected error occurred. The process must then start again.

    Attributes:
        is_behind: whether the queue is behind, so that an image has to wait for its hit's commit.
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
        self._images_alarm: asyncio.TimerHandle | None = None
        self._on_room: Callable[[], None] | None = None
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0
        self._trouble: str | None = None
        self._due: deque[tuple[Done, Outcome]] = deque()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="intake", daemon=True)
        self._writer.start()

    def has_room(self, sender: str | None) -> bool:
        """Whether more may be read from a sender now. What has been read already is taken or refused in any case."""
        waiting = self._waiting
        return waiting.held.get(sender, 0) < waiting.free or self._trouble is not None

    def when_room(self, call: Callable[[], None]) -> None:
        """Call `call` once, as soon as a sender that had no room may have some again."""
        self._on_room = call

    def add_hit(self, hit: Entry, size: int, sender: str | None, done: Done | None = None) -> bool:
        """Take a hit, or count it as refused.

        Args:
            hit: what to record.
            size: about how many bytes its text has.
            sender: whose share of the room it takes.
            done: serves the image after the hit's commit or refusal, if the queue `is_behind`. None if the image has
                been served already.

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
            if not waiting.images:
                waiting.images_due = self._loop.time() + GIVE_UP_S
            waiting.images.append(done)
        # A refusal may have set a timer that is too late for a hit.
        if self._committing is None and (self._timer is None or self._timer_at > HIT_WAIT_S):
            self._commit_in(HIT_WAIT_S)
        return True

    def add_events(self, events: Sequence[Entry], size: int, sender: str | None, done: Done) -> None:
        """Take events of `size` bytes in all, as `add_hit` does. `done` is called after their commit or refusal."""
        if not self._may_add(len(events), size, sender):
            done(Outcome.REFUSED)
            return
        waiting = self._waiting
        waiting.entries.extend(events)
        waiting.done.append(done)
        # Commit in the next turn of the loop, so that the commit has everything that has arrived by now.
        if self._committing is None and (self._timer is None or self._timer_at):
            self._commit_in(0)

    def refuse(self, reason: str, count: int = 1) -> None:
        """Count entries that are not recorded."""
        self._waiting.refused[reason] += count
        if self._timer is None and self._committing is None:
            self._commit_in(REFUSED_WAIT_S)

    @property
    def trouble(self) -> str | None:
        """Why nothing can be taken now, or None."""
        return self._trouble

    async def close(self) -> None:
        """Commit everything that was taken, if the disk allows it within `CLOSE_S`."""
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
        # The first happens only behind a proxy: its connections carry other senders, too, so they are still read.
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
        self.is_behind = job.free < MAX_WAITING_BYTES // 2  # a commit of this size takes long
        self._alarm = self._loop.call_later(BEHIND_S, self._fall_behind)
        if job.images:  # they may have waited for the commit before, too
            self._images_alarm = self._loop.call_at(job.images_due, self._serve_images)
        self._renew()
        reach(Failpoint.INTAKE_TAKEN)
        self._jobs.put(job)

    def _renew(self) -> None:
        """Start a new job. Nothing waits any more, so there is room."""
        self._waiting = _Job()
        if self._on_room is not None:
            on_room, self._on_room = self._on_room, None
            on_room()

    def _fall_behind(self) -> None:
        self.is_behind = True
        self._alarm = self._loop.call_later(GIVE_UP_S - BEHIND_S, self._give_up)

    def _give_up(self) -> None:
        """Refuse what waits. The events of the commit under way wait on, because nobody knows yet if it succeeds."""
        self._alarm = None
        self._refuse_all(f"the disk has not finished a commit in {GIVE_UP_S:.0f} s")

    def _serve_images(self) -> None:
        """Serve the images of the commit under way: no visitor's page waits longer, whether or not it succeeds."""
        assert self._committing is not None
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
        """Commit a job. Return the error if it failed but a later job may succeed."""
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
        if job.entries:
            # They are committed, whether or not the room can be measured.
            with suppress(QueueFullError, QueueBrokenError):
                job.free_share = self._queue.free_share()
        return None

    def _committed(self, job: _Job, error: Exception | None) -> None:
        self._committing = None
        self.is_behind = False
        if self._alarm is not None:
            self._alarm.cancel()
        if self._images_alarm is not None:
            self._images_alarm.cancel()
            self._images_alarm = None
        if error is None:
            self._recover()
            if job.free_share is not None:
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
        """Refuse what came meanwhile and what comes until a commit succeeds. That commit counts what was refused."""
        self._refuse_all(str(error))
        refused = self._waiting.refused
        refused.update(job.refused)
        if job.entries and outcome is Outcome.REFUSED:
            refused["queue_unavailable"] += len(job.entries)

    def _refuse_all(self, trouble: str) -> None:
        """Refuse what waits and what comes. The first commit that succeeds counts what was refused."""
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
        """Answer all who wait for this job, after those who wait for an earlier one."""
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
