"""The body of a request that is passed on as it arrives, in bounded memory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

_FULL_BYTES: Final = 64 * 1024
"""How much may wait to be taken. Beyond it, the connection stops reading."""


class BodyStream:
    """The connection adds what arrives, and the application takes it.

    Args:
        on_taken: called when there is room again.

    Attributes:
        is_whole: whether the whole body has arrived.
        size: bytes that wait to be taken.
    """

    __slots__ = ("_awaited", "_on_taken", "_parts", "is_whole", "size")

    def __init__(self, on_taken: Callable[[], None]) -> None:
        self._on_taken = on_taken
        self._parts: list[bytes] = []
        self.size = 0
        self._awaited: asyncio.Future[None] | None = None
        self.is_whole = False

    @property
    def is_full(self) -> bool:
        """Whether something must be taken before more is added."""
        return self.size >= _FULL_BYTES

    def add(self, data: bytes) -> None:
        """Add what has arrived."""
        self._parts.append(data)
        self.size += len(data)
        self._wake()

    def end(self) -> None:
        """Nothing more arrives."""
        self.is_whole = True
        self._wake()

    async def parts(self) -> AsyncIterator[bytes]:
        """Take the body, at each step all that has arrived."""
        while True:
            if self._parts:
                part = b"".join(self._parts)
                self._parts.clear()
                self.size = 0
                self._on_taken()
                yield part
            elif self.is_whole:
                return
            else:
                self._awaited = asyncio.get_running_loop().create_future()
                await self._awaited

    def _wake(self) -> None:
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)
