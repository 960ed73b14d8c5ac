"""How many requests for reports were refused, counted by several processes of one service together."""

import mmap
from typing import Final

REASONS: Final = ("not_local", "no_token", "wrong_token", "rate_limited")

_BYTES_EACH: Final = 8


class RefusalCounts:
    """Counts by reason, in memory that a process shares with all that it forks.

    Each writer has counts of its own, so that nobody waits for anybody, and a writer that is killed holds up nobody.
    They begin at zero when the service starts, and go on where they were when one of its processes starts again.

    Args:
        writers: how many processes count.
    """

    def __init__(self, writers: int = 1) -> None:
        self._counts = memoryview(mmap.mmap(-1, writers * len(REASONS) * _BYTES_EACH)).cast("Q")

    def count(self, reason: str, writer: int = 0) -> None:
        """Count one more; `writer` is the caller's own number, from 0 on."""
        self._counts[writer * len(REASONS) + REASONS.index(reason)] += 1

    def totals(self) -> dict[str, int]:
        """By reason, of all writers together."""
        return {reason: sum(self._counts[number :: len(REASONS)]) for number, reason in enumerate(REASONS)}
