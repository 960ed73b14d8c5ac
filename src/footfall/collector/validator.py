"""Many events, judged a few in a turn of the loop: a thousand wrong ones would keep all others waiting for 80 ms."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from footfall.collector.http import Reply
from footfall.entry import ManyEvents

MAX_WAITING_BYTES: Final = 16 * 1024 * 1024
"""Of bodies that wait for their judgement, together."""
_A_TURN: Final = 10
"""Less than 1 ms, even where all are wrong in every field."""

Judged = Callable[[ManyEvents, int, Reply], None]
"""Called once, with the size of the body in bytes and where the answer goes."""


class Validator:
    """All methods are for the loop's thread.

    Args:
        on_judged: takes what has been judged to its end.
    """

    def __init__(self, on_judged: Judged) -> None:
        self._on_judged = on_judged
        self._waiting: deque[tuple[ManyEvents, int, Reply]] = deque()
        self._waiting_bytes = 0

    def take(self, many: ManyEvents, size: int, reply: Reply) -> bool:
        """Validate them, at once if they are few and nobody waits; False when too much waits already."""
        if not self._waiting and many.judge(_A_TURN):
            self._on_judged(many, size, reply)
            return True
        if self._waiting_bytes + size > MAX_WAITING_BYTES:
            return False
        self._wait(many, size, reply)
        return True

    def _wait(self, many: ManyEvents, size: int, reply: Reply) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._judge_some)
        self._waiting.append((many, size, reply))
        self._waiting_bytes += size

    def _judge_some(self) -> None:
        """A few of the body that has waited longest; then it is the turn of the next."""
        many, size, reply = self._waiting.popleft()
        self._waiting_bytes -= size
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._judge_some)
        try:
            if many.judge(_A_TURN):
                self._on_judged(many, size, reply)
            else:
                self._wait(many, size, reply)
        except Exception:
            reply.abort()
            raise
