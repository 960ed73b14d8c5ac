"""`kill -9` at each system call that changes a file, by strace: the state between any two of them is tried."""

import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from crash.drivers import DRIVERS, LAST

CALLS = (
    *("write", "pwrite64", "writev", "pwritev", "pwritev2", "fallocate", "truncate", "ftruncate"),
    *("fsync", "fdatasync", "sync_file_range", "msync"),
    *("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat"),
)
"""All that write, sync, rename, remove or cut a file. Where a system lacks one, it is not looked for."""
_RECOVERY_CALLS = 8
"""A recovery is killed at one of so many of its first calls."""
_BEYOND = 3
"""One run may make a few calls more than another."""
_LIFE_S = 60


class Place(NamedTuple):
    """The `number`th `call` of a driver, counted from 1."""

    driver: str
    call: str
    number: int


def trouble() -> str | None:
    """Why system calls can't be killed at here, or None."""
    if shutil.which("strace") is None:
        return "strace is not there: apt-get install strace"
    tried = subprocess.run(["strace", "-qq", "-e", "trace=none", "true"], capture_output=True, text=True, check=False)
    return f"strace can't be used: {tried.stderr.strip()}" if tried.returncode else None


def count_calls(driver: str, directory: Path) -> Counter[str]:
    """How often the work, undisturbed, makes each of `CALLS`, in the thread that makes it most often."""
    log = directory / "strace.log"
    _run(driver, _prepared(driver, directory / driver), ["-o", str(log), "-e", _set_of(CALLS)])
    by_thread = Counter(tuple(line.partition("(")[0].split()) for line in log.read_text("utf-8").splitlines())
    counts: Counter[str] = Counter()
    for words, number in by_thread.items():
        if len(words) == 2:  # not `+++ exited with 0 +++`, nor the end of a call that was interrupted
            counts[words[1]] = max(counts[words[1]], number)
    return counts


def every_place(driver: str, directory: Path) -> list[Place]:
    """Where to kill the work: at the first of each of `CALLS`, the second, ..., until it comes to its end."""
    return [
        Place(driver, call, number)
        for call, count in count_calls(driver, directory).items()
        for number in range(1, count + _BEYOND + 1)
    ]


def kill_at(place: Place, directory: Path) -> bool:
    """Kill the work there and its recovery at another place; let it end, and check what it has done.

    Returns:
        Whether the work came there before its end.

    Raises:
        AssertionError: something is lost, doubled or changed.
    """
    driver, call, number = place
    files = _prepared(driver, directory / f"{driver}-{call}-{number}")
    try:
        is_killed, told = _run(driver, files, _killing(call, number))
        told += _run(driver, files, _killing(call, 1 + number % _RECOVERY_CALLS))[1]
        is_last_killed, told_last = _run(driver, files, ["-e", "trace=none"])
        told += told_last
        assert not is_last_killed
        assert sorted(told) == told, f"done, and then not any more: {told}"
        assert told[-1] >= LAST
        DRIVERS[driver].check(files)
    except AssertionError as error:
        error.add_note(f"{driver} was killed at {call} {number}; what it has written is in {files}")
        raise
    shutil.rmtree(files)
    return is_killed


def _prepared(driver: str, files: Path) -> Path:
    files.mkdir()
    DRIVERS[driver].prepare(files)
    return files


def _set_of(calls: tuple[str, ...]) -> str:
    return "trace=" + ",".join(f"?{call}" for call in calls)


def _killing(call: str, number: int) -> list[str]:
    return ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}"]


def _run(driver: str, files: Path, options: list[str]) -> tuple[bool, list[int]]:
    """One life of a driver: whether it was killed, and how far it has told that it came."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-m", "crash.drivers", driver, str(files), str(theirs.fileno())]
        ended = subprocess.run(
            ["strace", "-f", "-qq", "-o", "/dev/null", *options, *command],
            pass_fds=[theirs.fileno()],
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            timeout=_LIFE_S,
            check=False,
        )
        theirs.close()
        told = b"".join(iter(lambda: ours.recv(65_536), b"")).split()
    is_killed = ended.returncode == -signal.SIGKILL  # strace ends as what it traces
    assert is_killed or ended.returncode == 0, ended.stderr
    return is_killed, [int(number) for number in told]
