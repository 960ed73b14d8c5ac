"""What every queue offers: batches with positions, and a place where sinks report their own positions.

A queue is the local one, or a broker to which the local queues of many collectors are relayed. A broker is a log of
messages in numbered partitions. Each message holds one batch, and all batches of a source are in one partition.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct, field


class Batch(Struct, frozen=True):
    """Entries that were committed together.

    Attributes:
        source: the queue that committed it, by a random name that is made once, with the queue's file.
        sequence: its place in that source. Sequences grow, but not always by one.
        committed_ns: when it was committed, nanoseconds since 1970 (UTC).
        count: how many entries it holds.
        payload: their bytes, as `footfall.entry.encode_entries` wrote them.
        is_damaged: the bytes are no longer those that were committed, and can't be restored.
        before: how many entries of this source were committed before it. A sink that has dealt with fewer missed some.
        context: the trace context it was published in, as W3C headers by name; empty if nothing is traced.
        joined: sequence and count of each batch that a relay joined into this one; empty for a batch as committed.
    """

    source: str
    sequence: int
    committed_ns: int
    count: int
    payload: bytes
    is_damaged: bool = False
    before: int = 0
    context: dict[str, str] = {}
    joined: tuple[tuple[int, int], ...] = ()


class Progress(Struct, frozen=True):
    """A sink's position in one source, and what became of the entries up to there.

    Attributes:
        sequence: the last batch that is in the output.
        safe_sequence: this sink's recovery needs no batch up to this one, so the queue need not keep them.
        written: entries in the output.
        skipped: entries that have no place in this output, by reason.
    """

    sequence: int = 0
    safe_sequence: int = 0
    written: int = 0
    skipped: dict[str, int] = field(default_factory=dict)

    @property
    def dealt_with(self) -> int:
        """How many entries were written or skipped."""
        return self.written + sum(self.skipped.values())


class SinkReport(Struct, frozen=True):
    """What a sink last told a queue about its source.

    Attributes:
        sequence: as in `Progress`, like `safe_sequence`, `written` and `skipped`.
        mark: what the sink will need if its own state is lost (`Sink.mark`).
        trouble: why it can't write now, or None.
        removed: entries that were written and are no longer in the output, by reason.
    """

    sequence: int
    safe_sequence: int
    written: int
    skipped: dict[str, int]
    mark: str
    trouble: str | None
    removed: dict[str, int] = {}


class Memory(Struct, frozen=True):
    """What a queue knows of a sink, in case the sink's own state is lost.

    Attributes:
        source: whose entries it is about.
        report: the sink's last report; None if there was none.
        read: returns the next batches after a sequence; none at the end.
    """

    source: str
    report: SinkReport | None
    read: Callable[[int], Sequence[Batch]]


class Feed(Protocol):
    """A queue as the consumer of one sink sees it. Only one thread calls it."""

    def wait_for_assignment(self, stop: threading.Event) -> bool:
        """Wait until this consumer may read, and may write what it reads. False if `stop` was set first.

        Open the sink after this call and close it before the next, because another consumer may write in between.
        """
        ...

    def memory(self) -> Memory | None:
        """What the queue knows of a sink that starts; None for a queue that can't be read from any place."""
        ...

    def read(self, positions: Mapping[str, Progress]) -> Sequence[Batch]:
        """The next batches after those positions, ascending within each source; empty if there are none now.

        Raises:
            AssignmentLostError: another consumer has taken over all or part of what this one reads.
            OSError: the queue can't be reached; try again later.
            DamagedQueueError: something in the queue is not what was written.
        """
        ...

    def report(self, positions: Mapping[str, Progress], trouble: str | None, mark: str) -> None:
        """Note the sink's position, and why it can't write. If a report is lost, the next one replaces it.

        Args:
            positions: the sink's progress, by source.
            trouble: why it can't write now, or None.
            mark: `Sink.mark()`.
        """
        ...

    def rest(self, seconds: float, stop: threading.Event) -> None:
        """Wait for that time, or until `stop` is set. The queue may use the time for its own upkeep."""
        ...

    def may_stop(self, positions: Mapping[str, Progress]) -> bool:
        """Whether a consumer that was told to stop is done: it has all that was queued at the first call of this."""
        ...

    def close(self) -> None:
        """Release the queue and the assignment."""
        ...


class Message(Struct, frozen=True):
    """What a broker delivers: the place of a message, and the bytes that were published."""

    partition: int
    offset: int
    value: bytes


class Publisher(Protocol):
    """The way into a broker. Only one thread calls it."""

    def publish(self, key: str, value: bytes) -> None:
        """Publish one message. When this returns, the message is as safe as the broker can make it.

        Messages of one key go to one partition, in the order of the calls.

        Raises:
            OSError: it is unknown whether the broker has the message. Publish it again before any other of its key.
                The broker may then have it twice.
        """
        ...

    def close(self) -> None: ...


class Subscription(Protocol):
    """The way out of a broker for the consumers of one sink. Each partition goes to one of them at a time.

    Only one thread calls it.
    """

    def wait_for_assignment(self, stop: threading.Event) -> bool:
        """Wait until this consumer has partitions: some, or all of them if it is exclusive.

        Reading begins at the last offset of `resume_at`. If there is none, it begins at the first message that the
        broker still has. If another consumer has the partitions, one WARNING says so.

        Returns:
            False if `stop` was set first.
        """
        ...

    def poll(self, timeout_s: float, *, is_full: bool) -> Sequence[Message]:
        """The next messages, ascending within each partition; empty if none came in time.

        Call it every few seconds, or the broker will think that the consumer is dead.

        Args:
            timeout_s: how long to wait for the first.
            is_full: return nothing, because the caller has enough; only keep the assignment.

        Raises:
            AssignmentLostError: this consumer no longer has the partitions that `wait_for_assignment` waited for.
            OSError: the broker can't be reached.
        """
        ...

    def rewind(self, partition: int) -> None:
        """Read again from the first message that the broker still has."""
        ...

    def resume_at(self, partition: int, offset: int) -> None:
        """Tell the broker where the next consumer may begin. This is a hint and may be lost.

        Raises:
            OSError, AssignmentLostError: as `poll`.
        """
        ...

    def lag(self) -> int:
        """How many messages of its partitions `poll` has not returned yet, as far as is known."""
        ...

    def close(self) -> None:
        """Release the partitions at once."""
        ...
