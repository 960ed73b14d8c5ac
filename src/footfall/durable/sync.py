"""Sync: what makes a file's contents, or the names in a directory, survive a power cut."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Make a file's contents durable, or the names in a directory.

    Raises:
        OSError: the sync failed; a second one would prove nothing.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
