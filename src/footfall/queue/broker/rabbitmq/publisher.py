"""The way into RabbitMQ."""

import zlib

from footfall.queue.broker.rabbitmq.address import Address
from footfall.queue.broker.rabbitmq.assignment import CONFIRM_S
from footfall.queue.broker.rabbitmq.connection import Connection
from footfall.queue.broker.rabbitmq.stream import MESSAGES, PARTITIONS, provide_stream


class RabbitPublisher:
    """A `Publisher`."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connection: Connection | None = None

    def publish(self, key: str, value: bytes) -> None:
        stream = self._address.stream(zlib.crc32(key.encode()) % PARTITIONS)
        try:
            self._publish(stream, value)
        except OSError as error:
            self.close()
            raise OSError(f"{self._address} did not take a message of {len(value)} bytes: {error}") from error

    def _publish(self, stream: str, value: bytes) -> None:
        if self._connect().publish([stream], value, CONFIRM_S):
            raise OSError(f"the stream {stream} is gone")

    def _connect(self) -> Connection:
        """A connection that was not lost since it was used last."""
        if self._connection is not None:
            try:
                self._connection.take_in()
            except OSError:
                self.close()
        if self._connection is None:
            self._connection = self._address.connect()
            for partition in range(PARTITIONS):
                provide_stream(self._connection, self._address.stream(partition), MESSAGES)
        return self._connection

    def close(self) -> None:
        """Nothing is waiting: `publish` returns when a message's fate is known."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
