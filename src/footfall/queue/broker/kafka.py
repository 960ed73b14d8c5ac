"""Kafka, through librdkafka.

Address: `kafka://host:9092[,host2:9092]/topic[?option=value&…]`. The options are librdkafka's
(https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md), such as `security.protocol` and
`sasl.username`, all but those that the promises below rest on.

The topic is made when it is not there, with

- 6 partitions, so many consumers can share it. **Never change their number**: a source would go on in another
  partition, and be read there before it is read to its end in the first. Take a new topic instead;
- 3 replicas, or as many as there are brokers; with 3, `min.insync.replicas` 2: a confirmed message outlives a broker;
- `retention.ms` 7 days: how long a consumer may be away;
- `max.message.bytes` 32 MiB: one batch is one message.

Who may not make topics has it made so by somebody else.

Kafka's consumer groups are `<topic>.<group>`, so that two Footfalls can use one Kafka. A consumer that is to have all
partitions holds a lock: the one partition of the topic `<topic>.<group>.lock`, which is made too and stays empty. Kafka
gives it to one member of the group, and that one reads all partitions of the topic.
"""

import logging
import re
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from footfall.errors import AssignmentLostError, BadSettingError
from footfall.queue.base import Message

PARTITIONS: Final = 6
REPLICAS: Final = 3
RETENTION_MS: Final = 7 * 24 * 60 * 60 * 1000
MAX_MESSAGE_BYTES: Final = 32 * 1024 * 1024

_CONFIRM_S: Final = 10.0
_ANSWER_S: Final = 5.0
"""What a question to the brokers may take."""
_GRACE_S: Final = 10.0
"""librdkafka gives a message up some time after `_CONFIRM_S`; beyond this it never will."""
_STEP_S: Final = 0.2
"""How soon a wait notices that it is to stop."""
_RETRY_S: Final = 1.0
_STANDBY_S: Final = 3.0
"""A consumer that waits for longer than partitions take to change hands waits for another consumer."""
_PAUSE_S: Final = 1.0
"""A pause throws away what librdkafka has fetched, so a short rest is no pause."""
_MANY: Final = 32
"""How many messages one `poll` gives at most."""

_PRODUCER_PROMISES: Final = {
    # The broker drops what it has had from this producer already, and refuses what comes after a gap.
    "enable.idempotence": True,
    "acks": "all",
    "message.timeout.ms": int(_CONFIRM_S * 1000),
    "message.max.bytes": MAX_MESSAGE_BYTES,
}
_PRODUCER_DEFAULTS: Final = {"compression.type": "zstd", "linger.ms": 0, "reconnect.backoff.max.ms": 1_000}
_CONSUMER_PROMISES: Final = {
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    # Whoever has a partition keeps it when another consumer comes.
    "partition.assignment.strategy": "cooperative-sticky",
    "group.protocol": "classic",
}
_CONSUMER_DEFAULTS: Final = {
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 2_000,
    "max.poll.interval.ms": 60_000,
    "queued.max.messages.kbytes": 16 * 1024,
    "fetch.queue.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1_000,
}
_OURS: Final = {*_PRODUCER_PROMISES, *_CONSUMER_PROMISES, "bootstrap.servers", "group.id", "error_cb", "logger"}
"""What an address can't set."""

_ABOUT_CONNECTIONS: Final = {"FAIL", "ERROR", "REQTMOUT", "GETPID", "CONFWARN"}
"""Kinds of librdkafka's messages: about what `_Link` says once, or of no consequence."""

_log = logging.getLogger(__name__)


class _Target(NamedTuple):
    """An address, taken apart."""

    servers: str
    topic: str
    options: Mapping[str, str]


def check_url(url: str) -> None:
    """Look whether an address can be used, without asking the broker.

    Raises:
        BadSettingError: it can't.
    """
    target = _parse(url)._replace(servers="")
    try:
        # librdkafka checks its options when it makes a client; one that knows no broker asks none.
        Producer(_producer_settings(target, _Link("")))
        Consumer(_consumer_settings(target, _Link(""), "group")).close()
    except (KafkaException, TypeError, AttributeError) as error:
        raise BadSettingError(f"queue.url: {_text(error)}") from None


def open_publisher(url: str) -> "KafkaPublisher":
    """A `Publisher`.

    Raises:
        BadSettingError: the address can't be used.
    """
    check_url(url)
    return KafkaPublisher(_parse(url))


def open_subscription(url: str, group: str, *, is_exclusive: bool) -> "KafkaSubscription":
    """A `Subscription`.

    Args:
        url: the address.
        group: the consumers that share, or wait for one another.
        is_exclusive: one consumer of the group has all partitions.

    Raises:
        BadSettingError: the address can't be used.
    """
    check_url(url)
    return KafkaSubscription(_parse(url), group, is_exclusive=is_exclusive)


