"""RabbitMQ (3.9 or newer), by its streams.

Address: `amqp://user:password@host:5672/vhost[?option=value&…]`, or `amqps://` for TLS. Without a vhost it is `/`,
which can also be written `%2F`. Options:

- `name`: what the names of everything below begin with, `footfall` by default;
- `heartbeat`: seconds, 10 by default. A consumer that is silent for up to twice as long is taken for dead, and its
  streams go to another; a write that takes longer is finished, and then waits for its turn again;
- `cacertfile`, `certfile`, `keyfile`: PEM files for TLS, where the system's authorities do not know the broker, or the
  broker wants to know its clients.

Footfall makes what it needs. Streams that somebody made before, to be kept otherwise, are taken as they are:

- 6 streams, `<name>-0` to `<name>-5`; the messages of a key are all in the one that its CRC-32 says. They keep 7 days
  (`x-max-age`) in segments of 64 MiB. A stream gives up whole segments only, so each keeps one at least, however old;
- for each group of consumers and each stream another one, `<name>.<group>.resume-<number>`, whose last message is the
  offset where the next consumer may begin, as text; it keeps some 100 KiB;
- *locks*: queues that are exclusive to a connection, and gone with it. Nobody else can make one of the same name, and
  whether it is there shows when a message to it does not come back. `<name>.<group>.member-<number>` numbers the
  consumers: one that is to have all streams for itself takes number 0 or waits. Those that share have the streams whose
  number, modulo how many they are, is their rank. `<name>.<group>.holder-<number>` makes sure of each stream.

A message is one batch, of 32 MiB at most. RabbitMQ 3 takes 128 MiB; in RabbitMQ 4 `max_message_size` is 16 MiB unless
it is raised. A stream's messages are confirmed when most of its nodes have written them, which is not yet synced. And a
node (seen with 3.10) that is killed within 5 s after it made the first stream of its life has forgotten all streams.

**Quorum and classic queues can't take the streams' place**, so a broker without streams is refused. A queue forgets
what was acknowledged, and has one position for all who read it. Each group would need a queue of its own, made before
the first message; none could read again what a restored backup lacks; and messages that a consumer had not dealt with
come back to the next one after later ones of their key.
"""

import logging
import re
import ssl
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import pika

from footfall.errors import AssignmentLostError, BadSettingError
from footfall.queue.base import Message
from footfall.queue.broker.amqp import BlockedError, Connection, Consumption, RefusedError

PARTITIONS: Final = 6

_HEARTBEAT_S: Final = "10"
_CONFIRM_S: Final = 10.0
_STEP_S: Final = 0.25
"""How soon a wait notices that it is to stop, and that something has become free."""
_RETRY_S: Final = 1.0
_PATIENCE_S: Final = 3.0
"""A consumer that waits for longer than streams take to change hands waits for another consumer."""
_CHECK_S: Final = 1.0
"""From one look at how many consumers share to the next."""
_HINT_S: Final = 1.0
"""From one note of where to resume to the next."""
_LAG_S: Final = 5.0
"""From one look at a stream's end to the next, while there is more than the consumer takes."""
_LAST_S: Final = 1.0
"""How long a stream that says it is empty may take to show that it is not."""
_PREFETCH: Final = 16
"""Messages of each stream that wait here; one is 1 MiB at most, but for the largest batches."""

_STREAM: Final = {
    "x-queue-type": "stream",
    "x-max-age": "7D",
    "x-stream-max-segment-size-bytes": 64 * 1024 * 1024,
}
_RESUME: Final = {
    "x-queue-type": "stream",
    "x-max-length-bytes": 100_000,
    "x-stream-max-segment-size-bytes": 50_000,
}
_LOCK: Final = {"x-max-length": 0}

_PRECONDITION_FAILED: Final = 406
_RESOURCE_LOCKED: Final = 405

_TLS_OPTIONS: Final = ("cacertfile", "certfile", "keyfile")
_OPTIONS: Final = ("name", "heartbeat", *_TLS_OPTIONS)

_log = logging.getLogger(__name__)


