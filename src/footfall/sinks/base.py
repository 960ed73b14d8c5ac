"""What every sink promises."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from footfall.queue.base import Batch, Progress

VISIT_LOG = "visit_log"
DATABASE = "database"
SINKS = (VISIT_LOG, DATABASE)
"""Every sink there is, by the name it has in the ledger. A queue keeps a batch until each of them has passed it."""


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
