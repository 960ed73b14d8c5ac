"""The way into Kafka."""

from typing import Final

from confluent_kafka import KafkaError, KafkaException, Producer

from footfall.queue.broker.kafka.address import Address
from footfall.queue.broker.kafka.client import Reachability, producer_settings
from footfall.queue.broker.kafka.topic import PARTITIONS, provide_topic

_FLUSH_S: Final = 20.0
"""librdkafka gives a message up some time after its `message.timeout.ms` of 10 s; beyond this it never will."""


class KafkaPublisher:
    """A `Publisher`.

    A message that was not confirmed in time may still arrive. By then it was published again, or will be before any
    other of its key, so it is there twice at most, and its first copy never comes after a later message of its key.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._reachability = Reachability(address.servers)
        self._has_topic = False
        self._producer: Producer | None = None

    def publish(self, key: str, value: bytes) -> None:
        try:
            if not self._has_topic:
                provide_topic(self._address, self._reachability, self._address.topic, PARTITIONS)
                self._has_topic = True
            self._deliver(key, value)
        except (KafkaException, OSError) as error:
            self._has_topic = False
            raise self._reachability.lost(error) from error
        self._reachability.found()

    def _deliver(self, key: str, value: bytes) -> None:
        if self._producer is None:
            self._producer = Producer(producer_settings(self._address, self._reachability))
        reports: list[KafkaError | None] = []
        try:
            self._producer.produce(self._address.topic, value, key, on_delivery=lambda error, _: reports.append(error))
            self._producer.flush(_FLUSH_S)
        except KafkaException:
            self._producer = None  # it does not recover from some errors
            raise
        if not reports:
            self._producer = None
            raise TimeoutError(f"librdkafka says nothing of a message within {_FLUSH_S:g} s")
        [error] = reports
        if error is None:
            return
        if error.code() != KafkaError._MSG_TIMED_OUT:  # noqa: SLF001 - librdkafka's name for its own errors
            self._producer = None
        raise KafkaException(error)

    def close(self) -> None:
        """Nothing is waiting: `publish` returns when a message's fate is known."""
        self._producer = None
