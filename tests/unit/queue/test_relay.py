"""The relay and a broker's feed, with a log in memory for a broker: what comes out is what was committed, once.

The log fails, forgets and repeats on command, which a real broker does only when it likes; tests/contract and
tests/integration run the same against real ones.
"""

import logging
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from footfall.durable.lock import is_held
from footfall.entry import Hit, decode_entries, encode_entries
from footfall.errors import DamagedFileError
from footfall.queue.account import Account, RelayAccount, SourceAccount, read_account
from footfall.queue.base import Batch, Message, Progress, SinkReport
from footfall.queue.broker.envelope import decode_envelope, encode_envelope
from footfall.queue.broker.feed import ASSIGNMENT_SUFFIX, BrokerFeed
from footfall.queue.broker.relay import MESSAGE_BYTES, RELAY, Relay
from footfall.queue.consumer import consume
from footfall.queue.local.feed import LocalFeed
from footfall.queue.local.store import LocalQueue
from footfall.queue.sink import LOST
from footfall.visit_log.writer import VisitLog

KEPT = 1_000


class Log:
    """A broker with one partition, its own publisher and subscription."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.first = 0
        self.resume = 0
        self.fails: list[bool] = []
        self._next = 0

    def publish(self, key: str, value: bytes) -> None:
        """Fails as `fails` says: True after the message is there, False before."""
        del key
        failure = self.fails.pop() if self.fails else None
        if failure is not False:
            self.messages.append(value)
        if failure is not None:
            raise OSError("no answer")

    def wait_for_assignment(self, stop: threading.Event) -> bool:
        self._next = max(self.first, self.resume)
        return not stop.is_set()

    def poll(self, timeout_s: float, *, is_full: bool) -> Sequence[Message]:
        del timeout_s
        if is_full:
            return []
        start, self._next = self._next, min(self._next + 3, len(self.messages))
        return [Message(0, offset, self.messages[offset]) for offset in range(start, self._next)]

    def rewind(self, partition: int) -> None:
        del partition
        self._next = self.first

    def resume_at(self, partition: int, offset: int) -> None:
        del partition
        self.resume = offset

    def lag(self) -> int:
        return len(self.messages) - self._next

    def close(self) -> None:
        pass


class Output:
    """A sink in memory that keeps to the rule: a batch at or before its position is passed over."""

    def __init__(self) -> None:
        self.entries: list[int] = []
        self.positions: dict[str, Progress] = {}

    def write(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            before = self.positions.get(batch.source, Progress())
            if batch.sequence > before.sequence:
                entries = [entry.received_ns for entry in decode_entries(batch.payload)]
                self.entries += entries
                skipped = dict(before.skipped)
                missed = batch.before - before.written - sum(skipped.values())
                if missed:
                    skipped[LOST] = skipped.get(LOST, 0) + missed
                written = before.written + len(entries)
                self.positions[batch.source] = Progress(batch.sequence, batch.sequence, written, skipped)


@pytest.fixture
def queue(tmp_path: Path) -> LocalQueue:
    return LocalQueue(tmp_path / "queue", sinks=[RELAY], durability="memory")


def fill(queue: LocalQueue, start: int, stop: int) -> None:
    """A batch for each number, with one hit that has it for its time."""
    for number in range(start, stop):
        queue.append(encode_entries([Hit(number, None, b"", b"")]), 1)


def relay_all(queue: LocalQueue, log: Log, *, at_once: int = KEPT) -> None:
    """A new relay publishes what is there, going on after each failure as its consumer does."""

    def fix(progress: Progress, mark: str) -> None:
        queue.report(RELAY, progress, mark=mark)

    feed = LocalFeed(queue, RELAY)
    with closing(Relay(log, fix, ignore)) as relay:
        memory = feed.memory()
        relay.resume(memory.source, memory.report, memory.read)
        while batches := feed.read(relay.progress())[:at_once]:
            with suppress(OSError):
                relay.write(batches)


def ignore(account: RelayAccount) -> None:
    """Nobody watches."""


def drain(log: Log, output: Output, accounts: Path, *, safely: bool = True) -> None:
    """A new consumer brings all there is into the output."""
    feed = BrokerFeed(log, "visit_log", accounts=accounts)
    feed.wait_for_assignment(threading.Event())
    while (batches := feed.read(output.positions)) or log.lag():
        output.write(batches)
        feed.report(output.positions if safely else unsafe(output.positions), None, "")


def unsafe(positions: Mapping[str, Progress]) -> dict[str, Progress]:
    return {source: Progress(known.sequence, 0, known.written, known.skipped) for source, known in positions.items()}


def test_neighbours_go_together(queue: LocalQueue, tmp_path: Path) -> None:
    """Many small batches make one message, and all entries arrive in their order."""
    log, output = Log(), Output()
    fill(queue, 0, 100)

    relay_all(queue, log)
    drain(log, output, tmp_path)

    assert 1 == len(log.messages)
    assert list(range(100)) == output.entries


def test_a_message_has_a_size(queue: LocalQueue) -> None:
    """What is larger is several messages; one batch is never cut."""
    log = Log()
    for _ in range(4):
        queue.append(encode_entries([Hit(1, None, b"x" * (MESSAGE_BYTES // 2 - 100), b"")]), 1)
    queue.append(encode_entries([Hit(1, None, b"x" * 2 * MESSAGE_BYTES, b"")]), 1)

    relay_all(queue, log)

    assert [2, 2, 1] == [decode_envelope(message).count for message in log.messages]


@given(st.lists(st.booleans(), max_size=12), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_each_entry_comes_once_whatever_the_broker_answers(
    tmp_path_factory: pytest.TempPathFactory, fails: list[bool], lives: list[int]
) -> None:
    """Answers are lost before and after the message is there, relays and consumers begin anew, hints are late."""
    directory = tmp_path_factory.mktemp("relay")
    log, output = Log(), Output()
    log.fails = fails
    done = 0
    with closing(LocalQueue(directory / "queue", sinks=[RELAY], durability="memory")) as queue:
        for number, count in enumerate(lives):
            fill(queue, done, done + count)
            done += count
            relay_all(queue, log, at_once=2 + number)
            drain(log, output, directory, safely=number % 2 == 0)

    assert list(range(done)) == output.entries


def test_a_message_published_again_is_the_same(queue: LocalQueue) -> None:
    """Though more has come by then: a sink may recognise a message by its source and sequence."""
    log = Log()
    fill(queue, 0, 5)
    log.fails = [True]
    with suppress(OSError):
        relay_once(queue, log)
    fill(queue, 5, 9)

    relay_all(queue, log)

    assert log.messages[0] == log.messages[1]
    assert 3 == len(log.messages)


def relay_once(queue: LocalQueue, log: Log) -> None:
    relay = Relay(log, lambda progress, mark: queue.report(RELAY, progress, mark=mark), ignore)
    relay.write(queue.read(0))


def test_an_output_from_a_backup_gets_what_is_kept_again(queue: LocalQueue, tmp_path: Path) -> None:
    """The broker was told to go on far behind it."""
    log, output = Log(), Output()
    fill(queue, 0, 5)
    relay_all(queue, log)
    drain(log, output, tmp_path)
    fill(queue, 5, 9)
    relay_all(queue, log)

    restored = Output()
    drain(log, restored, tmp_path)

    assert list(range(9)) == restored.entries
    assert {} == restored.positions[queue.source].skipped


def test_an_output_that_was_filled_without_a_broker_goes_on_where_it_is(tmp_path: Path) -> None:
    """A message may begin before that place, for the relay knows nothing of it."""
    log, output = Log(), Output()
    with closing(LocalQueue(tmp_path / "queue", sinks=["visit_log"], durability="memory")) as queue:
        fill(queue, 0, 5)
        output.write(queue.read(0)[:3])
    with closing(LocalQueue(tmp_path / "queue", sinks=[RELAY], durability="memory")) as queue:
        relay_all(queue, log)

    drain(log, output, tmp_path)

    assert list(range(5)) == output.entries


@pytest.mark.parametrize("known", [0, 2])
def test_batches_that_are_joined_anew_bring_each_entry_once(queue: LocalQueue, tmp_path: Path, known: int) -> None:
    """A queue that was mended, or comes from a backup, may not tell which there were, or tell of old ones."""
    log, output = Log(), Output()
    fill(queue, 0, known)
    relay_all(queue, log)
    old = queue.sink_reports().get(RELAY, SinkReport(0, 0, 0, {}, "", None))
    for number in range(known, 6):
        fill(queue, number, number + 1)
        relay_all(queue, log)
    drain(log, output, tmp_path)

    queue.report(RELAY, Progress(old.sequence, old.sequence, old.written), mark=old.mark)
    fill(queue, 6, 8)
    relay_all(queue, log)
    drain(log, output, tmp_path)

    assert list(range(8)) == output.entries


def test_a_message_of_which_the_queue_has_lost_all_stops_nothing(queue: LocalQueue, tmp_path: Path) -> None:
    """It was to be published when the file was damaged; what came after it is."""
    log, output = Log(), Output()
    fill(queue, 0, 1)
    relay_all(queue, log)
    [known] = queue.sink_reports().values()
    fill(queue, 1, 3)
    gone = queue.last_sequence()
    queue.report(RELAY, Progress(known.sequence, known.sequence, 1), mark=str(gone))
    fill(queue, 3, 4)
    with closing(sqlite3.connect(tmp_path / "queue")) as file, file:
        file.execute("DELETE FROM batches WHERE sequence <= ?", (gone,))

    relay_all(queue, log)
    drain(log, output, tmp_path)

    assert ([0, 3], {LOST: 2}) == (output.entries, output.positions[queue.source].skipped)


def test_what_the_broker_no_longer_has_is_counted_as_lost(queue: LocalQueue, tmp_path: Path) -> None:
    """Nothing is passed over in silence."""
    log, output = Log(), Output()
    fill(queue, 0, 5)
    relay_all(queue, log)
    fill(queue, 5, 9)
    relay_all(queue, log)
    log.first = 2  # the first message is there twice: its relay ended before it could say that it was confirmed

    drain(log, output, tmp_path)

    assert list(range(5, 9)) == output.entries
    assert {LOST: 5} == output.positions[queue.source].skipped


def test_a_stranger_s_message_is_passed_over(
    queue: LocalQueue, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once, and what comes behind it arrives."""
    log, output = Log(), Output()
    log.messages = [b"hello", b"FF1hello"]
    fill(queue, 0, 3)
    relay_all(queue, log)

    drain(log, output, tmp_path)

    assert [0, 1, 2] == output.entries
    assert 1 == len([record for record in caplog.records if record.levelno == logging.ERROR])


