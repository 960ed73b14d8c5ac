"""The file of a visits log: which file it is after rotations, and how lines are appended to it.

A file is known by its inode and by the last bytes before a place in it. So it is found under the name that a rotation
gave it, and no other file is mistaken for it. The device is not recorded, since its number can change at each boot.

The file is locked while it is open, and the lock goes wherever the file goes. So no two processes append to one file,
whatever names they have for it.

What it does not do: find a log that was moved to another directory, or compressed.
"""

import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from footfall.durable.files import READ_BY_GROUP, is_trusted, open_file, real_path
from footfall.durable.lock import lock_open_file
from footfall.durable.sync import sync
from footfall.errors import DamagedFileError
from footfall.failpoint import Failpoint, reach
from footfall.visit_log.state import BEFORE_BYTES, End, Intent


class VisitLogFile:
    """The open log; made if it is not there.

    Attributes:
        path: the log's name, without links. The open file may have another one after a rotation.

    Raises:
        AlreadyInUseError: another process has the log open; the text says which.
        OSError: the log can't be made or opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = real_path(path)
        self._broken: DamagedFileError | None = None
        self._fd = _open_named(self.path)

    @property
    def size(self) -> int:
        return os.fstat(self._fd).st_size

    @property
    def inode(self) -> int:
        return os.fstat(self._fd).st_ino

    def close(self) -> None:
        os.close(self._fd)

    def last_bytes(self) -> bytes:
        """The last bytes of the file, by which its end is known.

        Raises:
            DamagedFileError: the file ends within a line.
        """
        last = bytes_before(self._fd, self.size)
        if last and not last.endswith(b"\n"):
            raise DamagedFileError(
                f"The visits log {self.path} ends within a line. If a storage with another data_dir was killed "
                "while writing it, start that one once, so that it ends the line; else move the file away."
            )
        return last

    def follow(self) -> None:
        """Open the file that has the log's name now, if it is another one."""
        try:
            if os.path.samestat(self.path.lstat(), os.fstat(self._fd)):
                return
        except FileNotFoundError:
            pass
        self._exchange(_open_named(self.path))

    def find(self, intent: Intent) -> bool:
        """Open the file of an intent, under whatever name it has now; return whether it still exists."""
        if self._is_file_of(intent):
            return True
        if self.inode == intent.inode:
            return False
        for path in self._files_with(intent.inode):
            with suppress(FileNotFoundError):  # it was removed since it was listed
                self._exchange(_open(path, self.path))
                if self._is_file_of(intent):
                    return True
        return False

    def check(self) -> None:
        """Raise the DamagedFileError of a sync that has failed, if one has."""
        if self._broken is not None:
            raise self._broken

    def append(self, intent: Intent) -> None:
        """Append what the file does not hold yet of an intent's text, and sync it.

        Raises:
            DamagedFileError: the file holds something else there, or the sync failed.
            OSError: the text can't be written now; a later call continues where this one stopped.
        """
        if not intent.text:
            return
        there = os.pread(self._fd, len(intent.text), intent.length)
        if not intent.text.startswith(there):
            raise DamagedFileError(
                f"The visits log {self.path} holds other lines from byte {intent.length} on than those that Footfall "
                "was writing there. Move it to another directory and start again: the lines go into a new log."
            )
        missing = memoryview(intent.text)[len(there) :]
        while missing:
            missing = missing[os.write(self._fd, missing) :]
        reach(Failpoint.VISIT_LOG_APPENDED)
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            # The kernel may have dropped what it could not write, so a second sync would prove nothing.
            self._broken = DamagedFileError(
                f"{self.path}: sync failed ({error.strerror}). Look at the disk and start again: "
                "Footfall will check the file."
            )
            raise self._broken from error
        reach(Failpoint.VISIT_LOG_SYNCED)

    def places_after(self, end: End, held: ExitStack) -> Iterator[tuple[int, int]]:
        """The files that lines were written to after `end`, in the order of writing, and where those lines begin.

        Args:
            end: the last place that is known.
            held: closes the descriptors that are given out.
        """
        for path in self._files_with(end.inode):
            fd = open_file(path, os.O_RDONLY)
            held.callback(os.close, fd)
            if zlib.crc32(bytes_before(fd, end.length)) == end.digest:
                if os.fstat(fd).st_size > end.length:
                    yield fd, end.length
                if end.inode == self.inode:
                    return
                break
        if self.size:
            yield self._fd, 0

    def _is_file_of(self, intent: Intent) -> bool:
        """Whether the open file is the intent's, and still has a name.

        The inode alone would not tell: when a file is deleted, the next one made may get its number.
        """
        status = os.fstat(self._fd)
        before = os.pread(self._fd, len(intent.before), intent.length - len(intent.before))
        return status.st_ino == intent.inode and status.st_nlink > 0 and before == intent.before

    def _files_with(self, inode: int) -> Iterator[Path]:
        """The files beside the log that have that inode."""
        for path in self.path.parent.iterdir():
            with suppress(FileNotFoundError):
                status = path.lstat()
                if status.st_ino == inode and stat.S_ISREG(status.st_mode) and is_trusted(path):
                    yield path

    def _exchange(self, fd: int) -> None:
        os.close(self._fd)
        self._fd = fd


def bytes_before(fd: int, offset: int) -> bytes:
    """The bytes before a place in a file, by which the place is known."""
    return os.pread(fd, min(offset, BEFORE_BYTES), max(0, offset - BEFORE_BYTES))


def _open_named(path: Path) -> int:
    """Open the log, and make it if need be; its name is safe on the disk before its first line is."""
    while True:
        fd = _open(path, path, os.O_CREAT)
        try:
            if os.path.samestat(path.lstat(), os.fstat(fd)):
                sync(path.parent)
                return fd
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # it was renamed before it was locked


def _open(path: Path, log: Path, flags: int = 0) -> int:
    """Open and lock a file that is, or was, the log called `log`."""
    fd = open_file(path, os.O_RDWR | os.O_APPEND | flags, mode=READ_BY_GROUP)
    try:
        lock_open_file(fd, path, purpose=f"the visits log {log}")
        # After a failed sync the system's cache shows lines that the disk does not hold.
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    except BaseException:
        os.close(fd)
        raise
    return fd
