"""The visits log: lines, positions, rotation and what can go wrong."""

import errno
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from footfall.durable.lock import is_held
from footfall.entry import Entry, Event, Hit, encode_entries
from footfall.errors import AlreadyInUseError, DamagedFileError, FootfallError
from footfall.queue.base import Batch, Progress, SinkReport
from footfall.queue.sink import VISIT_LOG, Sink
from footfall.visit_log.state import FILE_NAME as STATE_NAME
from footfall.visit_log.writer import LOCK_NAME, VisitLog
from full_disk import largest_file

OLD_LINE = b"2001-09-09T01:46:40.0000000Z|null|from before|192.0.2.1\n"
OLD_LINES = OLD_LINE * 2_000
"""More than the state takes, so that a limit on the size of files is met by the log first."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs" / "visits.log"


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


def hit(text: str) -> Hit:
    return Hit(0, "::1", b"", text.encode())


def line(text: str) -> bytes:
    return f"1970-01-01T00:00:00.0000000Z|null|{text}|::1\n".encode()


def batch(sequence: int, *entries: Entry, source: str = "a") -> Batch:
    return Batch(source, sequence, 0, len(entries), encode_entries(entries))


def leave_unfinished(path: Path, state_dir: Path, *, written: int) -> None:
    """Leave the log as a crash would after `written` bytes of the lines one, two and three (batches 1 and 2)."""
    path.write_bytes(OLD_LINES)
    with closing(VisitLog(path, state_dir)) as log, largest_file(len(OLD_LINES) + written):
        with pytest.raises(OSError, match="File too large"):
            log.write([batch(1, hit("one"), hit("two")), batch(2, hit("three"))])
        assert {} == log.progress()
    assert len(OLD_LINES) + written == path.stat().st_size


THREE_LINES = line("one") + line("two") + line("three")


def test_example(path: Path, state_dir: Path) -> None:
    """The contract's example line comes out to the letter."""
    received_ns = int(datetime(2022, 12, 19, 14, 16, 49, tzinfo=UTC).timestamp()) * 10**9 + 960_528_000
    with closing(VisitLog(path, state_dir)) as log:
        log.write([batch(1, Hit(received_ns, "192.168.1.1", b"https://google.com", b"SomeUserAgent 1.2.3"))])

    assert b"2022-12-19T14:16:49.9605280Z|https://google.com|SomeUserAgent 1.2.3|192.168.1.1\n" == path.read_bytes()


def test_is_a_sink(path: Path, state_dir: Path) -> None:
    """It has the name it is known by, and has written nothing at first."""
    sink: Sink = VisitLog(path, state_dir)
    with closing(sink):
        assert VISIT_LOG == sink.name
        assert {} == sink.progress()


def test_skipped(path: Path, state_dir: Path) -> None:
    """Events and hits without an address are counted, not written."""
    event = Event(0, "::1", b"", "site", "page_view")
    with closing(VisitLog(path, state_dir)) as log:
        log.write([batch(3, event, hit("one"), Hit(0, None, b"", b""), Hit(0, "", b"", b""), event, event)])
        log.write([batch(4, event)])

        assert {"a": Progress(4, 4, 1, {"event": 4, "no_address": 2})} == log.progress()
    assert line("one") == path.read_bytes()


def test_continues_a_log(path: Path, state_dir: Path) -> None:
    """Lines that were there before stay."""
    path.write_bytes(OLD_LINE)
    with closing(VisitLog(path, state_dir)) as log:
        log.write([batch(1, hit("one"))])

    assert OLD_LINE + line("one") == path.read_bytes()