class _Target(NamedTuple):
    """An address, taken apart."""

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
        return f"{self.name}-{partition}"

    def connect(self, *, heartbeat_s: int = 0) -> Connection:
        """A connection.

        Args:
            heartbeat_s: how often to look whether the other side lives; never, for one that rests for minutes.

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


def check_url(url: str) -> None:
    """Look whether an address can be used, without asking the broker.

    Raises:
        BadSettingError: it can't.
    """
    _parse(url)


def open_publisher(url: str) -> "RabbitPublisher":
    """A `Publisher`.

    Raises:
        BadSettingError: the address can't be used.
    """
    return RabbitPublisher(_parse(url))


def open_subscription(url: str, group: str, *, is_exclusive: bool) -> "RabbitSubscription":
    """A `Subscription`.

    Args:
        url: the address.
        group: the consumers that share the streams, or wait for one another.
        is_exclusive: one consumer of the group has all streams.

    Raises:
        BadSettingError: the address can't be used.
    """
    return RabbitSubscription(_parse(url), group, is_exclusive=is_exclusive)


def _parse(url: str) -> _Target:
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
    return _Target(
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


def _provide_stream(connection: Connection, name: str, arguments: Mapping[str, Any]) -> int:
    """Make a stream when it is not there; how many messages it says it holds.

    Raises:
        BadSettingError: the broker has no streams, or something else under that name.
        OSError: it can't be made.
    """
    try:
        return connection.declare(name, arguments, is_exclusive=False)
    except RefusedError as error:
        if error.code != _PRECONDITION_FAILED:
            raise
        if "x-queue-type" in str(error):
            raise BadSettingError(
                f"queue.url: RabbitMQ can't have {name} as a stream: {error}. Footfall needs RabbitMQ 3.9 or newer, "
                "with its feature flags enabled (rabbitmqctl enable_feature_flag all). A queue of another type under "
                "that name must go, or take another name with ?name=…"
            ) from None
        _log.debug("%s is kept otherwise than Footfall would, which is somebody's wish: %s", name, error)
        return 0


class RabbitPublisher:
    """A `Publisher`."""

    def __init__(self, target: _Target) -> None:
        self._target = target
        self._connection: Connection | None = None

    def publish(self, key: str, value: bytes) -> None:
        stream = self._target.stream(zlib.crc32(key.encode()) % PARTITIONS)
        try:
            self._publish(stream, value)
        except OSError as error:
            self.close()
            raise OSError(f"{self._target} did not take a message of {len(value)} bytes: {error}") from error

    def _publish(self, stream: str, value: bytes) -> None:
        if self._connect().publish([stream], value, _CONFIRM_S):
            raise OSError(f"the stream {stream} is gone")

    def _connect(self) -> Connection:
        """A connection that was not lost since it was used last."""
        if self._connection is not None:
            try:
                self._connection.take_in()
            except OSError:
                self.close()
        if self._connection is None:
            self._connection = self._target.connect()
            for partition in range(PARTITIONS):
                _provide_stream(self._connection, self._target.stream(partition), _STREAM)
        return self._connection

    def close(self) -> None:
        """Nothing waits: `publish` has seen every message to its end."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class _Last:
    """A look at the last message of a stream.

    Attributes:
        offset: of the first among the last that were stored together; None as long as nothing was shown.
        body: its bytes.
    """

    def __init__(self, connection: Connection, stream: str, *, is_expected: bool) -> None:
        self.offset: int | None = None
        self.body = b""
        self._is_expected = is_expected
        self._looking = connection.consume(stream, self._see, offset="last", prefetch=1)

    def is_seen(self) -> bool:
        return self.offset is not None

    def is_settled(self) -> bool:
        return self.is_seen() or not self._is_expected

    def close(self) -> None:
        self._looking.close()

    def _see(self, offset: int, tag: int, body: bytes) -> None:
        del tag
        self.offset, self.body = offset, body
        self.close()


class _Reader:
    """One stream as this consumer reads it.

    Attributes:
        next: the offset after the last message that was given.
    """

    def __init__(self, connection: Connection, stream: str, partition: int) -> None:
        self.next = 0
        self.last = _Last(connection, stream, is_expected=_provide_stream(connection, stream, _STREAM) > 0)
        self._connection = connection
        self._stream = stream
        self._partition = partition
        self._waiting: deque[tuple[int, Message]] = deque()
        self._reading: Consumption | None = None

    def begin(self, offset: int | None) -> None:
        """Read from an offset, or from the first message that is kept.

        Raises:
            OSError: the connection is lost.
        """
        if self._reading is not None:
            self._reading.close()
        self._waiting.clear()
        self.next = offset or 0
        self._reading = self._connection.consume(
            self._stream, self._keep, offset="first" if offset is None else offset, prefetch=_PREFETCH
        )

    def look_again(self) -> None:
        """Have the broker show what is the last message now.

        Raises:
            OSError: the connection is lost.
        """
        self.last.close()
        self.last = _Last(self._connection, self._stream, is_expected=False)

    def has_messages(self) -> bool:
        return bool(self._waiting)

    def take(self) -> Sequence[Message]:
        """What waits; the broker may send as much again."""
        if not self._waiting or self._reading is None:
            return ()
        self._reading.acknowledge(self._waiting[-1][0])
        messages = [message for _, message in self._waiting]
        self._waiting.clear()
        self.next = messages[-1].offset + 1
        return messages

    def lag(self) -> int:
        """How many messages were not given, as far as is known. Some offsets have no message."""
        known = [message.offset for _, message in self._waiting]
        if self.last.offset is not None:
            known.append(self.last.offset)
        return max(0, max(known, default=-1) + 1 - self.next)

    def close(self) -> None:
        """Read no more."""
        self.last.close()
        if self._reading is not None:
            self._reading.close()

    def _keep(self, offset: int, tag: int, body: bytes) -> None:
        self._waiting.append((tag, Message(self._partition, offset, body)))


