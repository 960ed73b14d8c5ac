"""The way out of RabbitMQ."""

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from footfall.errors import AssignmentLostError
from footfall.queue.base import Message
from footfall.queue.broker.rabbitmq.address import Address
from footfall.queue.broker.rabbitmq.assignment import CONFIRM_S, Assignment
from footfall.queue.broker.rabbitmq.connection import BlockedError, Connection
from footfall.queue.broker.rabbitmq.stream import OFFSETS, LastMessage, StreamReader, provide_stream

_STEP_S: Final = 0.25
"""How soon a wait notices that it is to stop, and that something has become free."""
_RETRY_S: Final = 1.0
_STANDBY_S: Final = 3.0
"""A consumer that waits for longer than streams take to change hands waits for another consumer."""
_CHECK_S: Final = 1.0
"""From one look at how many consumers share to the next."""
_NOTE_S: Final = 1.0
"""From one note of where to resume to the next."""
_LAG_S: Final = 5.0
"""From one look at a stream's end to the next, while there is more than the consumer takes."""
_LAST_S: Final = 1.0
"""How long a stream that says it is empty may take to show that it is not."""
_CLOSE_S: Final = 2.0
"""How long the broker may take to confirm the last offsets, which are hints, when this consumer ends."""

_log = logging.getLogger(__name__)


class RabbitSubscription:
    """A `Subscription`.

    It has two connections. When its disk or its memory is full, RabbitMQ stops reading from connections that publish,
    and a consumer is to go on then. So one connection holds the locks and reads, and the other asks for locks and notes
    offsets.
    """

    def __init__(self, address: Address, group: str, *, is_exclusive: bool) -> None:
        self._address = address
        self._group = group
        self._assignment = Assignment(address, group, is_exclusive=is_exclusive)
        self._reading: Connection | None = None
        self._publishing: Connection | None = None
        self._readers: dict[int, StreamReader] = {}
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
                is_late = time.monotonic() - began > _STANDBY_S
                if self._assignment.advance(reading, publishing) or (is_late and self._assignment.held):
                    self._begin(reading)
                    return True
                if is_late and not has_said:
                    _log.warning(
                        "another consumer of %s has %s; standing by until it goes", self._group, self._address.name
                    )
                    has_said = True
                reading.wait(lambda: False, _STEP_S)
            except OSError as error:
                self._disconnect()
                if not self._is_lost:
                    _log.warning("%s can't be used: %s", self._address, error)
                self._is_lost = True
                stop.wait(_RETRY_S)
                began = time.monotonic()
        return False

    def _connect(self) -> tuple[Connection, Connection]:
        if self._reading is None or self._publishing is None:
            self._reading = self._address.connect(heartbeat_s=self._address.heartbeat_s)
            self._publishing = self._address.connect()
            if self._is_lost:
                _log.warning("%s can be used again", self._address)
            self._is_lost = False
        return self._reading, self._publishing

    def _disconnect(self) -> None:
        """Let go of everything that was this consumer's."""
        self._readers.clear()
        self._resume.clear()
        self._assignment.forget()
        for connection in (self._reading, self._publishing):
            if connection is not None:
                connection.close()
        self._reading = self._publishing = None

    def _stop_reading(self, publishing: Connection) -> None:
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        self._note_resume(publishing)

    def _begin(self, reading: Connection) -> None:
        noted = {}
        for number in sorted(self._assignment.held):
            name = self._resume_stream(number)
            noted[number] = LastMessage(reading, name, is_expected=provide_stream(reading, name, OFFSETS) > 0)
            self._readers[number] = StreamReader(reading, self._address.stream(number), number)
        self._settle(reading, list(noted.values()))
        offsets = {number: int(last.body) for number, last in noted.items() if last.body.isdigit()}
        self._settle(reading, [self._readers[number].last for number, offset in offsets.items() if offset])
        for number, reader in self._readers.items():
            reader.begin(_within(offsets.get(number), reader.last.offset))
        # A stream that holds something is not waited for when the next assignment begins.
        self._resume = {number: 0 for number in noted if number not in offsets}
        self._check_at = self._note_at = self._look_at = time.monotonic()

    def _settle(self, reading: Connection, lasts: Sequence[LastMessage]) -> None:
        """Wait until some streams have shown what they hold."""
        if not reading.wait(lambda: all(last.is_seen() for last in lasts), _LAST_S) and not reading.wait(
            lambda: all(last.is_settled() for last in lasts), CONFIRM_S
        ):
            raise TimeoutError(f"a stream does not show what it holds within {CONFIRM_S:g} s")
        for last in lasts:
            last.close()

    def poll(self, timeout_s: float, *, is_full: bool) -> Sequence[Message]:
        if self._reading is None or self._publishing is None:
            raise AssignmentLostError(f"{self._address}: the assignment is over")
        now = time.monotonic()
        try:
            if now - self._check_at >= _CHECK_S:
                self._check_at = now
                with suppress(BlockedError):
                    self._assignment.check(self._publishing)
            if now - self._note_at >= _NOTE_S:
                self._note_at = now
                self._note_resume(self._publishing)
            return self._read(self._reading, timeout_s, is_full=is_full)
        except OSError as error:
            self._disconnect()
            self._is_lost = True
            raise AssignmentLostError(f"{self._address} can't be used: {error}") from error

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
        with suppress(OSError):  # the assignment is over, as `poll` will say
            self._readers[partition].begin(None)

    def resume_at(self, partition: int, offset: int) -> None:
        if partition not in self._readers:
            raise AssignmentLostError(f"{self._address}: the assignment is over")
        self._resume[partition] = offset

    def _resume_stream(self, partition: int) -> str:
        return self._address.group_name(self._group, "resume", partition)

    def _note_resume(self, publishing: Connection, timeout_s: float = CONFIRM_S) -> None:
        with suppress(BlockedError):  # once it takes messages again
            for partition, offset in list(self._resume.items()):
                publishing.publish([self._resume_stream(partition)], str(offset).encode(), timeout_s)
                del self._resume[partition]

    def lag(self) -> int:
        return sum(reader.lag() for reader in self._readers.values())

    def close(self) -> None:
        if self._publishing is not None:
            with suppress(OSError):
                self._note_resume(self._publishing, _CLOSE_S)
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