def test_log_whose_state_is_gone_is_refused_where_no_queue_can_tell(path: Path, state_dir: Path) -> None:
    """A broker gives all it keeps again, to a storage that knows of nothing."""
    with closing(VisitLog(path, state_dir, is_told=False)) as log:
        log.write([batch(1, hit("one"))])
    with closing(VisitLog(path, state_dir, is_told=False)) as log:
        log.write([batch(2, hit("two"))])
    (state_dir / STATE_NAME).unlink()

    with pytest.raises(DamagedFileError, match="All that the broker keeps would be written again"):
        VisitLog(path, state_dir, is_told=False)
    assert line("one") + line("two") == path.read_bytes()
    path.rename(state_dir / "moved")
    with closing(VisitLog(path, state_dir, is_told=False)) as log:
        assert {} == log.progress()


def test_position_survives(path: Path, state_dir: Path) -> None:
    """A new object on the same state goes on where the last one was."""
    with closing(VisitLog(path, state_dir)) as log:
        log.write([batch(1, hit("one")), batch(7, hit("two"), hit("three"))])

    with closing(VisitLog(path, state_dir)) as log:
        assert {"a": Progress(7, 7, 3)} == log.progress()
        log.write([batch(8, hit("four"))])
        assert {"a": Progress(8, 8, 4)} == log.progress()
    assert THREE_LINES + line("four") == path.read_bytes()


def test_redelivered(path: Path, state_dir: Path) -> None:
    """A batch that was written is passed over, in one call, in a later one and after a new start."""
    one, two, three = (batch(sequence, hit(text)) for sequence, text in enumerate(("one", "two", "three"), 1))
    with closing(VisitLog(path, state_dir)) as log:
        log.write([one, one, two, one])
        log.write([one, two])
    with closing(VisitLog(path, state_dir)) as log:
        log.write([one, two, three])
        assert {"a": Progress(3, 3, 3)} == log.progress()
        log.write([])

    assert THREE_LINES == path.read_bytes()


def test_sources(path: Path, state_dir: Path) -> None:
    """Each source has its own position, however they interleave."""
    with closing(VisitLog(path, state_dir)) as log:
        log.write([batch(5, hit("one"), source="a"), batch(2, hit("two"), source="b"), batch(6, source="a")])
        log.write([batch(2, hit("two"), source="b"), batch(1, hit("three"), source="c")])

        assert {"a": Progress(6, 6, 1), "b": Progress(2, 2, 1), "c": Progress(1, 1, 1)} == log.progress()
    assert THREE_LINES == path.read_bytes()


def test_mode(path: Path, state_dir: Path) -> None:
    """Addresses are not for everybody: others can't read a new log."""
    with closing(VisitLog(path, state_dir)):
        assert 0 == path.stat().st_mode & 0o137


def test_larger_than_an_intent(path: Path, state_dir: Path) -> None:
    """A call of many megabytes is written in steps; when one fails, the position is that of the last whole one."""
    text = "x" * 8_000
    batches = [batch(sequence, *[hit(text)] * 125) for sequence in range(1, 11)]
    with closing(VisitLog(path, state_dir)) as log:
        with largest_file(7_000_000), pytest.raises(OSError, match="File too large"):
            log.write(batches)
        assert {"a": Progress(5, 5, 5 * 125)} == log.progress()

        log.write(batches)
        assert {"a": Progress(10, 10, 10 * 125)} == log.progress()
    assert line(text) * 10 * 125 == path.read_bytes()


def test_unreadable_batch(path: Path, state_dir: Path) -> None:
    """A batch that is not what a queue holds stops the log, nothing of the call written."""
    with closing(VisitLog(path, state_dir)) as log:
        with pytest.raises(DamagedFileError, match="batch 2 of queue a can't be read"):
            log.write([batch(1, hit("one")), Batch("a", 2, 0, 1, b"?")])
        assert {} == log.progress()
    assert b"" == path.read_bytes()


# Rotation.


