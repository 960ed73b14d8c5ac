"""A bound on the memory of many holders: when they exceed it, the one that has held some for longest gives way."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_Holder = TypeVar("_Holder", bound=Hashable)


class MemoryBudget(Generic[_Holder]):
    """All methods are for one thread.

    Args:
        limit: bytes, for all holders together.
        give_up: called when they hold more, with the one that has held some for longest.
    """

    def __init__(self, limit: int, give_up: Callable[[_Holder], None]) -> None:
        self._limit = limit
        self._give_up = give_up
        self._total = 0
        self._sizes: dict[_Holder, int] = {}

    def hold(self, holder: _Holder, size: int) -> None:
        """Note that a holder has `size` bytes from now on."""
        self._total += size - self._sizes.get(holder, 0)
        self._sizes[holder] = size
        while self._total > self._limit:
            longest = next(iter(self._sizes))
            self.release(longest)
            self._give_up(longest)

    def release(self, holder: _Holder) -> None:
        self._total -= self._sizes.pop(holder, 0)
