"""What the publisher and the subscription have in common: a client's settings, and whether it reaches the brokers."""

import logging
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException

from footfall.queue.broker.kafka.address import CONSUMER_PROMISES, PRODUCER_PROMISES, Address

ANSWER_S: Final = 5.0
"""How long the brokers may take to answer a question."""

_PRODUCER_DEFAULTS: Final = {"compression.type": "zstd", "linger.ms": 0, "reconnect.backoff.max.ms": 1_000}
_CONSUMER_DEFAULTS: Final = {
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 2_000,
    "max.poll.interval.ms": 60_000,
    "queued.max.messages.kbytes": 16 * 1024,
    "fetch.queue.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1_000,
}
_ABOUT_CONNECTIONS: Final = {"FAIL", "ERROR", "REQTMOUT", "GETPID", "CONFWARN"}
"""Kinds of librdkafka's messages: about what `Reachability` says once, or of no consequence."""

_log = logging.getLogger(__name__)


class _LibraryLog:
    """Where librdkafka's own messages go."""

    def log(self, level: int, text: str, kind: str, *rest: object) -> None:
        _log.log(logging.DEBUG if kind in _ABOUT_CONNECTIONS else min(level, logging.WARNING), text, kind, *rest)


class Reachability:
    """Whether brokers can be reached; logs each change once.

    Attributes:
        is_suspect: librdkafka has lost all connections, perhaps for a moment only.
    """

    def __init__(self, servers: str) -> None:
        self.is_suspect = False
        self._servers = servers
        self._is_lost = False
        self._reason = ""

    def on_error(self, error: KafkaError) -> None:
        """Take note of an error that librdkafka recovers from by itself."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - librdkafka's name for its own errors
            self.is_suspect = True
        else:
            self._reason = error.str()

    def lost(self, error: Exception | KafkaError) -> OSError:
        """Note that something did not get through; returns what to raise."""
        text = f"Kafka at {self._servers} does not answer: {self._reason or text_of(error)}"
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


def text_of(error: Exception | KafkaError) -> str:
    cause = error.args[0] if isinstance(error, KafkaException) else error
    return cause.str().strip() if isinstance(cause, KafkaError) else str(cause)


def settings(address: Address, reachability: Reachability) -> dict[str, Any]:
    """What every client is given."""
    servers = {"bootstrap.servers": address.servers} if address.servers else {}
    return {**address.options, **servers, "error_cb": reachability.on_error, "logger": _LibraryLog()}


def producer_settings(address: Address, reachability: Reachability) -> dict[str, Any]:
    return _PRODUCER_DEFAULTS | settings(address, reachability) | PRODUCER_PROMISES


def consumer_settings(address: Address, reachability: Reachability, group: str) -> dict[str, Any]:
    return _CONSUMER_DEFAULTS | settings(address, reachability) | CONSUMER_PROMISES | {"group.id": group}
