"""What is on the disk for good: a file's contents, or the names in a directory."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Make a file's contents durable, or, of a directory, the names in it.

    Raises:
        OSError: it can't be done; a second try would prove nothing.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