def test_renamed(path: Path, state_dir: Path) -> None:
    """A log rotated by rename is followed: later lines go to a new file."""
    old = path.with_name("visits.log.1")
    with closing(VisitLog(path, state_dir)) as log:
        log.write([batch(1, hit("one"))])
        path.rename(old)
        log.write([batch(2, hit("two"))])
        log.write([batch(3, hit("three"))])

    assert line("one") == old.read_bytes()
    assert line("two") + line("three") == path.read_bytes()


def test_renamed_and_made(path: Path, state_dir: Path) -> None:
    """A new file that stands ready under the log's name is used (logrotate's `create`)."""
    with closing(VisitLog(path, state_dir)) as log:
        log.write([batch(1, hit("one"))])
        path.rename(path.with_name("visits.log.1"))
        path.touch()
        log.write([batch(2, hit("two"))])

    assert line("two") == path.read_bytes()


def test_deleted(path: Path, state_dir: Path) -> None:
    """A deleted log is made anew."""
    with closing(VisitLog(path, state_dir)) as log:
        log.write([batch(1, hit("one"))])
        path.unlink()
        log.write([batch(2, hit("two"))])

    assert line("two") == path.read_bytes()


def test_emptied(path: Path, state_dir: Path) -> None:
    """A log that somebody emptied goes on from its new end."""
    with closing(VisitLog(path, state_dir)) as log:
        log.write([batch(1, hit("one"))])
        os.truncate(path, 0)
        log.write([batch(2, hit("two"))])

    assert line("two") == path.read_bytes()


# A write that did not come to its end, and what may happen to the file before the next.


@pytest.mark.parametrize("written", range(len(THREE_LINES)))
def test_every_length_of_an_append(path: Path, state_dir: Path, written: int) -> None:
    """Wherever within an append a crash struck, the next start appends just the rest, and the position moves."""
    leave_unfinished(path, state_dir, written=written)

    with closing(VisitLog(path, state_dir)) as log:
        assert {"a": Progress(2, 2, 3)} == log.progress()
    assert OLD_LINES + THREE_LINES == path.read_bytes()


def test_goes_on_after_a_failure(path: Path, state_dir: Path) -> None:
    """After a failed write the same object ends the line and goes on, each line there once."""
    path.write_bytes(OLD_LINES)
    batches = [batch(1, hit("one"), hit("two")), batch(2, hit("three"))]
    with closing(VisitLog(path, state_dir)) as log:
        with largest_file(len(OLD_LINES) + len(line("one")) + 5), pytest.raises(OSError, match="File too large"):
            log.write(batches)
        assert {} == log.progress()
        assert OLD_LINES + line("one") + line("two")[:5] == path.read_bytes()

        log.write([*batches, batch(3, hit("four"))])
        assert {"a": Progress(3, 3, 4)} == log.progress()
    assert OLD_LINES + THREE_LINES + line("four") == path.read_bytes()


@pytest.mark.parametrize("written", [0, 5, len(line("one")), len(THREE_LINES) - 1])
def test_starts_with_a_full_disk(path: Path, state_dir: Path, written: int) -> None:
    """When what a crash left can't be finished at the start, the next write does."""
    leave_unfinished(path, state_dir, written=written)

    with largest_file(len(OLD_LINES) + written):
        log = VisitLog(path, state_dir)
    with closing(log):
        assert {} == log.progress()
        log.write([])
        assert {"a": Progress(2, 2, 3)} == log.progress()
    assert OLD_LINES + THREE_LINES == path.read_bytes()


@pytest.mark.parametrize("made", [False, True])
def test_renamed_after_a_crash(path: Path, state_dir: Path, *, made: bool) -> None:
    """What a crash left is finished in the file it was for, though that has another name now."""
    leave_unfinished(path, state_dir, written=5)
    old = path.rename(path.with_name("visits.log-2022-12-19"))
    path.with_name("visits.log-2022-12-18").write_bytes(OLD_LINES + b"other")
    if made:
        path.write_bytes(OLD_LINE)

    with closing(VisitLog(path, state_dir)) as log:
        assert {"a": Progress(2, 2, 3)} == log.progress()
        log.write([batch(3, hit("four"))])

    assert OLD_LINES + THREE_LINES == old.read_bytes()
    assert (OLD_LINE if made else b"") + line("four") == path.read_bytes()