def test_an_account_is_kept(queue: LocalQueue, tmp_path: Path) -> None:
    """What came, and what became of it."""
    log, output = Log(), Output()
    fill(queue, 0, 3)
    relay_all(queue, log)

    drain(log, output, tmp_path)

    assert Account({queue.source: SourceAccount(3, 3, {})}) == read_account(tmp_path, "visit_log", Account)


def test_what_became_of_the_messages_is_told(queue: LocalQueue) -> None:
    """After each attempt, so a broker that is away shows."""
    log = Log()
    log.fails = [False, True]
    told: list[RelayAccount] = []
    fill(queue, 0, 1)

    with closing(Relay(log, lambda *_: None, told.append)) as relay:
        for _ in range(3):
            with suppress(OSError):
                relay.write(queue.read(0))

    assert [RelayAccount(0, 1), RelayAccount(0, 2), RelayAccount(1, 2)] == told


def test_whose_turn_it_is_shows(tmp_path: Path) -> None:
    """While a consumer has it, and no longer."""
    turn = tmp_path / f"visit_log{ASSIGNMENT_SUFFIX}"
    feed = BrokerFeed(Log(), "visit_log", accounts=tmp_path)
    before = is_held(turn)

    feed.wait_for_assignment(threading.Event())
    while_it_has = is_held(turn)
    feed.close()

    assert (False, True, False) == (before, while_it_has, is_held(turn))


