"""What every queue offers: batches with positions, and a place for the sinks to report theirs.

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
        source: which queue committed it; a random name, made once with the queue's file.
        sequence: its place in that source; grows, with no promise that it grows by one.
        committed_ns: when, nanoseconds since 1970 (UTC).
        count: how many entries it holds.
        payload: their bytes, as `footfall.entry.encode_entries` wrote them.
        is_damaged: the bytes are no longer those that were committed; what they were can't be told.
        before: how many entries of this source were committed before it. A sink that has dealt with fewer missed some.
        context: the trace context it was published in, W3C's headers by name; empty where nothing is traced.
        joined: sequence and count of each batch that a relay made this one of; empty for one that was committed so.
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
    """How far a sink has come in one source, and what became of the entries up to there.

    Attributes:
        sequence: the last batch that is in the output.
        safe_sequence: the last batch that the queue need not keep for this sink's recovery.
        written: entries in the output.
        skipped: entries that have no place in this output, by reason.
    """

    sequence: int = 0
    safe_sequence: int = 0
    written: int = 0
    skipped: dict[str, int] = field(default_factory=dict)

    @property
    def dealt_with(self) -> int:
        """Entries of which it is known what became of them."""
        return self.written + sum(self.skipped.values())


class SinkReport(Struct, frozen=True):
    """What a sink last told a queue about its source.

    Attributes:
        sequence: as in `Progress`, like `safe_sequence`, `written` and `skipped`.
        mark: what the sink wants to be told should its own state be lost (`Sink.mark`).
        trouble: what keeps it from going on, or None.
    """

    sequence: int
    safe_sequence: int
    written: int
    skipped: dict[str, int]
    mark: str
    trouble: str | None


class Memory(Struct, frozen=True):
    """What a queue knows of a sink, should the sink's own state be lost.

    Attributes:
        source: whose entries it is about.
        report: what the sink said last; None when it never did.
        read: the next batches after a sequence; none at the end.
    """

    source: str
    report: SinkReport | None
    read: Callable[[int], Sequence[Batch]]


class Feed(Protocol):
    """A queue, as the consumer of one sink sees it; one thread calls it."""

    def wait_for_assignment(self, stop: threading.Event) -> bool:
        """Wait until this consumer may read, and write what it reads; False if `stop` was set before.

        A sink is opened after this and closed before the next call, because somebody else may write in between.
        """
        ...

    def memory(self) -> Memory | None:
        """What the queue knows about a sink that begins; None for a queue that can't be read at will."""
        ...

    def read(self, positions: Mapping[str, Progress]) -> Sequence[Batch]:
        """The next batches after those positions, ascending within each source; none when there are none now.

        Raises:
            AssignmentLostError: another consumer continues with what was read, in whole or in part.
            OSError: the queue can't be reached; try again later.
            DamagedQueueError: something in the queue is not what was written.
        """
        ...

    def report(self, positions: Mapping[str, Progress], trouble: str | None, mark: str) -> None:
        """Note how far the sink has come, and why it can't write; a report that is lost is replaced by the next.

        Args:
            positions: the sink's, by source.
            trouble: why it can't write now, or None.
            mark: `Sink.mark()`.
        """
        ...

    def rest(self, seconds: float, stop: threading.Event) -> None:
        """Wait for that time, or until `stop`; the queue may use the time for its own upkeep."""
        ...

    def may_stop(self, positions: Mapping[str, Progress]) -> bool:
        """Whether a consumer that was told to stop is done: it has what was in the queue at the first call of this."""
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
    """The way into a broker; one thread calls it."""

    def publish(self, key: str, value: bytes) -> None:
        """Publish one message. On return it is as safe as the broker makes anything.

        Messages of one key go to one partition, in the order of the calls.

        Raises:
            OSError: nobody knows whether the message is there. Publish it again before any other of its key; it may be
                there twice then.
        """
        ...

    def close(self) -> None: ...


class Subscription(Protocol):
    """The way out of a broker for the consumers of one sink, each partition to one of them at a time.

    One thread calls it.
    """

    def wait_for_assignment(self, stop: threading.Event) -> bool:
        """Wait until this consumer has partitions: some, or all of them if it is exclusive.

        Reading begins at the last offset of `resume_at`, or at the first message that is kept if there is none. If
        another consumer has the partitions, one WARNING says so.

        Returns:
            False when `stop` was set before.
        """
        ...

    def poll(self, timeout_s: float, *, is_full: bool) -> Sequence[Message]:
        """The next messages, ascending within each partition; none when none came in time.

        It must be called every few seconds, or the broker takes the consumer for dead.

        Args:
            timeout_s: how long to wait for the first.
            is_full: return none, because the caller has enough; only keep the assignment.

        Raises:
            AssignmentLostError: this consumer no longer has the partitions that `wait_for_assignment` waited for.
            OSError: the broker can't be reached.
        """
        ...

    def rewind(self, partition: int) -> None:
        """Read again from the first message that the broker has kept."""
        ...

    def resume_at(self, partition: int, offset: int) -> None:
        """Tell the broker where the next consumer may begin; a hint, which may be lost.

        Raises:
            OSError, AssignmentLostError: as `poll`.
        """
        ...

    def lag(self) -> int:
        """How many messages of its partitions it has not returned yet, as far as is known."""
        ...

    def close(self) -> None:
        """Release the partitions at once."""
        ...
