"""`kill -9` at each system call that changes a file, by strace: the state between any two of them is tried."""

import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from crash.drivers import DRIVERS, LAST

CALLS = (
    *("write", "pwrite64", "writev", "pwritev", "pwritev2", "fallocate", "truncate", "ftruncate"),
    *("fsync", "fdatasync", "sync_file_range", "msync"),
    *("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat"),
)
"""All that write, sync, rename, remove or cut a file. Where a system lacks one, it is not looked for."""
_RECOVERY_CALLS = 8
"""A recovery is killed at one of so many of its first calls."""
_LIFE_S = 60
_SIGKILL_CODES = {-9, 128 + 9}
"""How strace ends when what it traces is killed."""


def trouble() -> str | None:
    """Why system calls can't be killed at here, or None."""
    if shutil.which("strace") is None:
        return "strace is not there: apt-get install strace"
    tried = subprocess.run(["strace", "-qq", "-e", "trace=none", "true"], capture_output=True, text=True, check=False)
    return f"strace can't be used: {tried.stderr.strip()}" if tried.returncode else None


def count_calls(driver: str, directory: Path) -> Counter[str]:
    """How often the work, undisturbed, makes each of `CALLS`, in the thread that makes it most often."""
    log = directory / "strace.log"
    _run(driver, _prepared(driver, directory), ["-o", str(log), "-e", _set_of(CALLS)])
    by_thread = Counter(tuple(line.partition("(")[0].split()) for line in log.read_text("utf-8").splitlines())
    counts: Counter[str] = Counter()
    for words, number in by_thread.items():
        if len(words) == 2:  # not `+++ exited with 0 +++`, nor the end of a call that was interrupted
            counts[words[1]] = max(counts[words[1]], number)
    return counts


def kill_at_each(driver: str, call: str, directory: Path) -> Iterator[bool]:
    """Kill at the first such call, the second, ..., each in a new directory, until the work comes to its end."""
    number = 0
    while True:
        number += 1
        is_killed = kill_at(driver, call, number, directory)
        if not is_killed:
            return
        yield is_killed


def kill_at(driver: str, call: str, number: int, directory: Path) -> bool:
    """Kill the work at its `number`th such call and its recovery at another; let it end, and check what it has done.

    Returns:
        Whether the work made so many such calls.

    Raises:
        AssertionError: something is lost, doubled or changed.
    """
    place = _prepared(driver, directory)
    is_killed, told = _run(driver, place, _killing(call, number))
    told += _run(driver, place, _killing(call, 1 + number % _RECOVERY_CALLS))[1]
    is_last_killed, told_last = _run(driver, place, ["-e", "trace=none"])
    told += told_last
    assert not is_last_killed
    assert sorted(told) == told, f"done, and then not any more: {told}"
    assert told[-1] >= LAST
    DRIVERS[driver].check(place)
    shutil.rmtree(place)
    return is_killed


def _prepared(driver: str, directory: Path) -> Path:
    place = directory / driver
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    DRIVERS[driver].prepare(place)
    return place


def _set_of(calls: tuple[str, ...]) -> str:
    return "trace=" + ",".join(f"?{call}" for call in calls)


def _killing(call: str, number: int) -> list[str]:
    return ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}"]


def _run(driver: str, place: Path, options: list[str]) -> tuple[bool, list[int]]:
    """One life of a driver: whether it was killed, and how far it has told that it came."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-m", "crash.drivers", driver, str(place), str(theirs.fileno())]
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
    is_killed = ended.returncode in _SIGKILL_CODES
    assert is_killed or ended.returncode == 0, ended.stderr
    return is_killed, [int(number) for number in told]
