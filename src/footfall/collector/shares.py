"""Keeps account of how much each sender has recently put into the queue, for when its room becomes scarce.

The last quarter of the queue's room is for senders that did not fill the rest. There, a sender is refused if its part
of the recent bytes is larger than the part of the queue that is still free. The rule for what waits for a commit
(`intake`) is the same. The less is free, the smaller the part that counts as a flood, and a sender that sends little is
accepted until the queue is full. If there is only one sender, it is not refused.
"""

from collections.abc import Mapping
from typing import Final

SCARCE: Final = 0.25
"""The part of the queue's room below which it is scarce."""
MAX_SENDERS: Final = 10_000
_REMEMBERED_BYTES: Final = 256 * 1024 * 1024
"""Beyond this total, all counts are halved, so that recent bytes count most."""
_FORGOTTEN_BYTES: Final = 512


class Shares:
    """All methods are for one thread.

    Attributes:
        flooding: the senders that are refused, because the room that is left is kept for others.
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