def test_renamed_after_a_failure(path: Path, state_dir: Path) -> None:
    """The same, without a new start."""
    path.write_bytes(OLD_LINES)
    old = path.with_name("visits.log.1")
    with closing(VisitLog(path, state_dir)) as log:
        with largest_file(len(OLD_LINES) + 5), pytest.raises(OSError, match="File too large"):
            log.write([batch(1, hit("one"))])
        path.rename(old)
        log.write([batch(1, hit("one")), batch(2, hit("two"))])

    assert OLD_LINES + line("one") == old.read_bytes()
    assert line("two") == path.read_bytes()


@pytest.mark.parametrize("content", [b"", OLD_LINE, OLD_LINES.replace(b"before", b"others") + OLD_LINE])
def test_replaced_after_a_crash(path: Path, state_dir: Path, content: bytes) -> None:
    """When the file is gone, all lines of the last write go into the present one, even if it got the same inode."""
    leave_unfinished(path, state_dir, written=5)
    inode = path.stat().st_ino
    path.write_bytes(content)
    assert inode == path.stat().st_ino

    with closing(VisitLog(path, state_dir)) as log:
        log.write([])
        assert {"a": Progress(2, 2, 3)} == log.progress()

    assert content + THREE_LINES == path.read_bytes()


def test_replaced_and_failed_again(path: Path, state_dir: Path) -> None:
    """When that, too, is cut short, the rest goes where the beginning went."""
    leave_unfinished(path, state_dir, written=5)
    content = OLD_LINES.replace(b"before", b"others")
    path.write_bytes(content)

    with (
        closing(VisitLog(path, state_dir)) as log,
        largest_file(len(content) + 7),
        pytest.raises(OSError, match="File too large"),
    ):
        log.write([])
    assert content + THREE_LINES[:7] == path.read_bytes()

    with closing(VisitLog(path, state_dir)) as log:
        log.write([])
        assert content + THREE_LINES == path.read_bytes()


