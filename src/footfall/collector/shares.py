"""Who has filled the queue: what each sender has brought into it of late, for when its room becomes scarce.

The last quarter of the queue's room is for those who did not take the rest. A sender is refused there if it has brought
a larger part of what came of late than is still free: the same rule as for what waits for a commit (`intake`), so the
less is free, the smaller a part still counts as a flood, and whoever sends little is taken until the queue is full.
Where there is nobody else to keep room for, nobody is refused.
"""

from collections.abc import Mapping
from typing import Final

SCARCE: Final = 0.25
"""The part of the queue's room below which it is scarce."""
MAX_SENDERS: Final = 10_000
_REMEMBERED_BYTES: Final = 256 * 1024 * 1024
"""After so many all count for half, so that a sender is known by what it did of late."""
_FORGOTTEN_BYTES: Final = 512


class Shares:
    """All methods are for one thread.

    Attributes:
        flooding: the senders for which there is no room, since what is left has to be kept for others.
    """

    def __init__(self) -> None:
        self._bytes: dict[str | None, int] = {}
        self._total = 0
        self.flooding: frozenset[str | None] = frozenset()

    def add(self, brought: Mapping[str | None, int], free: float) -> None:
        """Note what has been committed.

        Args:
            brought: bytes by sender.
            free: the part of the queue's room that is left.
        """
        for sender, size in brought.items():
            self._bytes[sender] = self._bytes.get(sender, 0) + size
            self._total += size
        while self._total > _REMEMBERED_BYTES or len(self._bytes) > MAX_SENDERS:
            self._bytes = {sender: size // 2 for sender, size in self._bytes.items() if size >= _FORGOTTEN_BYTES}
            self._total = sum(self._bytes.values())
        self.flooding = frozenset()
        if free < SCARCE and len(self._bytes) > 1:
            most = free * self._total
            self.flooding = frozenset(sender for sender, size in self._bytes.items() if size > most)
