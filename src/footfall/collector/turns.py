"""Whose input is parsed next: one connection in a turn of the event loop, and the senders in rotation.

So whoever has a thousand connections is served no more often than whoever has one. A sender for which the application
has no room is passed over until it has.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """Who waits for its turn."""

    def take_turn(self) -> None:
        """It is its turn now; it may wait for another one."""
        ...


_Waiting = TypeVar("_Waiting", bound=Waiting)


class Turns(Generic[_Waiting]):
    """All methods are for the loop's thread.

    Args:
        has_room: whether input of a sender may be parsed now.
        when_room: calls once, when that may have changed.
    """

    def __init__(self, has_room: Callable[[str | None], bool], when_room: Callable[[Callable[[], None]], None]) -> None:
        self._has_room = has_room
        self._when_room = when_room
        self._loop = asyncio.get_running_loop()
        self._ready: dict[str | None, deque[_Waiting]] = {}  # whoever is next comes first
        self._held: dict[str | None, deque[_Waiting]] = {}
        self._is_scheduled = False

    def wait(self, sender: str | None, waiting: _Waiting) -> None:
        """Have its `take_turn` called when it is its turn, and never at once."""
        queue = self._held.get(sender) or self._ready.get(sender)
        if queue is None:
            self._ready[sender] = deque([waiting])
            self._schedule()
        else:
            queue.append(waiting)

    def _schedule(self) -> None:
        if self._ready and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        try:
            self._serve_one()
        finally:
            self._is_scheduled = False
            self._schedule()

    def _serve_one(self) -> None:
        while self._ready:
            sender = next(iter(self._ready))
            queue = self._ready.pop(sender)
            if self._has_room(sender):
                waiting = queue.popleft()
                if queue:
                    self._ready[sender] = queue
                waiting.take_turn()
                return
            if not self._held:
                self._when_room(self._release)
            self._held[sender] = queue

    def _release(self) -> None:
        self._ready.update(self._held)
        self._held.clear()
        self._schedule()
