"""Which driver speaks to which broker. A driver is an extra, and is imported only where its broker is used."""

import importlib
from typing import Any, Final, cast
from urllib.parse import parse_qsl, urlsplit

from footfall.errors import BadSettingError
from footfall.extras import how_to_install
from footfall.queue.base import Publisher, Subscription

_DRIVERS: Final = {"kafka": "kafka", "amqp": "rabbitmq", "amqps": "rabbitmq"}
"""By the scheme of `queue.url`: the package beside this module, and the extra of the same name that it needs."""


def check_url(url: str) -> None:
    """Look whether a broker can be used, without asking it.

    Raises:
        BadSettingError: it can't; the text says what is allowed.
    """
    _driver(url).check_url(url)


def open_publisher(url: str) -> Publisher:
    """The way into the broker. Whether the broker is there shows at the first `publish`.

    Raises:
        BadSettingError: as `check_url`.
    """
    return cast(Publisher, _driver(url).open_publisher(url))


def open_subscription(url: str, group: str, *, is_exclusive: bool) -> Subscription:
    """The way out of the broker.

    Args:
        url: `queue.url`.
        group: the consumers that share the messages, or stand by for one another.
        is_exclusive: one of them has all messages; otherwise each has a part.

    Raises:
        BadSettingError: as `check_url`.
    """
    return cast(Subscription, _driver(url).open_subscription(url, group, is_exclusive=is_exclusive))


def place_of(url: str) -> tuple[str, str]:
    """The kind of broker, and the name in it: Kafka's topic, or what the names of RabbitMQ's streams begin with."""
    parts = urlsplit(url)
    kind = _DRIVERS[parts.scheme]
    name = parts.path.removeprefix("/") if kind == "kafka" else dict(parse_qsl(parts.query)).get("name", "footfall")
    return kind, name


def _driver(url: str) -> Any:  # noqa: ANN401 - a module
    extra = _DRIVERS[urlsplit(url).scheme]
    try:
        return importlib.import_module(f"footfall.queue.broker.{extra}")
    except ModuleNotFoundError as error:
        raise BadSettingError(f"queue.url: needs {error.name}; install it with: {how_to_install(extra)}") from None
