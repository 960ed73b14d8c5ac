"""The SQLite queue: its limit, its file, and several processes at once."""

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from footfall.errors import DamagedFileError, DamagedQueueError, QueueFullError
from footfall.queue.base import Progress
from footfall.queue.local import file as queue_file
from footfall.queue.local.file import FILE_NAME
from footfall.queue.local.store import LocalQueue
from footfall.queue.sink import DATABASE, SINKS, VISIT_LOG

HOUR_NS = 3_600 * 10**9
MIB = 1024 * 1024

Open = Callable[..., LocalQueue]
"""Opens the queue of the test once more, with these settings."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


@pytest.fixture
def opened(path: Path) -> Iterator[Open]:
    with ExitStack() as stack:

        def open_queue(
            *, max_bytes: int = MIB, sinks: tuple[str, ...] = SINKS, clock: Callable[[], int] = time.time_ns
        ) -> LocalQueue:
            # Without a sync for each batch, of which there are thousands here.
            queue = LocalQueue(path, sinks=sinks, durability="memory", max_bytes=max_bytes, clock=clock)
            return stack.enter_context(closing(queue))

        yield open_queue


def fill(queue: LocalQueue, size: int = 10_000) -> int:
    """Append batches of `size` bytes until the queue refuses one; how many it took."""
    for number in range(1_000_000):
        try:
            queue.append(b"x" * size, 1)
        except QueueFullError:
            return number
    raise AssertionError("the queue has no limit")


def pass_all(queue: LocalQueue) -> None:
    """Have every sink report that it needs nothing any more."""
    last = queue.last_sequence()
    for sink in SINKS:
        queue.report(sink, Progress(last, last))


def trim_all(queue: LocalQueue) -> None:
    while queue.trim():
        pass


def program(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Python in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


# The limit.


@pytest.mark.parametrize("size", [150, 1_000, 100_000])
def test_limit_is_reached_and_hardly_passed(opened: Open, size: int) -> None:
    """The queue uses what it was given, to within a tenth."""
    queue = opened(max_bytes=4 * MIB)

    fill(queue, size)

    assert pytest.approx(4 * MIB, rel=0.1) == queue.state().bytes


def test_refused_batch_leaves_nothing_behind(opened: Open) -> None:
    """Neither its entries nor the refusals it would have counted are taken."""
    queue = opened()
    taken = fill(queue)

    with pytest.raises(QueueFullError, match=r"queue\.max_bytes"):
        queue.append(b"x" * 100_000, 7, {"invalid": 1})

    state = queue.state()
    assert (taken, {}, taken) == (state.received, state.refused, len(queue.read(0)))


def test_refusals_are_counted_in_a_full_queue(opened: Open) -> None:
    """What can't be taken can still be counted."""
    queue = opened()
    fill(queue)

    queue.add_refused({"queue_full": 3})

    assert {"queue_full": 3} == queue.state().refused


def test_reports_are_taken_by_a_full_queue(opened: Open) -> None:
    """Sinks go on in a full queue, or it would stay full for ever."""
    queue = opened()
    fill(queue)

    pass_all(queue)

    assert queue.last_sequence() == queue.sink_reports()[VISIT_LOG].sequence


def test_full_queue_says_so_before_anything_is_lost(opened: Open) -> None:
    """Whether there is room again can be asked without an entry at stake."""
    queue = opened()
    queue.make_sure_of_room()

    fill(queue, size=150)

    with pytest.raises(QueueFullError, match=r"queue\.max_bytes"):
        queue.make_sure_of_room()


def test_room_comes_back(opened: Open) -> None:
    """Once the sinks have passed what is there, trimming makes room for as much again."""
    queue = opened()
    taken = fill(queue)
    pass_all(queue)

    trim_all(queue)

    queue.make_sure_of_room()
    assert fill(queue) >= taken // 2


def test_room_made_elsewhere_is_found(opened: Open) -> None:
    """A collector that refused goes on when a consumer of another process has trimmed."""
    collector, consumer = opened(), opened()
    fill(collector)
    pass_all(consumer)

    trim_all(consumer)

    assert collector.append(b"x" * 10_000, 1) > 0


def test_lower_limit_takes_nothing_away(opened: Open) -> None:
    """A limit set below what is there refuses more, and drops nothing."""
    queue = opened(max_bytes=4 * MIB)
    taken = fill(queue)
    queue.close()

    smaller = opened(max_bytes=MIB)

    with pytest.raises(QueueFullError):
        smaller.append(b"x", 1)
    trim_all(smaller)
    assert taken == smaller.state().received == sum(batch.count for batch in smaller.read(0, max_bytes=8 * MIB))


# Trimming.


