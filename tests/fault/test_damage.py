"""Files that are torn, rotten, emptied or gone: nothing that can be read is lost, nothing comes twice, all goes on.

Of the bytes of a last record, at each of which a file may be cut, a sample is tried; `FAULT_CUTS=100000` tries all.
`FAULT_FLIPS` is in how many places a bit is wrong.
"""

import os
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import httpx
import pytest

from footfall.database.duckdb.file import log_of, open_repaired, quarantine_database
from footfall.database.duckdb.writer import DuckdbSink
from footfall.entry import Event, Hit, encode_entries
from footfall.errors import AlreadyInUseError, DamagedQueueError, UnreadableFileError
from footfall.processes.data_dir import open_queue, prepare
from footfall.queue.base import Batch, Progress, SinkReport
from footfall.queue.local.file import FILE_NAME
from footfall.queue.local.reader import QueueState
from footfall.queue.local.repair import repair
from footfall.queue.sink import DATABASE, LOST, VISIT_LOG, Sink
from footfall.settings import Settings
from footfall.visit_log.redaction import line_format
from footfall.visit_log.state import FILE_NAME as STATE_NAME
from footfall.visit_log.writer import VisitLog
from harness import Footfall, eventually
from oracle import Oracle

CUTS = int(os.environ.get("FAULT_CUTS", "50"))
FLIPS = int(os.environ.get("FAULT_FLIPS", "60"))
SOURCE = "a"

Files = dict[str, bytes]
"""The contents of files, by name; those of a process that was killed just then."""


def files_in(directory: Path) -> Files:
    return {path.name: path.read_bytes() for path in directory.iterdir() if not path.name.endswith("-shm")}


def put(files: Files, directory: Path) -> None:
    """Make these the only files in a directory."""
    directory.mkdir(exist_ok=True)
    for path in directory.iterdir():
        path.unlink()
    for name, content in files.items():
        (directory / name).write_bytes(content)


def flipped(content: bytes, chance: random.Random) -> bytes:
    """The same with one bit wrong."""
    rotten = bytearray(content)
    rotten[chance.randrange(len(rotten))] ^= 1 << chance.randrange(8)
    return bytes(rotten)


def cuts(content: bytes, whole: int) -> Iterator[bytes]:
    """Beginnings of a file that end within what comes after `whole` bytes."""
    for length in lengths(whole, len(content)):
        yield content[:length]


