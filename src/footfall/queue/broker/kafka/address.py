"""What an address of Kafka says."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from footfall.errors import BadSettingError

PRODUCER_PROMISES: Final = {
    # The broker drops what this producer has sent before, and refuses what follows a gap.
    "enable.idempotence": True,
    "acks": "all",
    "message.timeout.ms": 10_000,
    "message.max.bytes": 32 * 1024 * 1024,
}
CONSUMER_PROMISES: Final = {
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    # A consumer keeps its partitions when another one joins the group.
    "partition.assignment.strategy": "cooperative-sticky",
    "group.protocol": "classic",
}
_RESERVED: Final = {*PRODUCER_PROMISES, *CONSUMER_PROMISES, "bootstrap.servers", "group.id", "error_cb", "logger"}
"""Options that an address can't set."""


class Address(NamedTuple):
    """Which brokers, which topic, and librdkafka's options."""

    servers: str
    topic: str
    options: Mapping[str, str]


def parse(url: str) -> Address:
    """Take an address apart.

    Raises:
        BadSettingError: it has another form, or sets an option that is Footfall's.
    """
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
        if option in _RESERVED:
            raise BadSettingError(f"queue.url: the option {option} can't be set")
    return Address(parts.netloc, topic, options)
