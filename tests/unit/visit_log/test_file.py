"""The file of a visits log: which one it is after rotations and crashes, who may write it, and what stops it."""

import errno
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from footfall.errors import AlreadyInUseError, DamagedFileError, FootfallError
from footfall.queue.base import Progress
from footfall.visit_log.writer import VisitLog
from full_disk import largest_file
from visit_batches import OLD_LINE, OLD_LINES, THREE_LINES, batch, hit, leave_unfinished, line


def test_continues_a_log(path: Path, state_dir: Path) -> None:
    """Lines that were there before stay."""
    path.write_bytes(OLD_LINE)
    with closing(VisitLog(path, state_dir)) as log:
        log.write([batch(1, hit("one"))])

    assert OLD_LINE + line("one") == path.read_bytes()


def test_mode(path: Path, state_dir: Path) -> None:
    """Addresses are not for everybody: others can't read a new log."""
    with closing(VisitLog(path, state_dir)):
        assert 0 == path.stat().st_mode & 0o137


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


def test_torn_line(path: Path, state_dir: Path) -> None:
    """A log that ends within a line that is not ours is refused and left as it is."""
    path.write_bytes(OLD_LINE + b"2022-12-19T1")

    with (
        closing(VisitLog(path, state_dir)) as log,
        pytest.raises(DamagedFileError, match=f"{path} ends within a line"),
    ):
        log.resume("a", None, lambda _: [])
    assert OLD_LINE + b"2022-12-19T1" == path.read_bytes()


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