@pytest.mark.parametrize("reported", [(), (VISIT_LOG,), (DATABASE,)])
def test_nothing_is_dropped_before_every_sink_has_reported(opened: Open, reported: tuple[str, ...]) -> None:
    """A sink that has never run yet will need all of it."""
    queue = opened()
    fill(queue)
    last = queue.last_sequence()
    for sink in reported:
        queue.report(sink, Progress(last, last))

    assert 0 == queue.trim()


def test_margin_is_kept_for_a_rebuild(opened: Open) -> None:
    """A quarter of the limit stays after every sink has passed it, the latest of what was taken."""
    queue = opened()
    fill(queue)
    pass_all(queue)

    trim_all(queue)

    kept = queue.read(0)
    assert queue.last_sequence() == kept[-1].sequence
    assert MIB // 4 - 10_000 <= sum(len(batch.payload) for batch in kept) <= MIB // 4 + 10_000


def test_batches_are_dropped_a_piece_at_a_time(opened: Open) -> None:
    """A commit waits for each piece, so that must not grow with the size of the batches; one is dropped in any case."""
    queue = opened(max_bytes=64 * MIB)
    for size in [MIB // 4] * 12 + [2 * MIB] * 4:
        queue.append(bytes(size), 1)
    last = queue.append(bytes(17 * MIB), 1)
    for sink in (VISIT_LOG, DATABASE):
        queue.report(sink, Progress(last, last))

    dropped = [queue.trim() for _ in range(9)]

    assert [3, 3, 3, 3, 1, 1, 1, 1, 0] == dropped


def test_the_log_of_sqlite_is_brought_into_the_file_in_small_steps(opened: Open, tmp_path: Path) -> None:
    """The commit that does it waits for as much as the log holds: 4 MB."""
    queue = opened(max_bytes=64 * MIB)

    for _ in range(300):
        queue.append(bytes(MIB // 10), 1)

    assert (tmp_path / "queue.sqlite-wal").stat().st_size < 5 * MIB


def test_margin_is_kept_for_so_many_hours(opened: Open) -> None:
    """Then what every sink has passed goes, however little it is, and what one still needs stays."""
    now_ns = 10**18
    queue = opened(clock=lambda: now_ns)
    first = queue.append(b"x", 1)
    now_ns += 47 * HOUR_NS
    second = queue.append(b"x", 1)
    queue.report(VISIT_LOG, Progress(second, second))
    queue.report(DATABASE, Progress(second, first))
    trim_all(queue)
    assert [first, second] == [batch.sequence for batch in queue.read(0)]

    now_ns += HOUR_NS
    trim_all(queue)
    assert [second] == [batch.sequence for batch in queue.read(0)]
    now_ns += 1_000 * HOUR_NS
    trim_all(queue)
    assert [second] == [batch.sequence for batch in queue.read(0)]

    pass_all(queue)
    trim_all(queue)
    assert [] == queue.read(0)


def test_clock_that_was_set_leaves_no_gap_behind_what_was_dropped(opened: Open) -> None:
    """A batch that seems to be of the future keeps those after it: what is left can be read on end."""
    now_ns = 10**18
    queue = opened(clock=lambda: now_ns)
    for hours in (0, 1_000, 0):
        now_ns = 10**18 + hours * HOUR_NS
        queue.append(b"x", 1)
    pass_all(queue)
    now_ns = 10**18 + 48 * HOUR_NS

    trim_all(queue)

    assert 2 == len(queue.read(0))
    now_ns += 1_000 * HOUR_NS
    trim_all(queue)
    assert [] == queue.read(0)


def test_sequences_are_never_used_again(opened: Open) -> None:
    """Not even after every batch was dropped and the queue opened anew: a sink would skip what it has not seen."""
    queue = opened()
    for _ in range(10):
        last = queue.append(b"x", 1)
    pass_all(queue)
    queue.close()
    without_margin = opened(max_bytes=0)
    trim_all(without_margin)
    assert [] == without_margin.read(0)
    without_margin.close()

    again = opened()

    assert again.append(b"y", 1) > last
    assert 11 == again.state().received


def test_sequences_grow_while_the_clock_goes_back(opened: Open) -> None:
    """A machine that was in the future for a moment does not end the order of the queue."""
    times = iter([5_000_000_000_000, 4_000_000_000_000, 4_000_000_000_000, 3_000_000_000_000])
    queue = opened(clock=lambda: next(times))

    sequences = [queue.append(b"x", 1) for _ in range(4)]

    assert sorted(set(sequences)) == sequences


def test_sequences_of_a_file_from_a_backup_are_new_ones(opened: Open, path: Path) -> None:
    """A sink that has passed what the backup does not know takes what comes after it."""
    queue = opened()
    queue.append(b"in the backup", 1)
    queue.close()
    backup = path.read_bytes()
    queue = opened()
    last = queue.append(b"lost", 1)
    queue.close()
    path.write_bytes(backup)

    assert opened().append(b"after", 1) > last


def test_sequences_are_behind_what_the_sinks_have_passed_though_the_clock_says_less(opened: Open, path: Path) -> None:
    """After the file was lost and the clock was set back, a sink takes what comes after its report."""
    queue = opened()
    last = queue.append(b"passed", 1)
    queue.close()
    path.unlink()
    queue = opened(clock=lambda: 1_000_000_000)
    queue.report(VISIT_LOG, Progress(last, last, 1))

    queue.append(b"after", 1)

    assert [batch.payload for batch in queue.read(last)] == [b"after"]


def test_disk_goes_back_to_the_system(opened: Open, path: Path) -> None:
    """After a backlog is worked off the file is small again."""
    queue = opened(max_bytes=16 * MIB)
    fill(queue, size=100_000)
    pass_all(queue)

    for _ in range(20):
        queue.trim()
    queue.close()

    assert path.stat().st_size < 8 * MIB


# The ledger's figures.


def test_lag_is_what_a_sink_has_before_it(opened: Open) -> None:
    """Batches not passed yet, and the age of the oldest of them."""
    now = 1_000_000_000
    queue = opened(clock=lambda: now)
    sequences = []
    for _ in range(4):
        sequences.append(queue.append(b"x", 1))
        now += 1_000_000_000
    queue.report(VISIT_LOG, Progress(sequences[0], sequences[0], 1))
    queue.report(DATABASE, Progress(sequences[3], sequences[3], 4))

    state = queue.state()

    assert {VISIT_LOG: 3, DATABASE: 0} == state.lag_batches
    assert {VISIT_LOG: 3.0, DATABASE: 0.0} == state.lag_seconds


def test_sink_that_never_reported_has_everything_before_it(opened: Open) -> None:
    """It lags by all there is."""
    queue = opened()
    queue.append(b"x", 1)
    queue.append(b"x", 1)

    assert {VISIT_LOG: 2, DATABASE: 2} == queue.state().lag_batches


def test_clock_that_went_back_gives_no_negative_lag(opened: Open) -> None:
    """Metrics stay sane when the machine's clock is corrected."""
    now = 2_000_000_000
    queue = opened(clock=lambda: now)
    queue.append(b"x", 1)
    now = 1_000_000_000

    assert 0.0 == queue.state().lag_seconds[VISIT_LOG]


def test_received_is_not_less_than_what_became_of_it(opened: Open) -> None:
    """After the end of the file was lost, the ledger goes by what the sinks had passed."""
    queue = opened()
    queue.report(VISIT_LOG, Progress(1, 1, 30, {"event": 5}))
    queue.report(DATABASE, Progress(1, 1, 32))

    assert 35 == queue.state().received


# The file.


def test_file_of_another_format_is_refused(opened: Open, path: Path) -> None:
    """A later Footfall's queue is not written by this one; both formats are said, and nothing is changed."""
    opened().close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")

    with pytest.raises(DamagedFileError, match=r"format 99.* reads format 1"):
        opened()

    with closing(sqlite3.connect(path)) as connection:
        assert (99,) == connection.execute("PRAGMA user_version").fetchone()


@pytest.mark.parametrize("content", [b"this is no database", b"\0" * 10_000, b"SQLite format 3\0" + b"\xff" * 10_000])
def test_file_that_is_no_database_is_refused_and_left_alone(opened: Open, path: Path, content: bytes) -> None:
    """The error names it; nothing is changed before it is salvaged."""
    path.write_bytes(content)

    with pytest.raises(DamagedQueueError, match=f"{FILE_NAME} is damaged"):
        opened()

    assert content == path.read_bytes()


def test_damage_inside_the_file_is_refused(opened: Open, path: Path) -> None:
    """A readable first page does not make a readable queue."""
    opened().close()
    content = path.read_bytes()
    path.write_bytes(content[:4_096] + b"\xa5" * (len(content) - 4_096))

    with pytest.raises(DamagedFileError, match=FILE_NAME):
        opened()


def test_damaged_batch_is_told_and_what_is_left_of_it_kept(opened: Open, path: Path) -> None:
    """The batches around it are whole; a person can look at its bytes."""
    queue = opened()
    sequences = [queue.append(payload, 1) for payload in (b"before", b"whole", b"after")]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE batches SET payload = ? WHERE sequence = ?", (b"wh\0le", sequences[1]))

    batches = queue.read(0)

    assert [(b"before", False), (b"wh\0le", True), (b"after", False)] == [
        (batch.payload, batch.is_damaged) for batch in batches
    ]
    assert sequences == [batch.sequence for batch in batches]
    assert [b"wh\0le"] == [left.read_bytes() for left in path.parent.glob("*.damaged")]


def test_place_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    """The caller knows which setting it came from."""
    with pytest.raises(OSError, match="absent"):
        LocalQueue(tmp_path / "absent" / FILE_NAME, sinks=SINKS)


def test_queue_that_another_writer_holds_is_full_for_now(
    opened: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that lasts is a reason to try again, not to break; after it all goes on."""
    monkeypatch.setattr(queue_file, "_BUSY_S", 0.05)
    queue = opened()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(QueueFullError):
            queue.append(b"x", 1)
        with pytest.raises(QueueFullError):
            queue.report(VISIT_LOG, Progress())
        other.execute("ROLLBACK")

    queue.append(b"y", 1)

    assert [b"y"] == [batch.payload for batch in queue.read(0)]


# Several processes, and their ends.

CREATE = """
import sys
from pathlib import Path
from footfall.queue.local.store import LocalQueue

print("ready", flush=True)
for name in sys.stdin:
    print(LocalQueue(Path(name.strip()), sinks=[]).source, flush=True)
"""


def test_processes_that_make_the_file_at_the_same_moment_make_one(tmp_path: Path) -> None:
    """All of them open the same queue, and none fails."""
    rounds = 20
    processes = [program(CREATE) for _ in range(3)]
    assert ["ready"] * 3 == [read_line(process) for process in processes]
    sources = [answers(processes, tmp_path / str(number)) for number in range(rounds)]
    for process in processes:
        process.communicate()

    assert [0, 0, 0] == [process.returncode for process in processes]
    assert [1] * rounds == [len(set(said)) for said in sources]
    assert rounds == len({said[0] for said in sources})


def answers(processes: list[subprocess.Popen[str]], line: object = "") -> list[str]:
    """What each says to a line that all are sent at once."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
    return [read_line(process) for process in processes]


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


WRITE = """
import sys
from pathlib import Path
from footfall.queue.local.store import LocalQueue

queue = LocalQueue(Path(sys.argv[1]), sinks=["visit_log"])
print("ready", flush=True)
sys.stdin.readline()
print("begun", flush=True)
for number in range(int(sys.argv[3])):
    queue.append(f"{sys.argv[2]}-{number}".encode(), 2, {"invalid": 1})
"""


def test_writers_of_several_processes_lose_nothing(opened: Open, path: Path) -> None:
    """Each batch is there once, in its writer's order, and a reader that follows them misses none."""
    count = 150
    queue = opened(sinks=(VISIT_LOG,))
    writers = [program(WRITE, path, name, count) for name in "ab"]
    assert ["ready", "ready"] == [read_line(writer) for writer in writers]
    assert ["begun", "begun"] == answers(writers)

    followed: list[bytes] = []
    position = 0
    while any(writer.poll() is None for writer in writers) or position < queue.last_sequence():
        for batch in queue.read(position):
            followed.append(batch.payload)
            position = batch.sequence
    for writer in writers:
        writer.communicate()

    assert [0, 0] == [writer.returncode for writer in writers]
    for name in (b"a", b"b"):
        assert [b"%b-%d" % (name, number) for number in range(count)] == [
            payload for payload in followed if payload.startswith(name)
        ]
    state = queue.state()
    assert (4 * count, {"invalid": 2 * count}) == (state.received, state.refused)


KILL = """
import os, signal, sys
from pathlib import Path
from footfall.queue.local.store import LocalQueue

queue = LocalQueue(Path(sys.argv[1]), sinks=["visit_log"], durability=sys.argv[2])
for number in range(100):
    queue.append(b"%d" % number, 1)
    print(number, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("durability", ["disk", "memory"])
def test_what_append_returned_from_outlives_the_process(opened: Open, path: Path, durability: str) -> None:
    """SIGKILL takes nothing of it, with either durability."""
    process = program(KILL, path, durability)
    process.communicate()

    assert -signal.SIGKILL == process.returncode
    assert [b"%d" % number for number in range(100)] == [batch.payload for batch in opened().read(0)]


FAIL = """
import resource, signal, sys
from pathlib import Path
from footfall.errors import QueueBrokenError
from footfall.queue.local.store import LocalQueue

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
queue = LocalQueue(Path(sys.argv[1]), sinks=["visit_log"])
queue.append(b"taken", 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    queue.append(b"x" * 1_000_000, 1)
except QueueBrokenError as error:
    print(error)
"""


def test_failed_write_breaks_the_queue_and_not_what_it_holds(opened: Open, path: Path) -> None:
    """After an error of the disk the state is unknown to this process; a new start finds what was taken."""
    process = program(FAIL, path)
    said = process.communicate()[0]

    assert str(path) in said
    queue = opened()
    assert [b"taken"] == [batch.payload for batch in queue.read(0)]
    queue.append(b"more", 1)
    assert 2 == queue.state().received