def test_renamed_with_its_first_line(path: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that was empty before the crash is not taken for another empty one."""

    def run_full(fd: int, text: memoryview, write: Callable[[int, memoryview], int] = os.write) -> int:
        write(fd, text[:5])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with closing(VisitLog(path, state_dir)) as log, monkeypatch.context() as full:
        full.setattr(os, "write", run_full)
        with pytest.raises(OSError, match="No space left on device"):
            log.write([batch(1, hit("one"))])
    old = path.rename(path.with_name("visits.log.1"))
    path.touch()

    with closing(VisitLog(path, state_dir)):
        assert line("one") == old.read_bytes()
        assert path.read_bytes() == b""


def test_deleted_after_a_crash(path: Path, state_dir: Path) -> None:
    """A log deleted after a crash is made anew, with all lines of the last write."""
    leave_unfinished(path, state_dir, written=5)
    path.unlink()

    with closing(VisitLog(path, state_dir)) as log:
        log.write([])
        assert THREE_LINES == path.read_bytes()


def test_deleted_after_a_failure(path: Path, state_dir: Path) -> None:
    """The same, without a new start: nothing goes into a file that nobody can see."""
    path.write_bytes(OLD_LINES)
    with closing(VisitLog(path, state_dir)) as log:
        with largest_file(len(OLD_LINES) + 5), pytest.raises(OSError, match="File too large"):
            log.write([batch(1, hit("one"))])
        path.unlink()
        log.write([batch(1, hit("one")), batch(2, hit("two"))])

    assert line("one") + line("two") == path.read_bytes()


@pytest.mark.parametrize("written", [0, 5, len(THREE_LINES) - 1])
def test_written_by_others_after_a_crash(path: Path, state_dir: Path, written: int) -> None:
    """Lines of somebody else where ours should be: the start is refused, the file untouched, a way out named."""
    leave_unfinished(path, state_dir, written=written)
    with path.open("ab") as file:
        file.write(OLD_LINE)
    content = path.read_bytes()

    with pytest.raises(DamagedFileError, match=f"{path} holds other lines .* Move it to another directory"):
        VisitLog(path, state_dir)
    assert content == path.read_bytes()

    path.rename(state_dir / "moved")
    with closing(VisitLog(path, state_dir)) as log:
        log.write([])
        assert THREE_LINES == path.read_bytes()


def test_failed_sync(path: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed sync nothing is written any more, until a new start has looked at the file."""

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    log = VisitLog(path, state_dir)
    with closing(log):
        with monkeypatch.context() as broken:
            broken.setattr(os, "fdatasync", fail)
            with pytest.raises(DamagedFileError, match="sync failed"):
                log.write([batch(1, hit("one"))])
        with pytest.raises(DamagedFileError, match="sync failed"):
            log.write([batch(1, hit("one"))])
        assert {} == log.progress()

    with closing(VisitLog(path, state_dir)) as log:
        assert {"a": Progress(1, 1, 1)} == log.progress()
    assert line("one") == path.read_bytes()


def test_full_state(path: Path, state_dir: Path) -> None:
    """When the intent can't be recorded, nothing is appended, and a later call goes on."""
    with closing(VisitLog(path, state_dir)) as log, closing(sqlite3.connect(state_dir / STATE_NAME)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OSError, match="can't be written now: database is locked"):
            log.write([batch(1, hit("one"))])
        assert b"" == path.read_bytes()

        other.execute("ROLLBACK")
        log.write([batch(1, hit("one"))])
        assert {"a": Progress(1, 1, 1)} == log.progress()
    assert line("one") == path.read_bytes()


# What stops the start.


def test_second_writer(path: Path, state_dir: Path, tmp_path: Path) -> None:
    """A second storage on the same log is told who holds it, whatever its state and its name for the log."""
    alias = tmp_path / "alias.log"
    alias.symlink_to(path)
    with closing(VisitLog(path, state_dir)), pytest.raises(AlreadyInUseError) as refused:
        VisitLog(alias, tmp_path)

    assert f"the visits log {path} is already held by process {os.getpid()} " in str(refused.value)


def test_second_writer_after_a_rotation(path: Path, state_dir: Path, tmp_path: Path) -> None:
    """The lock is on the file: who takes the new one first has it, and the other writes nothing there."""
    with closing(VisitLog(path, state_dir)) as first:
        first.write([batch(1, hit("one"))])
        path.rename(path.with_name("visits.log.1"))
        with closing(VisitLog(path, tmp_path)) as second:
            with pytest.raises(AlreadyInUseError, match=f"the visits log {path} is already held by process"):
                first.write([batch(2, hit("two"))])
            second.write([batch(3, hit("three"))])
        assert line("three") == path.read_bytes()
        first.write([batch(2, hit("two"))])
    assert line("three") + line("two") == path.read_bytes()


def test_second_writer_of_the_state(path: Path, state_dir: Path) -> None:
    """Two logs can't share a state; what was opened for the second is closed again."""
    other = path.with_name("other.log")
    with closing(VisitLog(path, state_dir)):
        assert is_held(state_dir / LOCK_NAME)
        with pytest.raises(AlreadyInUseError, match=r"the visits log's state .* is already held by process"):
            VisitLog(other, state_dir)

    assert not is_held(state_dir / LOCK_NAME)
    with closing(VisitLog(other, state_dir)):
        assert is_held(other)


def test_log_among_the_state(state_dir: Path) -> None:
    """The log may lie in the state directory, under any name."""
    with closing(VisitLog(state_dir / "visit_log", state_dir)) as log:
        log.write([batch(1, hit("one"))])

    assert line("one") == (state_dir / "visit_log").read_bytes()


def test_torn_line(path: Path, state_dir: Path) -> None:
    """A log that ends within a line that is not ours is refused and left as it is."""
    path.write_bytes(OLD_LINE + b"2022-12-19T1")

    with (
        closing(VisitLog(path, state_dir)) as log,
        pytest.raises(DamagedFileError, match=f"{path} ends within a line"),
    ):
        log.resume("a", None, lambda _: [])
    assert OLD_LINE + b"2022-12-19T1" == path.read_bytes()


def test_a_start_after_a_stop_without_a_hit_is_no_alarm(
    path: Path, state_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """There was nothing to note yet; a state that was lost is told."""
    reports: list[SinkReport | None] = [None]
    for _ in range(3):
        with closing(VisitLog(path, state_dir)) as log:
            log.resume("a", reports[-1], lambda _: [])
            reports.append(SinkReport(0, 0, 0, {}, log.mark(), None))
    assert [] == caplog.messages

    with closing(VisitLog(path, state_dir)) as log:
        log.write([batch(1, hit("one"))])
        report = SinkReport(1, 1, 1, {}, log.mark(), None)
    (state_dir / STATE_NAME).unlink()
    with closing(VisitLog(path, state_dir)) as log:
        log.resume("a", report, lambda _: [])
    assert ["is new, or older than the log" in message for message in caplog.messages] == [True]


def test_torn_line_later(path: Path, state_dir: Path) -> None:
    """The same while it runs: no line is ever glued to somebody else's."""
    with closing(VisitLog(path, state_dir)) as log:
        path.write_bytes(b"2022-12-19T1")
        with pytest.raises(DamagedFileError, match=f"{path} ends within a line"):
            log.write([batch(1, hit("one"))])
    assert b"2022-12-19T1" == path.read_bytes()


def test_no_directory(tmp_path: Path, state_dir: Path) -> None:
    """Directories are not made: a mistyped setting must not scatter logs."""
    with pytest.raises(FootfallError, match=rf"{tmp_path}/none is not there.*\(storage\.path\)"):
        VisitLog(tmp_path / "none" / "visits.log", state_dir)
    with pytest.raises(FootfallError, match=rf"{tmp_path}/none is not there.*\(data_dir\)"):
        VisitLog(tmp_path / "visits.log", tmp_path / "none")


@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_not_a_file(path: Path, state_dir: Path, kind: str) -> None:
    """A log can only be a regular file."""
    path.mkdir() if kind == "directory" else os.mkfifo(path)

    with pytest.raises(FootfallError, match=rf"{path} can't be used: .*not a regular file \(storage\.path\)"):
        VisitLog(path, state_dir)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(path: Path, state_dir: Path) -> None:
    """A log that can't be written is named with its setting."""
    path.touch(mode=0o400)

    with pytest.raises(FootfallError, match=rf"{path} can't be used: Permission denied \(storage\.path\)"):
        VisitLog(path, state_dir)


def test_damaged_state(path: Path, state_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A state that is none is set aside, and the log of Footfall tells where."""
    (state_dir / STATE_NAME).write_bytes(b"not SQLite" * 100)

    with closing(VisitLog(path, state_dir)) as log:
        assert {} == log.progress()
    [aside] = state_dir.glob(f"{STATE_NAME}.damaged-*")
    assert b"not SQLite" * 100 == aside.read_bytes()
    assert str(aside) in caplog.text


def test_newer_state(path: Path, state_dir: Path) -> None:
    """A state of a later format is refused."""
    with closing(sqlite3.connect(state_dir / STATE_NAME)) as db:
        db.execute("PRAGMA user_version = 2")

    with pytest.raises(DamagedFileError, match="has format 2; this Footfall reads format 1"):
        VisitLog(path, state_dir)
