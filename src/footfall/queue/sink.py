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
"""All sinks, by their names in the ledger. A queue keeps a batch until every sink has passed it."""

UNREADABLE = "unreadable"
"""The reason to skip the entries of a batch that the disk has damaged; the same in every sink."""
LOST = "lost"
"""The reason for entries that a sink will never get, because the disk has damaged the queue or the sink's state."""
DUPLICATE = "duplicate"
"""The reason to skip an event whose `event_id` the sink has already."""
CONFLICT = "conflict"
"""Like `DUPLICATE`, but the first came from another address: the client moved, or somebody guessed the id."""

REMOVED = "removed"
"""Not a source, but kept with the positions of one: how many rows were removed again, by reason, as if skipped."""


class Sink(Protocol):
    """Takes batches and keeps its position together with its output.

    Only one thread of one process calls `write` and `progress`. Whoever builds a sink holds its lock. After an
    exception from `write`, either everything from that call is in the output, or nothing of it counts. The caller asks
    `progress` again and continues from there, with the same object or a new one.
    """

    name: str

    def progress(self) -> Mapping[str, Progress]:
        """The sink's position by source, as its durable state has it."""
        ...

    def mark(self) -> str:
        """Where the output ends, in a form of the sink's own. The queue keeps it in case the sink's state is lost."""
        ...

    def resume(self, source: str, report: SinkReport | None, read: Callable[[int], Sequence[Batch]]) -> None:
        """Find out which batches of a source are in the output, even if the state does not say so.

        Call it before the first `write`.

        Args:
            source: the queue's source.
            report: this sink's last report to the queue; None if there was none.
            read: returns the queue's next batches after a sequence; none at the end.

        Raises:
            OSError, DamagedFileError: as `write`. After an OSError, call it again.
        """
        ...

    def write(self, batches: Sequence[Batch]) -> None:
        """Write `batches`, ascending within each source, to the output and move the position, in one step.

        A batch at or before the position is left out, because it is in the output already.

        Raises:
            OSError: the output can't be written now; try again later.
            DamagedFileError: it would not be safe to go on.
        """
        ...

    def close(self) -> None:
        """Release files and locks. What was written is safe without this call, too."""
        ...


def past(batches: Sequence[Batch], positions: Mapping[str, Progress]) -> list[Batch]:
    """The batches that are past the positions, without repeats."""
    reached = {source: progress.sequence for source, progress in positions.items()}
    fresh = []
    for batch in batches:
        if batch.sequence > reached.get(batch.source, 0):
            reached[batch.source] = batch.sequence
            fresh.append(batch)
    return fresh


def missed_before(batch: Batch, progress: Progress) -> int:
    """How many entries before a batch a sink with that progress has not dealt with. They are `LOST`."""
    return max(0, batch.before - progress.dealt_with)


def entries_of(batch: Batch) -> list[Entry] | None:
    """The entries of a batch. None if the disk has damaged it; skip its entries as `UNREADABLE` then.

    Raises:
        DamagedFileError: the bytes are undamaged, but this version of Footfall does not understand them.
    """
    if batch.is_damaged:
        return None
    try:
        return decode_entries(batch.payload)
    except msgspec.DecodeError as error:
        raise unreadable(batch, error) from error


def unreadable(batch: Batch, error: msgspec.DecodeError) -> DamagedFileError:
    """The error for a batch whose bytes are undamaged but can't be decoded."""
    return DamagedFileError(
        f"batch {batch.sequence} of queue {batch.source} can't be read: {error}. Did a newer Footfall write it?"
    )
