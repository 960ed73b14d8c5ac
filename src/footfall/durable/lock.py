"""A lock on a file, released by the kernel when its holder dies; whoever does not get it is told who holds it."""

import fcntl
import os
import socket
import time
from pathlib import Path
from typing import Final, Self

from footfall.durable.files import PRIVATE, open_file
from footfall.errors import AlreadyInUseError

_PATIENCE_S = 1.0
"""How long to wait for a lock; a look by `is_held` takes less, and so does the end of a holder that was killed."""
_HOLDER_BYTES: Final = 200
"""Of what a lock file says about its holder."""


class FileLock:
    """A lock that at most one process holds, from construction until `close`.

    The file holds one line that names the holder. It stays when the lock is released: if it were removed, two processes
    could lock two different files of the same name.

    Raises:
        AlreadyInUseError: another process holds the lock; the text says which.
        OSError: the file can't be made or opened.
    """

    def __init__(self, path: Path, *, purpose: str) -> None:
        self._fd = open_file(path, os.O_RDWR | os.O_CREAT, mode=PRIVATE)
        if not take(self._fd):
            holder = os.pread(self._fd, _HOLDER_BYTES, 0)
            os.close(self._fd)
            raise _refusal(purpose, path, _printable(holder))
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def lock_open_file(fd: int, path: Path, *, purpose: str) -> None:
    """Lock a file that holds other things than its holder's name; the lock lasts until the file is closed.

    Raises:
        AlreadyInUseError: another process holds the lock; the text says which, if the system tells.
    """
    if not take(fd):
        raise _refusal(purpose, path, _holder_of(fd))


class Presence:
    """Held until the end of its block, by any number of processes that do the same work or stand by for it.

    Raises:
        OSError: the file can't be made or opened.
    """

    def __init__(self, path: Path) -> None:
        self._fd = open_file(path, os.O_RDWR | os.O_CREAT, mode=PRIVATE)
        fcntl.flock(self._fd, fcntl.LOCK_SH)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def take(fd: int, patience_s: float = _PATIENCE_S) -> bool:
    """Take the exclusive lock of an open file, waiting up to `patience_s` for it; return whether it was taken."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        else:
            return True


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock, or a presence, at `path`."""
    try:
        fd = open_file(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def _refusal(purpose: str, path: Path, holder: str) -> AlreadyInUseError:
    return AlreadyInUseError(
        f"{purpose} is already held by {holder or 'another process'} ({path}). "
        "Stop that one first, or give this one a place of its own."
    )


def _printable(text: bytes) -> str:
    """What a lock file says, without characters that could control a terminal."""
    characters = text.decode(errors="replace").strip()
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in characters
    )


def _holder_of(fd: int) -> str:
    """The process that has the lock; empty where it can't be seen from here, as in another container.

    The columns of the file are described in https://man7.org/linux/man-pages/man5/proc_locks.5.html.
    """
    inode = str(os.fstat(fd).st_ino)
    try:
        lines = Path("/proc/locks").read_text("utf-8").splitlines()
    except OSError:
        return ""
    for _, kind, _, _, process, place, *_ in (line.split() for line in lines if "->" not in line):
        if kind == "FLOCK" and place.rpartition(":")[2] == inode:
            return f"process {process}"
    return ""
