"""Where an application gives the answer to a request."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from footfall.collector.body import BodyStream
from footfall.collector.message import Response

if TYPE_CHECKING:
    from footfall.collector.connection import Connection


class Reply:
    """Takes the answer to one request, once, now or later.

    An application sets `alone`, while it handles the request, if the answer is made in a thread or in another process.
    The server then begins no other request of this client before the answer is there, so that a client has only one
    such answer in the making, however many it asks for.

    Attributes:
        wire: the answer; None until it is there.
        head_only: whether the answer has no body, because the request was HEAD.
        close: whether the connection closes after the answer.
        alone: whether the connection also closes after it if another request arrives before.
        stream: the body of the request, if the application takes it as it arrives.
    """

    __slots__ = ("_connection", "alone", "close", "head_only", "stream", "wire")

    def __init__(self, connection: "Connection", head_only: bool, close: bool) -> None:  # noqa: FBT001 - the hot path
        self._connection = connection
        self.stream: BodyStream | None = None
        self.wire: bytes | None = None
        self.head_only = head_only
        self.close = close
        self.alone = False

    def send(self, response: Response) -> None:
        connection = self._connection
        if self.stream is not None:
            self.close_if_unread()
        self.wire = response.wire(connection.server.date, self.head_only, self.close)
        connection.flush()

    def send_parts(self, on_gone: Callable[[], object]) -> None:
        """Say that the answer comes in parts, by `write` and `end`, unless it is sent whole or aborted after all.

        Args:
            on_gone: called once if the client goes away before all is sent.
        """
        self.alone = True
        self._connection.on_gone = on_gone

    async def write(self, part: bytes) -> None:
        """Send what comes next of the answer, head first, as soon as the client has taken most of what came before."""
        await self._connection.write(self, part)

    def close_if_unread(self) -> None:
        """Have the connection closed if the request has not come to its end; to be called before the head is made."""
        if self.stream is not None and not self.stream.is_whole:
            self.close = True

    def end(self) -> None:
        """What was written is the whole answer."""
        self.wire = b""
        self._connection.flush()

    def abort(self) -> None:
        """Close without an answer: what became of the request is not known."""
        self._connection.abort()

    def break_off(self) -> None:
        """Reset the connection: what was written is not the whole answer, and must not look so."""
        self._connection.reset()
