"""What every sink promises."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from footfall.entry import Entry, decode_entries
from footfall.errors import DamagedFileError
from footfall.queue.base import Batch, Progress, SinkReport

VISIT_LOG = "visit_log"
DATABASE = "database"
SINKS = (VISIT_LOG, DATABASE)
"""Every sink there is, by the name it has in the ledger. A queue keeps a batch until each of them has passed it."""

UNREADABLE = "unreadable"
"""Why every sink skips the entries of a batch that the disk has damaged."""
LOST = "lost"
"""Why a sink skips entries that it never got, and will not: the disk has damaged the queue, or the sink's own state."""
DUPLICATE = "duplicate"
"""Why a sink that counts events skips one whose `event_id` it has."""
CONFLICT = "conflict"
"""The same, where the one that it has came from another address: that client moved, or somebody guessed the id."""


class Sink(Protocol):
    """Takes batches and keeps its position together with its output.

    One thread of one process calls `write`; whoever builds a sink holds its lock. `progress` may be called from that
    thread alone, too. After an exception from `write` either all of the call is in the output or none of it counts:
    the caller asks `progress` again and goes on from there, on the same object or on a new one.
    """

    name: str

    def progress(self) -> Mapping[str, Progress]:
        """Where it stands, by source, as its durable state says."""
        ...

    def mark(self) -> str:
        """Where the output ends, in words of its own: kept by the queue, should the sink's own state be lost."""
        ...

    def resume(self, source: str, report: SinkReport | None, read: Callable[[int], Sequence[Batch]]) -> None:
        """Before the first `write`: find out what of a source is in the output, though the state may not say so.

        Args:
            source: the queue's.
            report: what the queue knows of this sink.
            read: the queue's next batches after a sequence; none at the end.

        Raises:
            OSError, DamagedFileError: as `write`. After an OSError it is to be called again.
        """
        ...

    def write(self, batches: Sequence[Batch]) -> None:
        """Bring `batches`, ascending within each source, into the output and move the position, as one step.

        A batch at or before the position is passed over: it is in the output already.

        Raises:
            OSError: the output can't be written now; try again later.
            DamagedFileError: going on would not be safe.
        """
        ...

    def close(self) -> None:
        """Let go of files and locks; all that was written is safe before this, too."""
        ...


def past(batches: Sequence[Batch], positions: Mapping[str, Progress]) -> list[Batch]:
    """Those of `batches` that are past the positions, each once."""
    reached = {source: progress.sequence for source, progress in positions.items()}
    fresh = []
    for batch in batches:
        if batch.sequence > reached.get(batch.source, 0):
            reached[batch.source] = batch.sequence
            fresh.append(batch)
    return fresh


def missed_before(batch: Batch, progress: Progress) -> int:
    """How many entries came before a batch that a sink with that progress has not dealt with: they are `LOST`."""
    return max(0, batch.before - progress.dealt_with)


def entries_of(batch: Batch) -> list[Entry] | None:
    """What is in a batch; None where the disk has damaged it, and its entries are to be skipped as `UNREADABLE`.

    Raises:
        DamagedFileError: the bytes are those that were committed, but not by a Footfall that this one understands.
    """
    if batch.is_damaged:
        return None
    try:
        return decode_entries(batch.payload)
    except msgspec.DecodeError as error:
        raise unreadable(batch, error) from error


def unreadable(batch: Batch, error: msgspec.DecodeError) -> DamagedFileError:
    """What to raise for a batch whose bytes are those that were committed, and yet are no entries."""
    return DamagedFileError(
        f"batch {batch.sequence} of queue {batch.source} can't be read: {error}. Did a newer Footfall write it?"
    )
