"""Which streams are this consumer's, by locks."""

from collections.abc import Iterable
from typing import Final

from footfall.errors import AssignmentLostError
from footfall.queue.broker.rabbitmq.address import Address
from footfall.queue.broker.rabbitmq.connection import Connection, RefusedError
from footfall.queue.broker.rabbitmq.stream import PARTITIONS

CONFIRM_S: Final = 10.0
"""How long the broker may take to confirm a message, or to say that its queue does not exist."""

_LOCK: Final = {"x-max-length": 0}
_RESOURCE_LOCKED: Final = 405


class Assignment:
    """The streams of one consumer of a group.

    Nobody assigns them: the consumers number themselves by locks, and each computes its share from how many they are.
    The package's text says more.

    Attributes:
        held: the streams that are locked for this consumer.

    Args:
        address: of the broker.
        group: the consumers that share, or stand by for one another.
        is_exclusive: one consumer of the group has all streams.
    """

    def __init__(self, address: Address, group: str, *, is_exclusive: bool) -> None:
        self.held: set[int] = set()
        self._address = address
        self._group = group
        self._most_members = 1 if is_exclusive else PARTITIONS
        self._member: int | None = None

    def forget(self) -> None:
        """The connection that held the locks is gone, and they with it."""
        self.held.clear()
        self._member = None

    def advance(self, reading: Connection, publishing: Connection) -> bool:
        """Come closer to this consumer's share; whether it holds all of it, and nothing else.

        Args:
            reading: holds the locks.
            publishing: asks which locks exist.

        Raises:
            OSError: a connection is lost, or takes no messages.
        """
        if self._member is None:
            numbers = range(self._most_members)
            free = self._free(publishing, "member", numbers)
            self._member = next((number for number in free if self._lock(reading, "member", number)), None)
            if self._member is None:
                return False
        share = self._share(publishing, self._member)
        for partition in self.held - share:
            reading.delete(self._name("holder", partition))
        self.held &= share
        free = self._free(publishing, "holder", share - self.held)
        self.held |= {partition for partition in free if self._lock(reading, "holder", partition)}
        return self.held == share

    def check(self, publishing: Connection) -> None:
        """Look whether the streams are shared as they should be.

        Raises:
            AssignmentLostError: a consumer has come or gone.
            OSError: as `advance`.
        """
        assert self._member is not None
        share = self._share(publishing, self._member)
        if self.held - share:
            raise AssignmentLostError(f"another consumer of {self._group} takes its share")
        if self._free(publishing, "holder", share - self.held):
            raise AssignmentLostError(f"another consumer of {self._group} has left its share")

    def _share(self, publishing: Connection, member: int) -> set[int]:
        others = set(range(self._most_members)) - {member}
        members = sorted({member} | (others - set(self._free(publishing, "member", others))))
        return set(range(members.index(member), PARTITIONS, len(members)))

    def _name(self, kind: str, number: int) -> str:
        return self._address.group_name(self._group, kind, number)

    def _free(self, publishing: Connection, kind: str, numbers: Iterable[int]) -> list[int]:
        """Which of some locks nobody holds."""
        names = {self._name(kind, number): number for number in numbers}
        return sorted(names[name] for name in publishing.publish(list(names), b"", CONFIRM_S))

    def _lock(self, reading: Connection, kind: str, number: int) -> bool:
        try:
            reading.declare(self._name(kind, number), _LOCK, is_exclusive=True)
        except RefusedError as error:
            if error.code == _RESOURCE_LOCKED:
                return False  # another consumer was faster
            raise
        return True
