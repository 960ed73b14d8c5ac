"""What the ledger says of a rebuilt database: all that the queue had received, up to the last batch that was taken."""

from collections import Counter
from typing import Final

from footfall.queue.base import Progress
from footfall.queue.sink import LOST, UNREADABLE

NOT_REBUILT: Final = "not_rebuilt"
"""Why the database skips entries that it once may have had: nothing was left to take them from."""


def settle(queue: Progress, log: Progress, *, received: int, older: int, lost: int) -> tuple[Progress, Progress]:
    """Account for the entries of the queue, and for lines of the log that no queue is known to have had.

    Args:
        queue: what became of the batches that were taken.
        log: what became of the lines that were taken.
        received: how many entries the queue had received by then.
        older: how many lines in the logs are this queue's, apart from those that its batches hold.
        lost: how many entries were known as lost before.

    Returns:
        the progress of the queue, and that of the log beyond it.
    """
    skipped = Counter(queue.skipped)
    # What the sink has missed, or could not read, the logs may have had.
    reasons = {LOST: min(lost, skipped.pop(LOST, 0)), UNREADABLE: skipped.pop(UNREADABLE, 0)}
    del skipped[NOT_REBUILT]  # it is counted again below
    missing = max(0, received - queue.written - skipped.total())
    room = min(missing, older)
    written = min(room, log.written)
    for reason, count in log.skipped.items():
        part = min(room - written, count)
        skipped[reason] += part
        room -= part
        missing -= part
    missing -= written
    for reason, count in reasons.items():
        skipped[reason] = min(missing, count)
        missing -= skipped[reason]
    skipped[NOT_REBUILT] += missing
    settled = Progress(queue.sequence, queue.sequence, queue.written + written, dict(+skipped))
    return settled, Progress(log.sequence, written=log.written - written)
