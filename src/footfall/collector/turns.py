"""Decides whose input is parsed next. Each turn of the event loop serves one connection, and senders take turns.

So a sender with a thousand connections is served no more often than a sender with one. A sender for which the
application has no room is passed over until there is room.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """A connection that waits for its turn."""

    def take_turn(self) -> None:
        """Called when its turn has come. It may then wait for another turn."""
        ...


_Waiting = TypeVar("_Waiting", bound=Waiting)


class Turns(Generic[_Waiting]):
    """All methods are for the loop's thread.

    Args:
        has_room: whether input of a sender may be parsed now.
        when_room: calls a function once, as soon as the answer of `has_room` may have changed.
    """

    def __init__(self, has_room: Callable[[str | None], bool], when_room: Callable[[Callable[[], None]], None]) -> None:
        self._has_room = has_room
        self._when_room = when_room
        self._loop = asyncio.get_running_loop()
        self._ready: dict[str | None, deque[_Waiting]] = {}  # whoever is next comes first
        self._held: dict[str | None, deque[_Waiting]] = {}
        self._is_scheduled = False

    def wait(self, sender: str | None, waiting: _Waiting) -> None:
        """Call the `take_turn` of `waiting` when its turn comes, but never during this call."""
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