class RabbitSubscription:
    """A `Subscription`.

    It has two connections. RabbitMQ hears nothing more from one that publishes when its disk or its memory is full, and
    a consumer is to go on then; so one has the locks and reads, and the other asks for locks and notes offsets.
    """

    def __init__(self, target: _Target, group: str, *, is_exclusive: bool) -> None:
        self._target = target
        self._group = group
        self._most_members = 1 if is_exclusive else PARTITIONS
        self._reading: Connection | None = None
        self._publishing: Connection | None = None
        self._member: int | None = None
        self._held: set[int] = set()
        self._readers: dict[int, _Reader] = {}
        self._resume: dict[int, int] = {}
        self._is_lost = False
        self._check_at = self._note_at = self._look_at = 0.0

    def wait_for_assignment(self, stop: threading.Event) -> bool:
        began = time.monotonic()
        has_said = False
        while not stop.is_set():
            try:
                reading, publishing = self._connect()
                self._stop_reading(publishing)
                is_late = time.monotonic() - began > _PATIENCE_S
                if self._take_locks(reading, publishing) or (is_late and self._held):
                    self._begin(reading)
                    return True
                if is_late and not has_said:
                    _log.warning("another consumer of %s has %s; waiting for it to go", self._group, self._target.name)
                    has_said = True
                reading.wait(lambda: False, _STEP_S)
            except OSError as error:
                self._disconnect()
                if not self._is_lost:
                    _log.warning("%s can't be used: %s", self._target, error)
                self._is_lost = True
                stop.wait(_RETRY_S)
                began = time.monotonic()
        return False

    def _connect(self) -> tuple[Connection, Connection]:
        if self._reading is None or self._publishing is None:
            self._reading = self._target.connect(heartbeat_s=self._target.heartbeat_s)
            self._publishing = self._target.connect()
            if self._is_lost:
                _log.warning("%s can be used again", self._target)
            self._is_lost = False
        return self._reading, self._publishing

    def _disconnect(self) -> None:
        """Let go of everything that was this consumer's."""
        self._readers.clear()
        self._resume.clear()
        self._held.clear()
        self._member = None
        for connection in (self._reading, self._publishing):
            if connection is not None:
                connection.close()
        self._reading = self._publishing = None

    def _stop_reading(self, publishing: Connection) -> None:
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        self._note_resume(publishing)

    def _take_locks(self, reading: Connection, publishing: Connection) -> bool:
        """Come closer to having the streams that are this consumer's; whether it has them all and no other."""
        if self._member is None:
            numbers = range(self._most_members)
            free = self._free(publishing, "member", numbers)
            self._member = next((number for number in free if self._lock(reading, "member", number)), None)
            if self._member is None:
                return False
        share = self._share(publishing, self._member)
        for partition in self._held - share:
            reading.delete(self._name("holder", partition))
        self._held &= share
        free = self._free(publishing, "holder", share - self._held)
        self._held |= {partition for partition in free if self._lock(reading, "holder", partition)}
        return self._held == share

    def _share(self, publishing: Connection, member: int) -> set[int]:
        others = set(range(self._most_members)) - {member}
        members = sorted({member} | (others - set(self._free(publishing, "member", others))))
        return set(range(members.index(member), PARTITIONS, len(members)))

    def _name(self, kind: str, number: int) -> str:
        return f"{self._target.name}.{self._group}.{kind}-{number}"

    def _free(self, publishing: Connection, kind: str, numbers: Iterable[int]) -> list[int]:
        """Which of some locks nobody has."""
        names = {self._name(kind, number): number for number in numbers}
        return sorted(names[name] for name in publishing.publish(list(names), b"", _CONFIRM_S))

    def _lock(self, reading: Connection, kind: str, number: int) -> bool:
        try:
            reading.declare(self._name(kind, number), _LOCK, is_exclusive=True)
        except RefusedError as error:
            if error.code == _RESOURCE_LOCKED:
                return False  # somebody was faster
            raise
        return True

    def _begin(self, reading: Connection) -> None:
        noted = {}
        for number in sorted(self._held):
            name = self._name("resume", number)
            noted[number] = _Last(reading, name, is_expected=_provide_stream(reading, name, _RESUME) > 0)
            self._readers[number] = _Reader(reading, self._target.stream(number), number)
        self._settle(reading, list(noted.values()))
        offsets = {number: int(last.body) for number, last in noted.items() if last.body.isdigit()}
        self._settle(reading, [self._readers[number].last for number, offset in offsets.items() if offset])
        for number, reader in self._readers.items():
            reader.begin(_within(offsets.get(number), reader.last.offset))
        # A stream that holds something is not waited for when the next turn begins.
        self._resume = {number: 0 for number in noted if number not in offsets}
        self._check_at = self._note_at = self._look_at = time.monotonic()

    def _settle(self, reading: Connection, lasts: Sequence[_Last]) -> None:
        """Wait until some streams have shown what they hold."""
        if not reading.wait(lambda: all(last.is_seen() for last in lasts), _LAST_S) and not reading.wait(
            lambda: all(last.is_settled() for last in lasts), _CONFIRM_S
        ):
            raise TimeoutError(f"a stream does not show what it holds within {_CONFIRM_S:g} s")
        for last in lasts:
            last.close()

    def poll(self, timeout_s: float, *, is_full: bool) -> Sequence[Message]:
        if self._reading is None or self._publishing is None:
            raise AssignmentLostError(f"{self._target}: the turn is over")
        now = time.monotonic()
        try:
            if now - self._check_at >= _CHECK_S:
                self._check_at = now
                self._check(self._publishing)
            if now - self._note_at >= _HINT_S:
                self._note_at = now
                self._note_resume(self._publishing)
            return self._read(self._reading, timeout_s, is_full=is_full)
        except OSError as error:
            self._disconnect()
            self._is_lost = True
            raise AssignmentLostError(f"{self._target} can't be used: {error}") from error

    def _check(self, publishing: Connection) -> None:
        """Look whether the streams are shared as they should be."""
        assert self._member is not None
        with suppress(BlockedError):
            share = self._share(publishing, self._member)
            if self._held - share:
                raise AssignmentLostError(f"another consumer of {self._group} takes its part")
            if self._free(publishing, "holder", share - self._held):
                raise AssignmentLostError(f"another consumer of {self._group} has left its part")

    def _read(self, reading: Connection, timeout_s: float, *, is_full: bool) -> Sequence[Message]:
        def has_messages() -> bool:
            return any(reader.has_messages() for reader in self._readers.values())

        if is_full:
            reading.wait(lambda: False, timeout_s)
        else:
            reading.wait(has_messages, timeout_s)
            reading.take_in()
        is_behind = is_full or has_messages()
        if is_behind and time.monotonic() - self._look_at >= _LAG_S:
            self._look_at = time.monotonic()
            for reader in self._readers.values():
                reader.look_again()
        if is_full:
            return ()
        return [message for reader in self._readers.values() for message in reader.take()]

    def rewind(self, partition: int) -> None:
        self._resume.pop(partition, None)
        with suppress(OSError):  # the turn is over, as `poll` will say
            self._readers[partition].begin(None)

    def resume_at(self, partition: int, offset: int) -> None:
        if partition not in self._readers:
            raise AssignmentLostError(f"{self._target}: the turn is over")
        self._resume[partition] = offset

    def _note_resume(self, publishing: Connection) -> None:
        with suppress(BlockedError):  # once it takes messages again
            for partition, offset in list(self._resume.items()):
                publishing.publish([self._name("resume", partition)], str(offset).encode(), _CONFIRM_S)
                del self._resume[partition]

    def lag(self) -> int:
        return sum(reader.lag() for reader in self._readers.values())

    def close(self) -> None:
        if self._publishing is not None:
            with suppress(OSError):
                self._note_resume(self._publishing)
        self._disconnect()


def _within(offset: int | None, last: int | None) -> int | None:
    """Where to begin, for an offset that may be of a stream that was lost since, or lost its end.

    Args:
        offset: the first message that is wanted; None or 0 for the first that is kept.
        last: of the first message among the last that were stored together; None for a stream that holds none.
    """
    if not offset or last is None:
        return None
    return offset if offset <= last + 1 else last
