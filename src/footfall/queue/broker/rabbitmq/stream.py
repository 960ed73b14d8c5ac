"""Streams: how they are created, what their last message is, and how one is read."""

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from footfall.errors import BadSettingError
from footfall.queue.base import Message
from footfall.queue.broker.rabbitmq.connection import Connection, Consumption, RefusedError

PARTITIONS: Final = 6
MESSAGES: Final = {
    "x-queue-type": "stream",
    "x-max-age": "7D",
    "x-stream-max-segment-size-bytes": 64 * 1024 * 1024,
}
"""What a stream of messages is created with."""
OFFSETS: Final = {
    "x-queue-type": "stream",
    "x-max-length-bytes": 100_000,
    "x-stream-max-segment-size-bytes": 50_000,
}
"""What a stream of offsets is created with."""

_PREFETCH: Final = 16
"""How many messages of each stream wait here. Most are at most 1 MiB; one that is a single batch can be larger."""
_PRECONDITION_FAILED: Final = 406

_log = logging.getLogger(__name__)


def provide_stream(connection: Connection, name: str, arguments: Mapping[str, Any]) -> int:
    """Create a stream if it does not exist; returns how many messages it says it holds.

    Raises:
        BadSettingError: the broker has no streams, or something else under that name.
        OSError: it can't be created.
    """
    try:
        return connection.declare(name, arguments, is_exclusive=False)
    except RefusedError as error:
        if error.code != _PRECONDITION_FAILED:
            raise
        if "x-queue-type" in str(error):
            raise BadSettingError(
                f"queue.url: RabbitMQ can't have {name} as a stream: {error}. Footfall needs RabbitMQ 3.9 or newer, "
                "with its feature flags enabled (rabbitmqctl enable_feature_flag all). Delete or rename a queue of "
                "another type under that name, or take another name with ?name=…"
            ) from None
        _log.debug("%s has other limits than Footfall's, which may be what somebody wants: %s", name, error)
        return 0


class LastMessage:
    """A look at the last message of a stream.

    Attributes:
        offset: of the first among the last messages that were stored together; None as long as nothing was shown.
        body: its bytes.
    """

    def __init__(self, connection: Connection, stream: str, *, is_expected: bool) -> None:
        self.offset: int | None = None
        self.body = b""
        self._is_expected = is_expected
        self._consumption = connection.consume(stream, self._see, offset="last", prefetch=1)

    def is_seen(self) -> bool:
        return self.offset is not None

    def is_settled(self) -> bool:
        return self.is_seen() or not self._is_expected

    def close(self) -> None:
        self._consumption.close()

    def _see(self, offset: int, tag: int, body: bytes) -> None:
        del tag
        self.offset, self.body = offset, body
        self.close()


class StreamReader:
    """One stream as this consumer reads it.

    Attributes:
        next: the offset after the last message that was given.
    """

    def __init__(self, connection: Connection, stream: str, partition: int) -> None:
        self.next = 0
        is_expected = provide_stream(connection, stream, MESSAGES) > 0
        self.last = LastMessage(connection, stream, is_expected=is_expected)
        self._connection = connection
        self._stream = stream
        self._partition = partition
        self._waiting: deque[tuple[int, Message]] = deque()
        self._consumption: Consumption | None = None

    def begin(self, offset: int | None) -> None:
        """Read from an offset, or from the first message that is kept.

        Raises:
            OSError: the connection is lost.
        """
        if self._consumption is not None:
            self._consumption.close()
        self._waiting.clear()
        self.next = offset or 0
        self._consumption = self._connection.consume(
            self._stream, self._keep, offset="first" if offset is None else offset, prefetch=_PREFETCH
        )

    def look_again(self) -> None:
        """Ask the broker what the last message is now.

        Raises:
            OSError: the connection is lost.
        """
        self.last.close()
        self.last = LastMessage(self._connection, self._stream, is_expected=False)

    def has_messages(self) -> bool:
        return bool(self._waiting)

    def take(self) -> Sequence[Message]:
        """What is waiting; the broker may send as much again."""
        if not self._waiting or self._consumption is None:
            return ()
        self._consumption.acknowledge(self._waiting[-1][0])
        messages = [message for _, message in self._waiting]
        self._waiting.clear()
        self.next = messages[-1].offset + 1
        return messages

    def lag(self) -> int:
        """How many messages were not given yet, as far as is known. Some offsets have no message."""
        known = [message.offset for _, message in self._waiting]
        if self.last.offset is not None:
            known.append(self.last.offset)
        return max(0, max(known, default=-1) + 1 - self.next)

    def close(self) -> None:
        """Read no more."""
        self.last.close()
        if self._consumption is not None:
            self._consumption.close()

    def _keep(self, offset: int, tag: int, body: bytes) -> None:
        self._waiting.append((tag, Message(self._partition, offset, body)))
