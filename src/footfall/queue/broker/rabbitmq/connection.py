"""A connection to a broker that speaks AMQP 0-9-1, by pika.

Whoever waits for something runs pika, in its own thread and for no longer than it says. `pika.BlockingConnection` has
waits without an end: for an answer, for a confirmation, and for the goodbye of a broker that is silent.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import pika
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel
from pika.exceptions import (
    AMQPError,
    AMQPHeartbeatTimeout,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ConnectionOpenAborted,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    StreamLostError,
)

_CONNECT_S: Final = 5.0
_ANSWER_S: Final = 10.0
"""How long the broker may take to answer; for some questions all of its nodes must."""
_CLOSE_S: Final = 2.0

# It logs every failure with a traceback. The errors below say what there is to say.
logging.getLogger("pika").setLevel(logging.CRITICAL + 1)

_PLAIN: Final[Mapping[type[BaseException], str]] = {
    AMQPHeartbeatTimeout: "it went silent",
    ConnectionOpenAborted: f"no answer within {_CONNECT_S:g} s",
    IncompatibleProtocolError: "it closed the connection at once; is it RabbitMQ?",
    ProbableAccessDeniedError: "it refuses this user the virtual host, or has none of that name",
    ProbableAuthenticationError: "it refuses the user or the password",
    StreamLostError: "the connection broke",
}
"""For errors whose own text does not help."""

_GONE: Final = 404
_KEPT: Final = pika.BasicProperties(delivery_mode=2)  # type: ignore[no-untyped-call] # the one without types
"""Of a message that is to survive the broker's process."""


