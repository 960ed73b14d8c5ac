"""What an address of RabbitMQ says."""

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import pika

from footfall.errors import BadSettingError
from footfall.queue.broker.rabbitmq.connection import Connection

_HEARTBEAT_S: Final = "10"
_TLS_OPTIONS: Final = ("cacertfile", "certfile", "keyfile")
_OPTIONS: Final = ("name", "heartbeat", *_TLS_OPTIONS)


class Address(NamedTuple):
    """Which broker, as which user, and under which names."""

    host: str
    port: int
    vhost: str
    user: str
    password: str
    name: str
    heartbeat_s: int
    tls: ssl.SSLContext | None

    def __str__(self) -> str:
        return f"RabbitMQ at {self.host}:{self.port}"

    def stream(self, partition: int) -> str:
        """The name of the stream that holds a partition's messages."""
        return f"{self.name}-{partition}"

    def group_name(self, group: str, kind: str, number: int) -> str:
        """The name of what a group of consumers has: a lock, or a stream of offsets."""
        return f"{self.name}.{group}.{kind}-{number}"

    def connect(self, *, heartbeat_s: int = 0) -> Connection:
        """A connection.

        Args:
            heartbeat_s: how often to check that the other side lives; 0 for never, for one that rests for minutes.

        Raises:
            OSError: it can't be made.
        """
        return Connection(
            pika.ConnectionParameters(
                host=self.host,
                port=self.port,
                virtual_host=self.vhost,
                credentials=pika.PlainCredentials(self.user, self.password),
                heartbeat=heartbeat_s,
                ssl_options=None if self.tls is None else pika.SSLOptions(self.tls, self.host),
                tcp_options={"TCP_KEEPIDLE": 60},
                client_properties={"connection_name": "footfall"},
            )
        )


def parse(url: str) -> Address:
    """Take an address apart.

    Raises:
        BadSettingError: it has another form, an unknown option, or files for TLS that can't be used.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or (5671 if parts.scheme == "amqps" else 5672)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:  # its text may hold a piece of the password
        raise _bad_form() from None
    vhost = parts.path.removeprefix("/")
    if parts.scheme not in {"amqp", "amqps"} or not parts.hostname or "/" in vhost or parts.fragment:
        raise _bad_form()
    for option in options:
        if option not in _OPTIONS:
            raise BadSettingError(f"queue.url: there is no option {option}; known are: {', '.join(_OPTIONS)}")
    name = options.get("name", "footfall")
    if not (name.isascii() and name.isprintable() and 0 < len(name) <= 100):
        raise BadSettingError("queue.url: the option name must be 1 to 100 ASCII characters")
    heartbeat = options.get("heartbeat", _HEARTBEAT_S)
    if not re.fullmatch(r"[1-9][0-9]{0,2}", heartbeat):
        raise BadSettingError("queue.url: the option heartbeat must be 1 to 999 seconds")
    return Address(
        host=parts.hostname,
        port=port,
        vhost=unquote(vhost) or "/",
        user=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        name=name,
        heartbeat_s=int(heartbeat),
        tls=_tls(parts.scheme, options),
    )


def _bad_form() -> BadSettingError:
    return BadSettingError(
        "queue.url: must be amqp://user:password@host:5672/vhost, the port a number up to 65535, options as in "
        "?a=b&c=d, and a sign of / ? # [ ] in user, password or vhost written %2F %3F %23 %5B %5D"
    )


def _tls(scheme: str, options: Mapping[str, str]) -> ssl.SSLContext | None:
    if scheme == "amqp":
        for option in _TLS_OPTIONS:
            if option in options:
                raise BadSettingError(f"queue.url: the option {option} is for amqps://")
        return None
    for option in _TLS_OPTIONS:
        if option in options and not Path(options[option]).is_file():
            raise BadSettingError(f"queue.url: {option}: there is no file {options[option]}")
    try:
        context = ssl.create_default_context(cafile=options.get("cacertfile"))
        if "certfile" in options:
            context.load_cert_chain(options["certfile"], options.get("keyfile"))
    except (OSError, ValueError) as error:
        raise BadSettingError(f"queue.url: the files for TLS can't be used: {error}") from None
    return context
