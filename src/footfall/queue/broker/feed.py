"""A broker as the consumer of one sink sees it: the same `Feed`, whichever broker carries the messages."""

import logging
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct, structs

from footfall.durable.lock import Presence
from footfall.entry import drop_entries
from footfall.queue.account import Account, SourceAccount, write_account
from footfall.queue.base import Batch, Message, Progress, Subscription
from footfall.queue.broker.envelope import decode_envelope
from footfall.queue.sink import REMOVED, unreadable

POLL_S: Final = 0.05
"""How long to wait for a message when there is nothing to write."""
ASSIGNMENT_SUFFIX: Final = ".assignment"
"""A presence beside the account: held while the broker has assigned partitions to this consumer."""
ENOUGH_BYTES: Final = 4 * 1024 * 1024
"""With so much waiting for the sink, no more is taken from the broker."""

_log = logging.getLogger(__name__)


class _Passing(Struct, frozen=True):
    """A message that the next consumer must get again, as long as the sink is not safely past its batch."""

    offset: int
    source: str
    sequence: int


class BrokerFeed:
    """A `Feed` from a subscription.

    Messages may come again: a relay published one twice, or a consumer died before it committed its offset. The sink's
    own position tells which of them to skip. If that position is *older* than what the broker delivers, for example
    because the output was restored from a backup, the partition is read again from the first message that is kept.

    Args:
        subscription: handed over.
        sink: the sink's name.
        accounts: the directory that the sink's account is kept in.
    """

    def __init__(self, subscription: Subscription, sink: str, *, accounts: Path) -> None:
        self._subscription = subscription
        self._sink = sink
        self._accounts = accounts
        self._account: Account | None = None
        self._assignment = ExitStack()
        self._forget()

    def _forget(self) -> None:
        self._waiting: deque[Batch] = deque()
        self._waiting_bytes = 0
        self._passing: dict[int, deque[_Passing]] = {}
        self._rewound: set[int] = set()
        self._strange: set[int] = set()
        self._seen: dict[str, int] = {}

    def wait_for_assignment(self, stop: threading.Event) -> bool:
        self._forget()
        self._assignment.close()
        has_assignment = self._subscription.wait_for_assignment(stop)
        if has_assignment:
            with suppress(OSError):  # the disk is full, and the sink will say so
                self._assignment.enter_context(Presence(self._accounts / (self._sink + ASSIGNMENT_SUFFIX)))
        return has_assignment

    def memory(self) -> None:
        return None

    def read(self, positions: Mapping[str, Progress]) -> Sequence[Batch]:
        self._pass_over(positions)
        messages = self._subscription.poll(0 if self._waiting else POLL_S, is_full=self._waiting_bytes >= ENOUGH_BYTES)
        self._take(messages, positions)
        return list(self._enough(positions))

    def report(self, positions: Mapping[str, Progress], trouble: str | None, mark: str) -> None:
        """Tell the broker how far the sink is *safe*: a database may still lose what no checkpoint covers."""
        del mark
        self._pass_over(positions)
        with suppress(OSError):  # only a hint, and given again
            for partition, passing in self._passing.items():
                self._let_go(partition, passing, positions)
        account = self._account_of(positions, trouble)
        if account != self._account:
            with suppress(OSError):  # the disk is full, and the sink will say so
                write_account(self._accounts, self._sink, account)
                self._account = account

    def _let_go(self, partition: int, passing: deque[_Passing], positions: Mapping[str, Progress]) -> None:
        offset = None
        while passing and passing[0].sequence <= positions.get(passing[0].source, Progress()).safe_sequence:
            offset = passing.popleft().offset + 1
        if offset is not None:
            self._subscription.resume_at(partition, offset)

    def _account_of(self, positions: Mapping[str, Progress], trouble: str | None) -> Account:
        sources = {}
        for source in (positions.keys() | self._seen.keys()) - {REMOVED}:
            progress = positions.get(source, Progress())
            sources[source] = SourceAccount(self._known(source, positions), progress.written, progress.skipped)
        removed = positions.get(REMOVED, Progress()).skipped
        oldest_ns = self._waiting[0].committed_ns if self._waiting else None
        return Account(sources, self._subscription.lag() + len(self._waiting), oldest_ns, trouble, removed)

    def rest(self, seconds: float, stop: threading.Event) -> None:
        stop.wait(seconds)

    def may_stop(self, positions: Mapping[str, Progress]) -> bool:
        del positions
        return True  # the next consumer resumes here

    def close(self) -> None:
        self._assignment.close()
        self._subscription.close()

    def _take(self, messages: Sequence[Message], positions: Mapping[str, Progress]) -> None:
        rewound: set[int] = set()
        for message in messages:
            partition = message.partition
            if partition in rewound:
                continue  # it comes again
            try:
                batch = decode_envelope(message.value).batch()
            except ValueError as error:
                self._complain(message, error)
                continue
            known = self._known(batch.source, positions)
            if batch.before > known and partition not in self._rewound:
                _log.warning("%s has missed batches; reading all that the broker keeps again", self._sink)
                self._subscription.rewind(partition)
                self._passing.pop(partition, None)
                self._rewound.add(partition)
                rewound.add(partition)
                continue
            self._seen[batch.source] = max(known, batch.before + batch.count)
            self._passing.setdefault(partition, deque()).append(_Passing(message.offset, batch.source, batch.sequence))
            self._waiting.append(batch)
            self._waiting_bytes += len(batch.payload)

    def _known(self, source: str, positions: Mapping[str, Progress]) -> int:
        """How many entries of a source are here or in the output."""
        return max(self._seen.get(source, 0), positions.get(source, Progress()).dealt_with)

    def _complain(self, message: Message, error: ValueError) -> None:
        if message.partition not in self._strange:
            _log.error(
                "skipping message %d of partition %d, and others like it: %s",
                message.offset,
                message.partition,
                error,
            )
        self._strange.add(message.partition)

    def _pass_over(self, positions: Mapping[str, Progress]) -> None:
        """Forget what the sink has written."""
        waiting = self._waiting
        while waiting and waiting[0].sequence <= positions.get(waiting[0].source, Progress()).sequence:
            self._waiting_bytes -= len(waiting.popleft().payload)

    def _enough(self, positions: Mapping[str, Progress]) -> Iterator[Batch]:
        reached = {source: progress.sequence for source, progress in positions.items()}
        size = 0
        for batch in self._waiting:
            yield trim_batch(batch, reached.get(batch.source, 0))
            reached[batch.source] = max(batch.sequence, reached.get(batch.source, 0))
            size += len(batch.payload)
            if size >= ENOUGH_BYTES:
                return


def trim_batch(batch: Batch, sequence: int) -> Batch:
    """What an output still lacks of a batch that the relay joined of several.

    Usually such a batch begins where an output's position is. It begins earlier when the same batches were joined
    differently the first time they were delivered.

    Raises:
        DamagedFileError: as `entries_of`.
    """
    gone = sum(count for place, count in batch.joined if place <= sequence)
    if not gone or batch.sequence <= sequence:
        return batch
    try:
        payload = batch.payload if batch.is_damaged else drop_entries(batch.payload, gone)
    except msgspec.DecodeError as error:
        raise unreadable(batch, error) from error
    return structs.replace(batch, count=batch.count - gone, payload=payload, before=batch.before + gone)
