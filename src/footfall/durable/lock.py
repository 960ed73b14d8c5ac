"""A lock on a file, released by the kernel when its holder dies, and readable: it says who holds it."""

import fcntl
import os
import socket
import time
from pathlib import Path
from typing import Self

from footfall.errors import AlreadyInUseError

_PATIENCE_S = 1.0
"""A look by `is_held`, or a holder that was killed a moment ago, is over long before this."""


class FileLock:
    """Held from construction until `close`, by at most one process.

    The file holds one line about the holder. It is left in place when the lock is released: removing it would let
    two processes lock two different files of the same name.

    Raises:
        AlreadyInUseError: another process holds it; the text says which.
        OSError: the file can't be made.
    """

    def __init__(self, path: Path, *, purpose: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.02)
                    continue
                holder = os.pread(self._fd, 1_000, 0).decode(errors="replace").strip()
                os.close(self._fd)
                raise AlreadyInUseError(
                    f"{purpose} is already held by {holder or 'another process'} ({path}). "
                    "Stop that one first, or give this one a place of its own."
                ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Presence:
    """Held until the end of its block, by any number of processes that do the same work or wait to do it.

    Raises:
        OSError: the file can't be made.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._fd, fcntl.LOCK_SH)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def is_held(path: Path) -> bool:
    """Whether a living process has the lock, or its presence, at `path`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
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
