"""What every queue promises: batches in order, whole, each at a position that is never another's."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from footfall.queue.base import Batch, Progress
from footfall.queue.local.file import FILE_NAME
from footfall.queue.local.store import LocalQueue
from footfall.queue.sink import DATABASE, SINKS, VISIT_LOG

Connect = Callable[[], LocalQueue]
"""Opens one more connection to the queue under test."""


def embedded(directory: Path) -> LocalQueue:
    return LocalQueue(directory / FILE_NAME, sinks=SINKS)


FACTORIES = [pytest.param(embedded, id="embedded")]


@pytest.fixture(params=FACTORIES)
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connect]:
    with ExitStack() as opened:
        yield lambda: opened.enter_context(closing(request.param(tmp_path)))


@pytest.fixture
def queue(connect: Connect) -> LocalQueue:
    return connect()


def read_all(queue: LocalQueue, after: int = 0, *, max_bytes: int = 4 * 1024 * 1024) -> list[Batch]:
    """Everything after `after`, as a consumer reads it."""
    batches: list[Batch] = []
    while part := queue.read(batches[-1].sequence if batches else after, max_bytes=max_bytes):
        batches += part
    return batches


def test_new_queue_is_empty(queue: LocalQueue) -> None:
    """There is nothing to read, and no position has been given yet."""
    assert [] == queue.read(0)
    assert 0 == queue.last_sequence()


@pytest.mark.parametrize("payload", [b"", b"\0", b"payload", bytes(range(256)) * 5_000], ids=len)
def test_batch_is_read_as_it_was_committed(queue: LocalQueue, payload: bytes) -> None:
    """Its bytes, its count, when, and where it is."""
    before = time.time_ns()
    sequence = queue.append(payload, 3)

    [batch] = queue.read(0)

    assert (queue.source, sequence, 3, payload) == (batch.source, batch.sequence, batch.count, batch.payload)
    assert before <= batch.committed_ns <= time.time_ns()


def test_positions_grow_in_the_order_of_commits(queue: LocalQueue) -> None:
    """What was committed later is read later."""
    sequences = [queue.append(b"%d" % number, 1) for number in range(50)]

    assert sorted(set(sequences)) == sequences
    assert [(sequence, b"%d" % number) for number, sequence in enumerate(sequences)] == [
        (batch.sequence, batch.payload) for batch in read_all(queue)
    ]
    assert sequences[-1] == queue.last_sequence()


def test_reading_begins_after_a_position(queue: LocalQueue) -> None:
    """A sink that stands at a batch gets the next one first, and nothing where there is none."""
    sequences = [queue.append(b"x", 1) for _ in range(5)]

    assert sequences[3:] == [batch.sequence for batch in queue.read(sequences[2])]
    assert [] == queue.read(sequences[-1])
    assert [] == queue.read(sequences[-1] + 1_000)


def test_reading_takes_nothing_away(queue: LocalQueue) -> None:
    """Every reader gets everything, as often as it asks."""
    queue.append(b"one", 1)
    queue.append(b"two", 1)

    assert read_all(queue) == read_all(queue)


@pytest.mark.parametrize("max_bytes", [1, 100, 1_000, 1_000_000])
def test_reading_in_parts_gives_everything_once(queue: LocalQueue, max_bytes: int) -> None:
    """However large the parts, a batch larger than a part included."""
    chance = random.Random(max_bytes)
    payloads = [chance.randbytes(chance.choice([0, 1, 50, 2_000])) for _ in range(60)]
    for payload in payloads:
        queue.append(payload, 1)

    assert payloads == [batch.payload for batch in read_all(queue, max_bytes=max_bytes)]


def test_parts_are_bounded(queue: LocalQueue) -> None:
    """A reader that is far behind does not take the whole queue into memory."""
    for _ in range(20):
        queue.append(b"x" * 1_000, 1)

    assert 3 == len(queue.read(0, max_bytes=3_000))


def test_commit_is_seen_by_all_connections(connect: Connect) -> None:
    """What `append` returned from is there for whoever looks, of whichever connection."""
    writer, reader = connect(), connect()

    sequence = writer.append(b"payload", 1)

    assert sequence == reader.last_sequence()
    assert writer.read(0) == reader.read(0)
    assert writer.source == reader.source


def test_queue_outlives_its_connections(connect: Connect) -> None:
    """Opened again it is the same queue, and positions go on where they were."""
    first = connect()
    source = first.source
    sequence = first.append(b"before", 2)
    before = first.read(0)
    first.close()

    again = connect()

    assert source == again.source
    assert before == again.read(0)
    assert again.append(b"after", 1) > sequence
    assert [b"before", b"after"] == [batch.payload for batch in read_all(again)]


def test_received_and_refused_are_counted(connect: Connect) -> None:
    """Entries count with their batch, refusals by reason; both are there after the queue is opened again."""
    queue = connect()
    queue.append(b"x", 3, {"invalid": 2})
    queue.append(b"x", 4)
    queue.add_refused({"invalid": 1, "not_json": 5})
    queue.close()

    state = connect().state()

    assert 7 == state.received
    assert {"invalid": 3, "not_json": 5} == state.refused


def test_reports_of_sinks_are_kept(connect: Connect) -> None:
    """The last report of each sink counts, its trouble included, for every connection."""
    queue = connect()
    queue.append(b"x", 10)
    queue.report(VISIT_LOG, Progress(1, 1, 4, {"event": 6}))
    queue.report(DATABASE, Progress(1, 0, 1, {}), "no space left")
    queue.report(DATABASE, Progress(1, 0, 10, {}), "read-only")

    reports = connect().sink_reports()

    assert (1, 4, {"event": 6}, None) == (
        reports[VISIT_LOG].sequence,
        reports[VISIT_LOG].written,
        reports[VISIT_LOG].skipped,
        reports[VISIT_LOG].trouble,
    )
    assert (10, "read-only") == (reports[DATABASE].written, reports[DATABASE].trouble)


def test_batch_that_a_sink_still_needs_is_kept(queue: LocalQueue) -> None:
    """Retention waits for the slowest sink, and for what it calls safe rather than what it has written."""
    payloads = [b"%d" % number * 1_000 for number in range(50)]
    sequences = [queue.append(payload, 1) for payload in payloads]
    queue.report(VISIT_LOG, Progress(sequences[-1], sequences[-1], 50))
    queue.report(DATABASE, Progress(sequences[-1], sequences[9], 50))

    while queue.trim():
        pass

    assert payloads[10:] == [batch.payload for batch in read_all(queue, sequences[9])]