def test_a_broker_that_goes_when_a_turn_begins_is_trouble_and_no_more(tmp_path: Path) -> None:
    """The consumer tells it, and would try again."""
    stop = threading.Event()

    class Going(Log):
        def poll(self, timeout_s: float, *, is_full: bool) -> Sequence[Message]:
            del timeout_s, is_full
            stop.set()
            raise OSError("it does not answer")

    def open_sink() -> VisitLog:
        return VisitLog(tmp_path / "visits.log", tmp_path)

    with closing(BrokerFeed(Going(), "visit_log", accounts=tmp_path)) as feed:
        consume(feed, open_sink, stop, on_assigned=lambda: None)

    assert "it does not answer" == read_account(tmp_path, "visit_log", Account).trouble


def test_a_relay_is_done_with_what_the_broker_has(queue: LocalQueue) -> None:
    """The queue may forget it."""
    log = Log()
    fill(queue, 0, 3)

    def fix(progress: Progress, mark: str) -> None:
        queue.report(RELAY, progress, mark=mark)

    with closing(Relay(log, fix, ignore)) as relay:
        relay.write(queue.read(0))
        assert {queue.source: Progress(queue.last_sequence(), queue.last_sequence(), 3)} == relay.progress()


def test_message_whose_entries_are_none_stops_the_output(tmp_path: Path) -> None:
    """A newer Footfall may have written it: nothing is skipped, and the error says what to look at."""
    log, output = Log(), Output()
    output.positions = {"a": Progress(1, 1, 1)}
    strange = Batch("a", 2, 1, 2, b"no entries", joined=((1, 1), (2, 1)))
    log.messages = [encode_envelope(strange, {})]

    with pytest.raises(DamagedFileError, match=r"batch 2 of queue a can't be read: .*newer Footfall"):
        drain(log, output, tmp_path)