def _parse(url: str) -> _Target:
    parts = urlsplit(url)
    topic = parts.path.removeprefix("/")
    if "@" in parts.netloc:
        raise BadSettingError("queue.url: user and password go into ?sasl.username=…&sasl.password=… for Kafka")
    if not parts.netloc or not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", topic) or topic in {".", ".."}:
        raise BadSettingError("queue.url: must be kafka://host:9092[,host2:9092]/topic, the topic of A-Z a-z 0-9 . _ -")
    try:
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise BadSettingError("queue.url: what follows the ? must be option=value&option=value") from None
    for option in options:
        if option in _OURS:
            raise BadSettingError(f"queue.url: the option {option} can't be set")
    return _Target(parts.netloc, topic, options)


class _LibraryLog:
    """Where librdkafka's own messages go."""

    def log(self, level: int, text: str, kind: str, *rest: object) -> None:
        _log.log(logging.DEBUG if kind in _ABOUT_CONNECTIONS else min(level, logging.WARNING), text, kind, *rest)


class _Link:
    """Whether brokers can be reached: says so once when it changes.

    Attributes:
        is_suspect: librdkafka has lost all connections. That may be for a moment only.
    """

    def __init__(self, servers: str) -> None:
        self.is_suspect = False
        self._servers = servers
        self._is_lost = False
        self._reason = ""

    def on_error(self, error: KafkaError) -> None:
        """Be told by librdkafka of what it gets over by itself."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - librdkafka's name for its own errors
            self.is_suspect = True
        else:
            self._reason = error.str()

    def lost(self, error: Exception | KafkaError) -> OSError:
        """Note that something did not get through; what to raise."""
        text = f"Kafka at {self._servers} does not answer: {self._reason or _text(error)}"
        if not self._is_lost:
            _log.warning("%s", text)
        self._is_lost = True
        return OSError(text)

    def found(self) -> None:
        """Note that something got through."""
        if self._is_lost:
            _log.warning("Kafka at %s answers again", self._servers)
        self._is_lost = False
        self.is_suspect = False
        self._reason = ""


def _text(error: Exception | KafkaError) -> str:
    cause = error.args[0] if isinstance(error, KafkaException) else error
    return cause.str().strip() if isinstance(cause, KafkaError) else str(cause)


def _settings(target: _Target, link: _Link) -> dict[str, Any]:
    servers = {"bootstrap.servers": target.servers} if target.servers else {}
    return {**target.options, **servers, "error_cb": link.on_error, "logger": _LibraryLog()}


def _producer_settings(target: _Target, link: _Link) -> dict[str, Any]:
    return _PRODUCER_DEFAULTS | _settings(target, link) | _PRODUCER_PROMISES


def _consumer_settings(target: _Target, link: _Link, group: str) -> dict[str, Any]:
    return _CONSUMER_DEFAULTS | _settings(target, link) | _CONSUMER_PROMISES | {"group.id": group}


def _provide_topic(target: _Target, link: _Link, topic: str, partitions: int) -> int:
    """Make a topic when it is not there; how many partitions it has.

    Raises:
        KafkaException, OSError: it can't be known to be there.
    """
    admin = AdminClient(_settings(target, link))
    # Asked for one topic alone, a broker may make it, and not as it is to be.
    cluster = admin.list_topics(timeout=_ANSWER_S)
    link.found()
    if topic in cluster.topics:
        return len(cluster.topics[topic].partitions)
    replicas = min(REPLICAS, len(cluster.brokers))
    settings = {
        "cleanup.policy": "delete",
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
        "min.insync.replicas": "2" if replicas == REPLICAS else "1",
        "retention.ms": str(RETENTION_MS),
    }
    made = admin.create_topics([NewTopic(topic, partitions, replicas, config=settings)], request_timeout=_ANSWER_S)
    try:
        made[topic].result(_ANSWER_S)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
    else:
        _log.info("made the topic %s: %d partitions, %d replicas", topic, partitions, replicas)
    return partitions


class KafkaPublisher:
    """A `Publisher`.

    A message that was not confirmed in time may still arrive. By then it was published again, or will be before any
    other of its key, so it is there twice at most, and never the first of its kind after a later one.
    """

    def __init__(self, target: _Target) -> None:
        self._target = target
        self._link = _Link(target.servers)
        self._has_topic = False
        self._producer: Producer | None = None

    def publish(self, key: str, value: bytes) -> None:
        try:
            if not self._has_topic:
                _provide_topic(self._target, self._link, self._target.topic, PARTITIONS)
                self._has_topic = True
            self._deliver(key, value)
        except (KafkaException, OSError) as error:
            self._has_topic = False
            raise self._link.lost(error) from error
        self._link.found()

    def _deliver(self, key: str, value: bytes) -> None:
        if self._producer is None:
            self._producer = Producer(_producer_settings(self._target, self._link))
        reports: list[KafkaError | None] = []
        try:
            self._producer.produce(self._target.topic, value, key, on_delivery=lambda error, _: reports.append(error))
            self._producer.flush(_CONFIRM_S + _GRACE_S)
        except KafkaException:
            self._producer = None  # it does not get over some errors
            raise
        if not reports:
            self._producer = None
            raise TimeoutError("librdkafka does not come to an end with a message")
        [error] = reports
        if error is None:
            return
        if error.code() != KafkaError._MSG_TIMED_OUT:  # noqa: SLF001 - librdkafka's name for its own errors
            self._producer = None
        raise KafkaException(error)

    def close(self) -> None:
        """Nothing waits: `publish` has seen every message to its end."""
        self._producer = None


class KafkaSubscription:
    """A `Subscription`.

    Whatever the group gives or takes is noted by the callbacks, and ends the turn. Only `wait_for_assignment` begins to
    read, from the offsets that were committed last.
    """

    def __init__(self, target: _Target, group: str, *, is_exclusive: bool) -> None:
        self._target = target
        self._is_exclusive = is_exclusive
        self._group = f"{target.topic}.{group}"
        self._link = _Link(target.servers)
        self._consumer = Consumer(_consumer_settings(target, self._link, self._group))
        self._partitions = 0
        self._given: set[int] = set()
        self._is_member = False
        self._is_over = False
        self._reading: list[TopicPartition] = []
        self._next: dict[int, int] = {}
        self._is_paused = False
        self._had_room_at = 0.0

    def wait_for_assignment(self, stop: threading.Event) -> bool:
        began = time.monotonic()
        has_said = False
        # The turn before may not be over; what has come since it began is to come again.
        self._end(self._consumer)
        while not stop.is_set():
            try:
                self._join()
                if self._given:
                    self._begin()
                    return True
            except (KafkaException, OSError) as error:
                self._link.lost(error)
                stop.wait(_RETRY_S)
                continue
            if self._is_member and not has_said and time.monotonic() - began > _STANDBY_S:
                _log.warning("another consumer has %s; waiting for it to go", self._group)
                has_said = True
        return False

    def _join(self) -> None:
        """Become a member of the group, step by step, and hear what it gives."""
        if not self._partitions:
            topic = self._target.topic
            partitions = _provide_topic(self._target, self._link, topic, PARTITIONS)
            if self._is_exclusive:
                topic = f"{self._group}.lock"
                _provide_topic(self._target, self._link, topic, 1)
            self._consumer.subscribe(
                [topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            self._partitions = partitions
        self._consumer.poll(_STEP_S)
        if not self._is_member:
            self._ask()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._is_member = True
        self._given |= {partition.partition for partition in partitions}
        self._end(consumer)
        consumer.incremental_assign([])  # that tells librdkafka that it has been heard

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._given -= {partition.partition for partition in partitions}
        self._end(consumer)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._is_member = False
        self._on_revoke(consumer, partitions)

    def _end(self, consumer: Consumer) -> None:
        self._is_over = True
        consumer.incremental_unassign(self._reading)
        self._reading = []

    def _begin(self) -> None:
        numbers = range(self._partitions) if self._is_exclusive else sorted(self._given)
        places = self._consumer.committed([TopicPartition(self._target.topic, n) for n in numbers], timeout=_ANSWER_S)
        for place in places:
            if place.error is not None:
                raise KafkaException(place.error)
            if place.offset < 0:
                place.offset = OFFSET_BEGINNING
        self._consumer.incremental_assign(places)
        self._reading = places
        self._next = {place.partition: place.offset for place in places}
        self._is_over = False
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
                self._link.on_error(error)
                self._link.is_suspect = True
            elif partition is not None and offset is not None:
                self._next[partition] = offset + 1
                messages.append(Message(partition, offset, message.value() or b""))
        if messages:
            self._link.found()
        elif self._link.is_suspect:
            self._ask()
        return messages

    def rewind(self, partition: int) -> None:
        place = TopicPartition(self._target.topic, partition, OFFSET_BEGINNING)
        if place not in self._reading:
            return  # the turn is over, as `poll` will say
        self._consumer.incremental_unassign([place])
        self._consumer.incremental_assign([place])
        if self._is_paused:
            self._consumer.pause([place])
        self._next[partition] = OFFSET_BEGINNING

    def resume_at(self, partition: int, offset: int) -> None:
        self._check_assignment()
        try:
            self._consumer.commit(offsets=[TopicPartition(self._target.topic, partition, offset)], asynchronous=True)
        except KafkaException as error:
            raise self._link.lost(error) from error

    def lag(self) -> int:
        return sum(self._lag_of(place) for place in self._reading)

    def close(self) -> None:
        self._consumer.close()

    def _pause(self, *, is_wanted: bool) -> None:
        if is_wanted != self._is_paused:
            (self._consumer.pause if is_wanted else self._consumer.resume)(self._reading)
            self._is_paused = is_wanted

    def _check_assignment(self) -> None:
        if self._is_over:
            raise AssignmentLostError(f"Kafka gives the partitions of {self._target.topic} out anew")

    def _ask(self) -> None:
        """Find out whether the brokers answer.

        Raises:
            OSError: they don't.
        """
        try:
            self._consumer.list_topics(self._target.topic, timeout=_RETRY_S)
        except KafkaException as error:
            raise self._link.lost(error) from error
        self._link.found()

    def _lag_of(self, place: TopicPartition) -> int:
        """As of the last answer that brought messages, or none; 0 before the first."""
        low, high = self._consumer.get_watermark_offsets(place, cached=True)
        return max(0, high - max(0, low, self._next[place.partition]))
