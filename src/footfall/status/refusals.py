"""Counts refused requests for reports, over all processes of one service."""

import mmap
from typing import Final

REASONS: Final = ("not_local", "no_token", "wrong_token", "rate_limited")

_BYTES_EACH: Final = 8


class RefusalCounts:
    """Counts by reason, in memory that a process shares with the processes that it forks.

    Each writer has its own counts. So no writer waits for another, and a writer that is killed blocks nobody. Counts
    begin at zero when the service starts. They are kept when one of its processes is restarted.

    Args:
        writers: how many processes count.
    """

    def __init__(self, writers: int = 1) -> None:
        self._counts = memoryview(mmap.mmap(-1, writers * len(REASONS) * _BYTES_EACH)).cast("Q")

    def count(self, reason: str, writer: int = 0) -> None:
        """Count one more refusal. `writer` is the caller's own number, counted from 0."""
        self._counts[writer * len(REASONS) + REASONS.index(reason)] += 1

    def totals(self) -> dict[str, int]:
        """The counts by reason, over all writers."""
        return {reason: sum(self._counts[number :: len(REASONS)]) for number, reason in enumerate(REASONS)}