def lengths(first: int, last: int) -> Iterator[int]:
    """Those from the first to the last, both included, or so many of them."""
    yield from range(first, last, max(1, (last - first) // CUTS))
    yield last


# The queue.


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data_dir=str(tmp_path_factory.mktemp("data")))


def entries(count: int, name: str) -> bytes:
    return encode_entries([Hit(0, "192.0.2.1", b"", f"{name}-{number}".encode()) for number in range(count)])


@pytest.fixture(scope="module")
def killed(settings: Settings) -> Files:
    """A queue of small batches and some that take several pages; part of it in the file, part in the log."""
    with closing(open_queue(settings)) as queue:
        for number in range(80):
            count = 500 if number % 9 == 0 else 1 + number % 3
            last = queue.append(entries(count, f"{number}"), count, {"invalid": 1})
            if number == 40:
                queue.report(VISIT_LOG, Progress(last, last, queue.state().received))
                with closing(sqlite3.connect(settings.data_path / FILE_NAME)) as other:
                    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        queue.report(DATABASE, Progress(last, last, queue.state().received))
        return files_in(settings.data_path)


def find(settings: Settings) -> tuple[list[Batch], QueueState]:
    """What a start and its consumers find in the queue, which then takes one more batch."""
    prepare(settings)
    try:
        return read_queue(settings)
    except DamagedQueueError as error:
        repair(settings.data_path / FILE_NAME, str(error))  # as the supervisor does
        return read_queue(settings)


def read_queue(settings: Settings) -> tuple[list[Batch], QueueState]:
    with closing(open_queue(settings)) as queue:
        batches: list[Batch] = []
        after = 0
        while part := queue.read(after):
            batches += part
            after = part[-1].sequence
        state = queue.state()
        last = queue.append(b"one more", 1)
        assert [b"one more"] == [batch.payload for batch in queue.read(last - 1)]
        assert after < last
    return batches, state


@pytest.fixture(scope="module")
def whole(settings: Settings, killed: Files) -> tuple[list[Batch], QueueState]:
    """What is in that queue when nothing happens to it."""
    put(killed, settings.data_path)
    return find(settings)


def test_queue_cut_in_its_last_record_has_all_but_that(
    settings: Settings, killed: Files, whole: tuple[list[Batch], QueueState]
) -> None:
    """A cut is what a power cut leaves: the record counts as never written, and nothing is set aside."""
    batches, state = whole
    log = f"{FILE_NAME}-wal"
    put(killed, settings.data_path)
    with closing(open_queue(settings)) as queue:
        last = queue.append(entries(2, "last"), 2)
        with_last = files_in(settings.data_path)
    for content in cuts(with_last[log], len(killed[log])):
        put({**with_last, log: content}, settings.data_path)
        found, found_state = find(settings)
        is_whole = content == with_last[log]
        assert batches == found[: len(batches)]
        assert ([last] if is_whole else []) == [batch.sequence for batch in found[len(batches) :]]
        assert state.received + (2 if is_whole else 0) == found_state.received
        assert [] == list(settings.data_path.glob("*.damaged*"))


@pytest.mark.parametrize("name", [FILE_NAME, f"{FILE_NAME}-wal"])
def test_wrong_bit_costs_no_batch_but_its_own(
    name: str,
    settings: Settings,
    killed: Files,
    whole: tuple[list[Batch], QueueState],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Wherever it is; and the log of Footfall names the file where what is left can be looked at."""
    batches, state = whole
    chance = random.Random(name)
    for _ in range(FLIPS):
        caplog.clear()
        put({**killed, name: flipped(killed[name], chance)}, settings.data_path)

        found, found_state = find(settings)

        readable = [batch for batch in found if not batch.is_damaged]
        missing = [batch for batch in batches if batch not in readable]
        assert len(missing) <= 1
        assert [batch for batch in batches if batch not in missing] == readable
        assert (state.received, state.sinks) == (found_state.received, found_state.sinks)
        if missing:
            assert any(str(path) in caplog.text for path in settings.data_path.glob("*.damaged*"))


@pytest.mark.parametrize("content", [None, b"", b"rotten" * 1_000])
def test_queue_whose_file_is_lost_has_what_is_in_its_log(
    content: bytes | None,
    settings: Settings,
    killed: Files,
    whole: tuple[list[Batch], QueueState],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """SQLite alone would delete the log. What is gone stays in the account."""
    batches, state = whole
    lost = {name: data for name, data in killed.items() if name != FILE_NAME}
    put(lost if content is None else {**lost, FILE_NAME: content}, settings.data_path)

    found, found_state = find(settings)

    assert batches[-len(found) :] == found
    assert len(found) > 30
    assert state.received == found_state.received
    [aside] = settings.data_path.glob("*.damaged-*-wal")
    assert killed[f"{FILE_NAME}-wal"] == aside.read_bytes()
    assert str(aside).removesuffix("-wal") in caplog.text


def test_queue_cut_in_half_has_what_is_left(
    settings: Settings, killed: Files, whole: tuple[list[Batch], QueueState]
) -> None:
    """What is left of its file, and all of its log."""
    batches, state = whole
    put({**killed, FILE_NAME: killed[FILE_NAME][: len(killed[FILE_NAME]) // 2]}, settings.data_path)

    found, found_state = find(settings)

    readable = [batch for batch in found if not batch.is_damaged]
    assert batches[-38:] == readable[-38:]
    assert [batch for batch in batches if batch in readable] == readable
    assert len(batches) > len(readable)
    assert state.received == found_state.received


def test_queue_that_is_gone_keeps_its_name(
    settings: Settings, killed: Files, whole: tuple[list[Batch], QueueState], caplog: pytest.LogCaptureFixture
) -> None:
    """So that the sinks' accounts go on, and its sequences are new ones."""
    source = f"{FILE_NAME}.source"
    put({source: killed[source]}, settings.data_path)

    found, _ = find(settings)

    assert [] == found
    with closing(open_queue(settings)) as queue:
        assert whole[0][0].source == queue.source
        assert whole[0][-1].sequence < queue.last_sequence()
    assert "is gone or empty" in caplog.text


def test_queue_without_its_last_batch_is_mended_once(settings: Settings, killed: Files) -> None:
    """What is lost is counted, and no reason to make the queue anew at each start until something comes."""
    put(killed, settings.data_path)
    with closing(sqlite3.connect(settings.data_path / FILE_NAME)) as other, other:
        other.execute("UPDATE batches SET seal = seal + 1 WHERE sequence = (SELECT max(sequence) FROM batches)")
    repair(settings.data_path / FILE_NAME, "Its last batch can't be read.")
    mended = files_in(settings.data_path)

    prepare(settings)

    assert files_in(settings.data_path).keys() == mended.keys()


def test_interrupted_mend_is_brought_to_its_end(
    settings: Settings, killed: Files, whole: tuple[list[Batch], QueueState]
) -> None:
    """A new queue that was whole is put in place; one that was not is made again."""
    put(killed, settings.data_path)
    prepare(settings)
    whole_file = (settings.data_path / FILE_NAME).read_bytes()
    rotten = {**killed, FILE_NAME: b"rotten" * 1_000}

    put({**rotten, f"{FILE_NAME}.mended": whole_file}, settings.data_path)
    assert whole[0] == find(settings)[0]
    assert 1 == len(list(settings.data_path.glob("*.damaged-*Z")))

    put({**rotten, f"{FILE_NAME}.mending": b"half"}, settings.data_path)
    assert whole[0][-38:] == find(settings)[0][-38:]


def test_queue_that_somebody_has_open_is_not_mended(settings: Settings, killed: Files) -> None:
    """Else what that one acknowledges would go into the file that was set aside."""
    put(killed, settings.data_path)
    with closing(open_queue(settings)) as queue:
        with pytest.raises(AlreadyInUseError, match="another process has it open"):
            repair(settings.data_path / FILE_NAME, "It is damaged.")
        queue.append(b"x", 1)


# The sinks: what the queue has lost, and what they have lost.


def hit_batch(sequence: int) -> Batch:
    """Three hits and an event."""
    hits: list[Hit | Event] = [Hit(0, "192.0.2.1", b"", name.encode(), "site", name) for name in names(sequence)]
    event = Event(0, "192.0.2.1", b"", "site", "click", f"{sequence}-event", event_id=f"{sequence}")
    return Batch(SOURCE, sequence, 0, 4, encode_entries([*hits, event]), before=4 * (sequence - 1))


def names(sequence: int) -> list[str]:
    return [f"{sequence}-{number}" for number in range(3)]


BATCHES = [hit_batch(sequence) for sequence in range(1, 6)]


def read_batches(after: int) -> Sequence[Batch]:
    return [batch for batch in BATCHES if batch.sequence > after]


def report_of(sink: Sink) -> SinkReport:
    progress = sink.progress()[SOURCE]
    return SinkReport(
        progress.sequence, progress.safe_sequence, progress.written, progress.skipped, sink.mark(), trouble=None
    )


@pytest.mark.parametrize("kind", [VISIT_LOG, DATABASE])
def test_what_a_queue_has_lost_is_counted_as_lost(kind: str, tmp_path: Path) -> None:
    """By each sink for itself: the one that has passed the gap has lost nothing."""

    def write(batches: Sequence[Batch]) -> Progress:
        if kind == VISIT_LOG:
            with closing(VisitLog(tmp_path / "visits.log", tmp_path)) as log:
                log.write(batches)
                return log.progress()[SOURCE]
        with closing(open_repaired(tmp_path / "x.duckdb")) as database, closing(DuckdbSink(database)) as sink:
            sink.write(batches)
            return sink.progress()[SOURCE]

    assert LOST not in write(BATCHES[:2]).skipped
    progress = write(BATCHES[3:])
    assert 4 == progress.skipped[LOST]
    assert 20 == progress.written + sum(progress.skipped.values())
    assert (progress.written, progress.skipped) == (write(BATCHES[1:]).written, progress.skipped)


# The visits log's state.


@pytest.fixture
def logged(tmp_path: Path) -> "Logged":
    return Logged(tmp_path)


class Logged:
    """A visits log with three batches. The queue was told of two of them; then the process was killed.

    Attributes:
        before: the state when the queue was told.
        after: the state at the end.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "visits.log"
        self.state_dir = directory / "state"
        self.state_dir.mkdir()
        with closing(VisitLog(self.path, self.state_dir)) as log:
            log.write(BATCHES[:2])
            self.report = report_of(log)
            self.before = files_in(self.state_dir)
            self.length = self.path.stat().st_size
            log.write(BATCHES[2:3])
            self.after = files_in(self.state_dir)
        self.content = self.path.read_bytes()

    def leave(self, state: Files, *, length: int | None = None) -> None:
        """Make it as it was, with that state, and with so much of the log; it is the same file."""
        put(state, self.state_dir)
        with self.path.open("r+b") as file:
            file.write(self.content)
            file.truncate(len(self.content) if length is None else length)

    def lines(self) -> list[str]:
        """What is in it once a new process has resumed and written all there is, and that its account is right."""
        with closing(VisitLog(self.path, self.state_dir)) as log:
            log.resume(SOURCE, self.report, read_batches)
            log.write(BATCHES)
            assert {SOURCE: Progress(5, 5, 15, {"event": 5})} == log.progress()
        return [line.split("|")[2] for line in self.path.read_text("utf-8").splitlines()]


ALL_LINES = [name for batch in BATCHES for name in names(batch.sequence)]


def test_state_cut_in_its_last_records_doubles_no_line(logged: Logged) -> None:
    """Those are the intent and its confirmation; the lines are in the log."""
    log = f"{STATE_NAME}-wal"
    for content in cuts(logged.after[log], len(logged.before[log])):
        logged.leave({**logged.after, log: content})
        assert ALL_LINES == logged.lines()


@pytest.mark.parametrize("state", [{}, {STATE_NAME: b""}, {STATE_NAME: b"rotten" * 1_000}])
def test_state_that_is_lost_is_made_again(state: Files, logged: Logged) -> None:
    """Wherever the log ends, the middle of a line included; what the queue was told and the log itself say where."""
    for length in lengths(logged.length, len(logged.content)):
        logged.leave(state, length=length)
        assert ALL_LINES == logged.lines()


@pytest.mark.parametrize("length", [None, -1])
def test_state_that_is_lost_is_made_again_though_lines_are_written_otherwise_now(
    length: int | None, logged: Logged
) -> None:
    """A line that the log has is recognised, whatever of it is left out by now; the next ones leave it out."""
    logged.leave({}, length=None if length is None else len(logged.content) + length)
    with closing(VisitLog(logged.path, logged.state_dir, line_format=line_format("none", "strip"))) as log:
        log.resume(SOURCE, logged.report, read_batches)
        log.write(BATCHES)
    lines = [line.split("|") for line in logged.path.read_text("utf-8").splitlines()]
    assert ALL_LINES == [name for _, _, name, _ in lines]
    written = 3 * len(names(1))
    assert [{"192.0.2.1"}, {"null"}] == [{part[3] for part in lines[:written]}, {part[3] for part in lines[written:]}]


@pytest.mark.parametrize("name", [STATE_NAME, f"{STATE_NAME}-wal"])
def test_wrong_bit_in_the_state_costs_and_doubles_no_line(name: str, logged: Logged) -> None:
    """What is not as it was written is not believed."""
    chance = random.Random(name)
    for _ in range(FLIPS):
        logged.leave({**logged.after, name: flipped(logged.after[name], chance)})
        assert ALL_LINES == logged.lines()


def test_state_from_a_backup_doubles_no_line(logged: Logged) -> None:
    """The log tells what was written since."""
    for state in (logged.before, {name: data for name, data in logged.before.items() if name == STATE_NAME}):
        logged.leave(state)
        assert ALL_LINES == logged.lines()


def test_state_that_is_lost_with_its_first_lines_is_made_again(tmp_path: Path) -> None:
    """The queue is told where the log ended before there was any of ours."""
    path, state_dir = tmp_path / "visits.log", tmp_path / "state"
    old = "2001-09-09T01:46:40.0000000Z|null|from before|192.0.2.1\n"
    path.write_text(old)
    state_dir.mkdir()
    with closing(VisitLog(path, state_dir)) as log:
        log.resume(SOURCE, None, read_batches)
        report = SinkReport(0, 0, 0, {}, log.mark(), trouble=None)
        log.write(BATCHES[:1])
    put({}, state_dir)

    with closing(VisitLog(path, state_dir)) as log:
        log.resume(SOURCE, report, read_batches)
        log.write(BATCHES)
    assert ["from before", *ALL_LINES] == [line.split("|")[2] for line in path.read_text("utf-8").splitlines()]


def test_state_from_the_midst_of_a_write_doubles_no_line_of_a_log_that_is_compressed_since(logged: Logged) -> None:
    """That the lines were in a file that is gone from its place is known to the queue."""
    log = f"{STATE_NAME}-wal"
    unconfirmed = {**logged.after, log: logged.after[log][:-1]}
    with closing(VisitLog(logged.path, logged.state_dir)) as sink:
        logged.report = report_of(sink)
    logged.path.unlink()
    logged.path.touch()
    put(unconfirmed, logged.state_dir)

    with closing(VisitLog(logged.path, logged.state_dir)) as sink:
        sink.resume(SOURCE, logged.report, read_batches)
        sink.write(BATCHES)
        assert {SOURCE: Progress(5, 5, 15, {"event": 5})} == sink.progress()
    assert names(4) + names(5) == [line.split("|")[2] for line in logged.path.read_text("utf-8").splitlines()]


def test_state_is_made_again_though_the_log_was_rotated(logged: Logged) -> None:
    """Each line is in one of the files."""
    rotated = logged.path.with_name("visits.log.1")
    logged.leave({}, length=logged.length)
    logged.path.rename(rotated)
    logged.path.write_bytes(logged.content[logged.length : -5])

    assert ALL_LINES[6:] == logged.lines()
    assert logged.content[: logged.length] == rotated.read_bytes()


# DuckDB.


@pytest.fixture
def stored(tmp_path: Path) -> "Stored":
    return Stored(tmp_path)


class Stored:
    """A database with three batches, one of them covered by a checkpoint; then the process was killed."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "x.duckdb"
        self.directory = directory
        with closing(open_repaired(self.path)) as database, closing(DuckdbSink(database)) as sink:
            sink.write(BATCHES[:1])
        with closing(open_repaired(self.path)) as database, closing(DuckdbSink(database)) as sink:
            sink.write(BATCHES[1:2])
            self.whole = log_of(self.path).stat().st_size
            sink.write(BATCHES[2:3])
            self.files = files_in(directory)

    @property
    def log(self) -> bytes:
        return self.files[log_of(self.path).name]

    def rows(self, files: Files) -> list[str]:
        """What is in it once new processes have written all there is, and that its account is right."""
        put(files, self.directory)
        for _ in range(2):
            try:
                return self._rows()
            except UnreadableFileError as error:
                quarantine_database(self.path, error)  # as the process does, before it is started again
        return self._rows()

    def _rows(self) -> list[str]:
        with closing(open_repaired(self.path)) as database, closing(DuckdbSink(database)) as sink:
            sink.write(read_batches(sink.progress().get(SOURCE, Progress()).sequence))
            progress = sink.progress()[SOURCE]
            assert (5, 20, {}) == (progress.sequence, progress.written, progress.skipped)
            return [path for (path,) in database.execute("SELECT path FROM events ORDER BY rowid").fetchall()]


ALL_ROWS = [f"/{name}" for batch in BATCHES for name in [*names(batch.sequence), f"{batch.sequence}-event"]]


def test_database_log_cut_in_its_last_record_costs_and_doubles_nothing(stored: Stored) -> None:
    """The queue brings that record again."""
    for content in cuts(stored.log, stored.whole):
        assert ALL_ROWS == stored.rows({**stored.files, log_of(stored.path).name: content})
        assert [] == list(stored.directory.glob("*.damaged-*"))


@pytest.mark.parametrize("suffix", ["", ".wal"])
def test_wrong_bit_in_the_database_costs_and_doubles_nothing(suffix: str, stored: Stored) -> None:
    """The queue brings again what was only there."""
    name = stored.path.name + suffix
    chance = random.Random(name)
    for _ in range(FLIPS // 3):
        assert ALL_ROWS == stored.rows({**stored.files, name: flipped(stored.files[name], chance)})


@pytest.mark.parametrize("content", [None, b"", b"rotten" * 1_000])
@pytest.mark.parametrize("suffix", ["", ".wal"])
def test_database_that_is_lost_is_filled_again(
    content: bytes | None, suffix: str, stored: Stored, caplog: pytest.LogCaptureFixture
) -> None:
    """From the queue. What was there is kept under a name that the log tells."""
    name = stored.path.name + suffix
    files = {**stored.files, name: content or b""}
    if content is None:
        del files[name]

    assert ALL_ROWS == stored.rows(files)

    for aside in stored.directory.glob("*.damaged-*Z"):
        assert str(aside) in caplog.text
    kept = {path.read_bytes() for path in stored.directory.glob("*.damaged-*")}
    assert {data for data in files.values() if data and suffix == ""} <= kept


# All together.


def wrong_byte(at: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[at] ^= 0x10
        path.write_bytes(content)

    return damage


def emptied(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES: list[tuple[str, Callable[[Path], None]]] = [
    (STATE_NAME, Path.unlink),
    (STATE_NAME, emptied),
    (f"{STATE_NAME}-wal", wrong_byte(2_000)),
    ("footfall.duckdb.wal", wrong_byte(100)),
    ("footfall.duckdb", emptied),
    ("footfall.duckdb", Path.unlink),
    (f"{FILE_NAME}-wal", wrong_byte(50)),  # in the header of its first frame
    (FILE_NAME, wrong_byte(3)),
]
"""What each takes away is elsewhere, too."""


def _holds_something(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 4_000


@pytest.mark.crash
def test_damage_between_two_lives_costs_and_doubles_nothing(footfall: Footfall) -> None:
    """Under load, with a kill before each; what can't be read is kept under a name that the log tells."""
    oracle = Oracle(footfall)
    footfall.start()
    with oracle.load():
        for name, damage in DAMAGES:
            path = footfall.data_dir / name
            eventually(True, partial(_holds_something, path))
            footfall.kill()
            damage(path)
            footfall.start()
    oracle.check()
    asides = {path.name.partition("Z")[0] for path in footfall.data_dir.glob("*.damaged-*")}
    assert len(asides) >= 5
    assert [] == [name for name in asides if name not in footfall.output()]


def test_damage_that_a_running_process_meets_is_mended(footfall: Footfall) -> None:
    """All processes are started again, once; what is lost is told, and counted by each sink."""
    footfall.start("run", "collector")
    for number in range(20):
        footfall.post(path=f"/{number}")
    footfall.stop()
    with closing(sqlite3.connect(footfall.data_dir / FILE_NAME)) as queue, queue:
        queue.execute(
            "UPDATE batches SET committed_ns = 7 WHERE sequence = "
            "(SELECT sequence FROM batches ORDER BY sequence LIMIT 1 OFFSET 10)"
        )

    footfall.start()

    def losses() -> list[tuple[int, int]]:
        try:
            sinks = footfall.ledger()["sinks"].values()
        except httpx.HTTPError:  # while all are being started again
            return []
        return [(sink["skipped"].get(LOST, 0), sink["pending"]) for sink in sinks]

    eventually([(1, 0), (1, 0)], losses)
    assert 20 == footfall.ledger()["received"]
    assert 19 == footfall.stats("a")["total_views"]
    assert 1 == footfall.output().count("stopping all processes to repair it")
    [aside] = footfall.data_dir.glob(f"{FILE_NAME}.damaged-*Z")
    assert f"kept as {aside}" in footfall.output()
    assert 2 == footfall.output().count("1 entries are lost")
    assert httpx.codes.ACCEPTED == footfall.post().status_code