class RefusedError(OSError):
    """The broker refuses."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class BlockedError(OSError):
    """The broker takes no messages for now, from anybody; its disk or its memory is full."""


class Connection:
    """One connection; one thread calls it. After an OSError other than `RefusedError` only `close` is of use.

    Args:
        parameters: where, and as whom.

    Raises:
        OSError: it can't be made.
    """

    def __init__(self, parameters: pika.ConnectionParameters) -> None:
        self._error: BaseException | None = None
        self._alarm: str | None = None
        self._is_silent = False
        self._asking: Channel | None = None
        self._refusals: list[BaseException] = []
        self._publishing: Channel | None = None
        self._published = 0
        self._unconfirmed: set[int] = set()
        self._refused: set[int] = set()
        self._returned: set[str] = set()
        parameters.socket_timeout = parameters.stack_timeout = _CONNECT_S
        self._loop = IOLoop()
        self._loop.activate_poller()
        self._pika = pika.SelectConnection(
            parameters, on_open_error_callback=self._lose, on_close_callback=self._lose, custom_ioloop=self._loop
        )
        self._pika.add_on_connection_blocked_callback(self._on_blocked)
        self._pika.add_on_connection_unblocked_callback(self._on_unblocked)
        try:
            # pika keeps the time itself, and does not bear being hung up before it is through with a connection.
            self._demand(lambda: self._pika.is_open, 3 * _CONNECT_S, "no answer")
        except OSError:
            self.close()
            raise

    def wait(self, is_done: Callable[[], object], timeout_s: float) -> bool:
        """Run the connection until `is_done()` is true; whether it became so in time.

        Raises:
            OSError: the connection is lost.
        """
        is_in_time = self._work(lambda: self._error is not None or is_done(), timeout_s)
        if self._error is not None:
            raise OSError(_text(self._error))
        return is_in_time

    def take_in(self) -> None:
        """Read all that has arrived.

        Raises:
            OSError: as `wait`.
        """
        before = -1
        while self._pika.bytes_received != before:
            before = self._pika.bytes_received
            self.wait(lambda: False, 0)

    def lose_channel(self, reason: BaseException) -> None:
        """Note that a channel is closed that this connection needs."""
        if isinstance(reason, ChannelClosedByBroker):  # else the connection is being closed
            self._lose(self, reason)

    def declare(self, queue: str, arguments: Mapping[str, Any], *, is_exclusive: bool) -> int:
        """Create a queue if it does not exist.

        Args:
            queue: its name.
            arguments: what sort of a queue; a refusal says where one that is there is of another.
            is_exclusive: it disappears with this connection; else it stays.

        Returns:
            How many messages it holds; a stream says none for some time after its first.

        Raises:
            RefusedError: the broker says no.
            OSError: as `wait`, or there is no answer.
        """
        answer = self._ask(
            lambda channel, done: channel.queue_declare(
                queue, durable=not is_exclusive, exclusive=is_exclusive, arguments=dict(arguments), callback=done
            )
        )
        count: int = answer.method.message_count
        return count

    def delete(self, queue: str) -> None:
        """Delete a queue.

        Raises:
            OSError: as `declare`.
        """
        self._ask(lambda channel, done: channel.queue_delete(queue, callback=done))

    def publish(self, queues: Sequence[str], body: bytes, timeout_s: float) -> set[str]:
        """Publish a message to each of some queues, and wait until that is confirmed.

        Returns:
            The queues among them that do not exist.

        Raises:
            BlockedError: it takes none for now. It may take this one later.
            OSError: as `wait`, or it is not known what became of the message.
        """
        self.take_in()
        if self._alarm is not None:
            raise BlockedError(f"it takes no messages: {self._alarm}")
        self._returned.clear()
        self._refused.clear()
        tags = {self._send(queue, body) for queue in queues}
        self.wait(lambda: self._alarm is not None or not tags & self._unconfirmed, timeout_s)
        if tags & self._unconfirmed:
            if self._alarm is not None:
                raise BlockedError(f"it takes no messages: {self._alarm}")
            self._is_silent = True
            raise TimeoutError(f"no confirmation within {timeout_s:g} s")
        if tags & self._refused:
            raise OSError("it could not store the message")
        return set(self._returned)

    def consume(
        self, queue: str, on_message: Callable[[int, int, bytes], object], *, offset: int | str, prefetch: int
    ) -> "Consumption":
        """Begin to read a stream.

        Args:
            queue: the stream.
            on_message: called with each message: its offset, what to acknowledge it by, and its bytes.
            offset: where to begin: an offset, `first`, or `last` for the last messages that were stored together.
            prefetch: how many messages the broker sends at most that are not acknowledged.

        Raises:
            OSError: the connection is lost.
        """
        if self._error is not None:
            raise OSError(_text(self._error))
        return Consumption(self, self._pika, queue, on_message, offset=offset, prefetch=prefetch)

    def close(self) -> None:
        """Say goodbye, and wait shortly for the broker's answer, unless it has left a question unanswered."""
        if not self._is_silent:
            with suppress(AMQPError):  # it is closed
                self._pika.close()
            self._work(lambda: self._pika.is_closed, _CLOSE_S)
        if not self._pika.is_closed:
            # There is no public call that hangs up on a broker that does not answer.
            self._pika._terminate_stream(TimeoutError())  # noqa: SLF001
            self._work(lambda: self._pika.is_closed, _CLOSE_S)
        self._loop.close()

    def _work(self, is_done: Callable[[], object], timeout_s: float) -> bool:
        is_over = False

        def end() -> None:
            nonlocal is_over
            is_over = True

        timer = self._loop.call_later(timeout_s, end)
        while not (is_done() or is_over):
            try:
                self._loop.poll()
                self._loop.process_timeouts()
            except (AMQPError, AssertionError) as error:  # what came was no AMQP, or not when pika expects it
                self._lose(self, error)
                break
        self._loop.remove_timeout(timer)
        return not is_over

    def _send(self, queue: str, body: bytes) -> int:
        if self._publishing is None:
            self._publishing = self._open_channel()
            self._publishing.add_on_close_callback(lambda _, reason: self.lose_channel(reason))
            self._publishing.add_on_return_callback(lambda _, method, __, ___: self._returned.add(method.routing_key))
            self._publishing.confirm_delivery(self._on_confirm)
        self._publishing.basic_publish("", queue, body, _KEPT, mandatory=True)
        self._published += 1
        self._unconfirmed.add(self._published)
        return self._published

    def _on_confirm(self, frame: Any) -> None:  # noqa: ANN401 - pika's frames have no types
        tag = frame.method.delivery_tag
        tags = {one for one in self._unconfirmed if one <= tag} if frame.method.multiple else {tag}
        self._unconfirmed -= tags
        if isinstance(frame.method, pika.spec.Basic.Nack):
            self._refused |= tags

    def _ask(self, question: Callable[[Channel, Callable[[Any], None]], None]) -> Any:  # noqa: ANN401 - as above
        if self._asking is None or not self._asking.is_open:
            self._asking = self._open_channel()  # a refusal has closed the one before
            self._asking.add_on_close_callback(lambda _, reason: self._refusals.append(reason))
        self._refusals.clear()
        answers: list[Any] = []
        question(self._asking, answers.append)
        self._demand(lambda: answers or self._refusals, _ANSWER_S, "no answer")
        if not answers:
            raise _refusal(self._refusals[0])
        return answers[0]

    def _open_channel(self) -> Channel:
        opened: list[Channel] = []
        self._pika.channel(on_open_callback=opened.append)
        self._demand(lambda: opened, _ANSWER_S, "it opens no channel")
        return opened[0]

    def _demand(self, is_done: Callable[[], object], timeout_s: float, otherwise: str) -> None:
        if not self.wait(is_done, timeout_s):
            self._is_silent = self._pika.is_open
            raise TimeoutError(f"{otherwise} within {timeout_s:g} s")

    def _lose(self, _: object, error: BaseException) -> None:
        if self._error is None:
            self._error = error

    def _on_blocked(self, _: object, frame: Any) -> None:  # noqa: ANN401 - pika's frames have no types
        self._alarm = frame.method.reason

    def _on_unblocked(self, *_: object) -> None:
        self._alarm = None


