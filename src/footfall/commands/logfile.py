"""A text file that is read line by line, plain or gzip, and the lines of it that are passed over."""

import gzip
import os
import stat
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self, TypeVar

from msgspec import Struct, field

from footfall.durable.files import open_file
from footfall.errors import BadUsageError

MAX_LINE_BYTES: Final = 1 << 20
"""What is taken for one line at most, where the caller says nothing else."""

_LINE_NUMBERS: Final = 20
_GZIP_MAGIC: Final = b"\x1f\x8b"

_Result = TypeVar("_Result")


class ReadError(Exception):
    """The file can't be read further."""


class Skipped(Struct):
    """Lines that were passed over, for one reason.

    Attributes:
        count: how many.
        lines: the numbers of the first 20, counted from 1.
    """

    count: int = 0
    lines: list[int] = field(default_factory=list)

    def add(self, line: int) -> None:
        self.count += 1
        if len(self.lines) < _LINE_NUMBERS:
            self.lines.append(line)


class LogFile:
    """A file on disk, plain or gzip, whatever its name says.

    Args:
        path: where it is.
        is_ours: refuse one that another user of the machine could have put there (`footfall.durable.files`); a file
            that somebody has named is read whoever made it.

    Attributes:
        path: where it is.
        size: bytes on disk when it was opened.
        is_packed: whether it is gzip.

    Raises:
        BadUsageError: it isn't there, can't be read or isn't a regular file.
    """

    def __init__(self, path: Path, *, is_ours: bool = False) -> None:
        self.path = path
        try:
            # A pipe would wait for its other end, and can't be gone through twice.
            fd = open_file(path, os.O_RDONLY) if is_ours else os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                os.close(fd)
                raise BadUsageError(f"{path} is not a regular file.")
            self._file = os.fdopen(fd, "rb")
            self.is_packed = self._file.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC)
        except OSError as error:
            raise BadUsageError(f"{path} can't be read: {error.strerror}.") from error
        self.size = status.st_size
        self._content = gzip.GzipFile(fileobj=self._file) if self.is_packed else self._file

    def has_moved(self) -> bool:
        """Whether another file has its name by now, or none."""
        try:
            return not os.path.samestat(self.path.stat(), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return True

    def consumed(self) -> int:
        """Bytes on disk up to where reading is; of a gzip file the compressed ones."""
        return self._file.tell()

    def read(self, size: int) -> bytes:
        """As many bytes, or fewer at the end; none behind it; raises `ReadError`."""
        return _naming_errors(self._content.read, size)

    def read_line(self, limit: int = MAX_LINE_BYTES) -> bytes:
        """The bytes up to and with the next line end, at most `limit`; none behind the end; raises `ReadError`."""
        return _naming_errors(self._content.readline, limit)

    def seek(self, offset: int) -> None:
        """Go on reading there, counted in bytes of the text itself; raises `ReadError`."""
        _naming_errors(self._content.seek, offset)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _naming_errors(read: Callable[[int], _Result], argument: int) -> _Result:
    try:
        return read(argument)
    except (OSError, EOFError, zlib.error) as error:
        raise ReadError(str(error)) from error
