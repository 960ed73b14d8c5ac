"""Locks on files: one holder at a time, who it is, and no lock that outlives its holder."""

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from footfall.durable import lock as filelock
from footfall.durable.lock import FileLock, is_held
from footfall.errors import AlreadyInUseError

HOLD = """
import sys
from pathlib import Path
from footfall.durable.lock import FileLock

with FileLock(Path(sys.argv[1]), purpose="the test"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the lock at `path`."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert b"held\n" == holder.stdout.readline()
        yield holder
        assert holder.stdin is not None
        holder.stdin.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.lock"


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filelock, "_PATIENCE_S", 0.05)


def test_lock_of_another_process_is_refused_with_its_name(path: Path) -> None:
    """Whoever comes second is told what is held, by which process of which machine, and where."""
    with held_elsewhere(path) as holder, pytest.raises(AlreadyInUseError) as caught:
        FileLock(path, purpose="The visits log")

    said = str(caught.value)
    assert said.startswith(f"The visits log is already held by process {holder.pid} on {socket.gethostname()}")
    assert str(path) in said


@pytest.mark.usefixtures("_impatient")
def test_refusal_leaves_the_holder_alone(path: Path) -> None:
    """The file still says who holds it, and it is still held."""
    with held_elsewhere(path) as holder:
        before = path.read_bytes()
        with pytest.raises(AlreadyInUseError):
            FileLock(path, purpose="it")

        assert before == path.read_bytes()
        assert holder.poll() is None
        assert is_held(path)


@pytest.mark.usefixtures("_impatient")
def test_second_lock_in_one_process_is_refused(path: Path) -> None:
    """The same process does not get it twice either."""
    with FileLock(path, purpose="it"), pytest.raises(AlreadyInUseError, match=f"process {os.getpid()} "):
        FileLock(path, purpose="it")


def test_lock_that_is_released_a_moment_later_is_taken(path: Path) -> None:
    """A restart does not fail because the one before has not quite ended."""
    before = FileLock(path, purpose="it")
    threading.Timer(0.1, before.close).start()

    with FileLock(path, purpose="it"):
        assert is_held(path)


def test_released_lock_can_be_taken_again(path: Path) -> None:
    """After `close` it is free, and the file stays, with the same identity."""
    with FileLock(path, purpose="it"):
        inode = path.stat().st_ino
    assert not is_held(path)

    with FileLock(path, purpose="it"):
        assert is_held(path)
        assert inode == path.stat().st_ino


def test_lock_dies_with_its_holder(path: Path) -> None:
    """After SIGKILL nobody has to clean up."""
    with held_elsewhere(path) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()

        with FileLock(path, purpose="it"):
            assert f"process {os.getpid()} on {socket.gethostname()}\n" == path.read_text()


def test_longer_name_of_an_earlier_holder_does_not_shine_through(path: Path) -> None:
    """The line about the holder is all there is in the file."""
    path.write_text("process 123456789 on a-machine-with-a-name-that-is-much-longer-than-any-other.example\n" * 5)

    with FileLock(path, purpose="it"):
        assert f"process {os.getpid()} on {socket.gethostname()}\n" == path.read_text()


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"x" * 10_000])
def test_holder_that_left_no_name_is_another_process(path: Path, content: bytes) -> None:
    """Whatever is in the file, the refusal is a plain one."""
    with held_elsewhere(path):
        path.write_bytes(content)
        with pytest.raises(AlreadyInUseError, match="already held by"):
            FileLock(path, purpose="it")


def test_lock_is_not_inherited_by_programs_started_meanwhile(path: Path) -> None:
    """A program started while the lock is held does not keep it."""
    with FileLock(path, purpose="it"):
        child = subprocess.Popen(
            [sys.executable, "-c", "input('started')"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=False,
        )
        assert child.stdout is not None
        assert b"started" == child.stdout.read(7)
    try:
        assert not is_held(path)
    finally:
        child.communicate(b"\n")


def test_looking_changes_nothing(path: Path) -> None:
    """Asking whether a lock is held neither makes the file nor takes the lock."""
    assert not is_held(path)
    assert not path.exists()

    with held_elsewhere(path):
        assert is_held(path)
        assert is_held(path)
    assert not is_held(path)


def test_lock_file_holds_nothing_that_others_may_change(path: Path) -> None:
    """Only its owner writes it."""
    with FileLock(path, purpose="it"):
        assert 0 == stat.S_IMODE(path.stat().st_mode) & (stat.S_IWGRP | stat.S_IWOTH)


def test_place_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    """The caller knows which setting it came from."""
    with pytest.raises(FileNotFoundError):
        FileLock(tmp_path / "absent" / "some.lock", purpose="it")