class Consumption:
    """A stream that is being read, on a channel of its own."""

    def __init__(
        self,
        connection: Connection,
        pika_connection: pika.SelectConnection,
        queue: str,
        on_message: Callable[[int, int, bytes], object],
        *,
        offset: int | str,
        prefetch: int,
    ) -> None:
        self._connection = connection
        self._queue = queue
        self._on_message = on_message
        self._arguments: Mapping[str, int | str] = {"x-stream-offset": offset}
        self._prefetch = prefetch
        self._is_closed = False
        self._channel = pika_connection.channel(on_open_callback=self._begin)

    def acknowledge(self, tag: int) -> None:
        """Let the broker send more: all up to this message was taken."""
        self._channel.basic_ack(tag, multiple=True)

    def close(self) -> None:
        """Read no more; safe to call twice."""
        self._is_closed = True
        if not (self._channel.is_closed or self._channel.is_closing):
            self._channel.close()

    def _begin(self, channel: Channel) -> None:
        channel.add_on_close_callback(lambda _, reason: self._connection.lose_channel(reason))
        channel.add_on_cancel_callback(self._on_cancel)
        channel.basic_qos(prefetch_count=self._prefetch)
        channel.basic_consume(self._queue, self._deliver, arguments=dict(self._arguments))

    def _deliver(self, _: Channel, method: Any, properties: Any, body: bytes) -> None:  # noqa: ANN401 - as above
        if not self._is_closed:
            self._on_message(int(properties.headers["x-stream-offset"]), method.delivery_tag, body)

    def _on_cancel(self, _: object) -> None:
        self._connection.lose_channel(ChannelClosedByBroker(_GONE, f"{self._queue} is gone, or moves"))


def _refusal(reason: BaseException) -> OSError:
    if isinstance(reason, ChannelClosedByBroker):
        return RefusedError(reason.reply_code, reason.reply_text)
    return OSError(_text(reason))


def _text(error: BaseException) -> str:
    """What a person can read: pika wraps errors in errors."""
    while True:
        inner = getattr(error, "exceptions", None) or [getattr(error, "exception", None), *error.args]
        causes = [cause for cause in inner if isinstance(cause, BaseException)]
        if not causes:
            break
        error = causes[-1]
    if isinstance(error, ConnectionClosedByBroker | ChannelClosedByBroker):
        return error.reply_text
    return _PLAIN.get(type(error)) or str(error) or type(error).__name__
