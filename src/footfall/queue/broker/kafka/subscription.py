"""The way out of Kafka, by a consumer group."""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from footfall.errors import AssignmentLostError
from footfall.queue.base import Message
from footfall.queue.broker.kafka.address import Address
from footfall.queue.broker.kafka.client import ANSWER_S, Reachability, consumer_settings
from footfall.queue.broker.kafka.topic import PARTITIONS, provide_topic

_STEP_S: Final = 0.2
"""How soon a wait notices that it is to stop."""
_RETRY_S: Final = 1.0
_STANDBY_S: Final = 3.0
"""A consumer that waits for longer than partitions take to change hands waits for another consumer."""
_PAUSE_S: Final = 1.0
"""A pause throws away what librdkafka has fetched, so a short rest is no pause."""
_MANY: Final = 32
"""How many messages one `poll` returns at most."""

_log = logging.getLogger(__name__)


class KafkaSubscription:
    """A `Subscription`.

    The callbacks take note of what the group assigns and revokes; either ends the assignment. Only
    `wait_for_assignment` begins to read, from the offsets that were committed last.
    """

    def __init__(self, address: Address, group: str, *, is_exclusive: bool) -> None:
        self._address = address
        self._is_exclusive = is_exclusive
        self._group = f"{address.topic}.{group}"
        self._reachability = Reachability(address.servers)
        self._consumer = Consumer(consumer_settings(address, self._reachability, self._group))
        self._partitions = 0
        self._assigned: set[int] = set()
        self._is_member = False
        self._is_lost = False
        self._reading: list[TopicPartition] = []
        self._next: dict[int, int] = {}
        self._is_paused = False
        self._had_room_at = 0.0

    def wait_for_assignment(self, stop: threading.Event) -> bool:
        began = time.monotonic()
        has_said = False
        # The last assignment may not be over. What has arrived since then is to arrive again.
        self._end(self._consumer)
        while not stop.is_set():
            try:
                self._join()
                if self._assigned:
                    self._begin()
                    return True
            except (KafkaException, OSError) as error:
                self._reachability.lost(error)
                stop.wait(_RETRY_S)
                continue
            if self._is_member and not has_said and time.monotonic() - began > _STANDBY_S:
                _log.warning("another consumer has %s; standing by until it goes", self._group)
                has_said = True
        return False

    def _join(self) -> None:
        """Become a member of the group, step by step, and let the callbacks hear what it assigns."""
        if not self._partitions:
            topic = self._address.topic
            partitions = provide_topic(self._address, self._reachability, topic, PARTITIONS)
            if self._is_exclusive:
                topic = f"{self._group}.lock"
                provide_topic(self._address, self._reachability, topic, 1)
            self._consumer.subscribe(
                [topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            self._partitions = partitions
        self._consumer.poll(_STEP_S)
        if not self._is_member:
            self._ask()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._is_member = True
        self._assigned |= {partition.partition for partition in partitions}
        self._end(consumer)
        consumer.incremental_assign([])  # tells librdkafka that the assignment was heard

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._assigned -= {partition.partition for partition in partitions}
        self._end(consumer)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._is_member = False
        self._on_revoke(consumer, partitions)

    def _end(self, consumer: Consumer) -> None:
        self._is_lost = True
        consumer.incremental_unassign(self._reading)
        self._reading = []

    def _begin(self) -> None:
        numbers = range(self._partitions) if self._is_exclusive else sorted(self._assigned)
        places = self._consumer.committed([TopicPartition(self._address.topic, n) for n in numbers], timeout=ANSWER_S)
        for place in places:
            if place.error is not None:
                raise KafkaException(place.error)
            if place.offset < 0:
                place.offset = OFFSET_BEGINNING
        self._consumer.incremental_assign(places)
        self._reading = places
        self._next = {place.partition: place.offset for place in places}
        self._is_lost = False
        self._is_paused = False
        self._had_room_at = time.monotonic()

    def poll(self, timeout_s: float, *, is_full: bool) -> Sequence[Message]:
        if not is_full:
            self._had_room_at = time.monotonic()
        elif time.monotonic() - self._had_room_at < _PAUSE_S:
            time.sleep(timeout_s)
            return ()
        self._pause(is_wanted=is_full)
        first = self._consumer.poll(timeout_s)
        found = [] if first is None else [first, *self._consumer.consume(_MANY - 1, 0)]
        self._check_assignment()
        messages = []
        for message in found:
            partition, offset, error = message.partition(), message.offset(), message.error()
            if error is not None:
                self._reachability.on_error(error)
                self._reachability.is_suspect = True
            elif partition is not None and offset is not None:
                self._next[partition] = offset + 1
                messages.append(Message(partition, offset, message.value() or b""))
        if messages:
            self._reachability.found()
        elif self._reachability.is_suspect:
            self._ask()
        return messages

    def rewind(self, partition: int) -> None:
        place = TopicPartition(self._address.topic, partition, OFFSET_BEGINNING)
        if place not in self._reading:
            return  # the assignment is lost, as `poll` will say
        self._consumer.incremental_unassign([place])
        self._consumer.incremental_assign([place])
        if self._is_paused:
            self._consumer.pause([place])
        self._next[partition] = OFFSET_BEGINNING

    def resume_at(self, partition: int, offset: int) -> None:
        self._check_assignment()
        try:
            self._consumer.commit(offsets=[TopicPartition(self._address.topic, partition, offset)], asynchronous=True)
        except KafkaException as error:
            raise self._reachability.lost(error) from error

    def lag(self) -> int:
        return sum(self._lag_of(place) for place in self._reading)

    def close(self) -> None:
        self._consumer.close()

    def _pause(self, *, is_wanted: bool) -> None:
        if is_wanted != self._is_paused:
            (self._consumer.pause if is_wanted else self._consumer.resume)(self._reading)
            self._is_paused = is_wanted

    def _check_assignment(self) -> None:
        if self._is_lost:
            raise AssignmentLostError(f"Kafka assigns the partitions of {self._address.topic} anew")

    def _ask(self) -> None:
        """Find out whether the brokers answer.

        Raises:
            OSError: they don't.
        """
        try:
            self._consumer.list_topics(self._address.topic, timeout=_RETRY_S)
        except KafkaException as error:
            raise self._reachability.lost(error) from error
        self._reachability.found()

    def _lag_of(self, place: TopicPartition) -> int:
        """As of the last answer, whether it brought messages or not; 0 before the first."""
        low, high = self._consumer.get_watermark_offsets(place, cached=True)
        return max(0, high - max(0, low, self._next[place.partition]))
