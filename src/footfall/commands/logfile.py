"""Reads a text file line by line, plain or gzip, and counts the lines that were skipped."""

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
"""A longer line is cut here, unless the caller sets another limit."""

_LINE_NUMBERS: Final = 20
_GZIP_MAGIC: Final = b"\x1f\x8b"
_OTHER_MAGICS: Final = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
}
"""How files begin that other programs have compressed."""
_MAGIC_BYTES: Final = max(map(len, _OTHER_MAGICS))

_Result = TypeVar("_Result")


class ReadError(Exception):
    """The rest of the file can't be read."""


class Skipped(Struct):
    """Lines that were skipped for one reason.

    Attributes:
        count: how many.
        lines: the line numbers of the first 20, counted from 1.
    """

    count: int = 0
    lines: list[int] = field(default_factory=list)

    def add(self, line: int) -> None:
        self.count += 1
        if len(self.lines) < _LINE_NUMBERS:
            self.lines.append(line)


class LogFile:
    """An open file, plain or gzip; its first bytes tell which, not its name.

    Args:
        path: where it is.
        is_ours: refuse one that another user of the machine could have put there (`footfall.durable.files`); a file
            that somebody has named is read whoever made it.

    Attributes:
        path: where it is.
        size: bytes on disk when it was opened.
        is_packed: whether it is gzip.

    Raises:
        BadUsageError: the file is missing, can't be read, is not a regular file, or is compressed by another program.
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
            head = self._file.peek(_MAGIC_BYTES)[:_MAGIC_BYTES]
        except OSError as error:
            raise BadUsageError(f"{path} can't be read: {error.strerror}.") from error
        self.is_packed = head.startswith(_GZIP_MAGIC)
        packer = next((name for magic, name in _OTHER_MAGICS.items() if head.startswith(magic)), None)
        if packer is not None:
            self._file.close()
            raise BadUsageError(f"{path} is compressed with {packer}. Decompress it first: only gzip is read as it is.")
        self.size = status.st_size
        self._content = gzip.GzipFile(fileobj=self._file) if self.is_packed else self._file

    def has_moved(self) -> bool:
        """Whether the file was renamed or deleted since it was opened."""
        try:
            return not os.path.samestat(self.path.stat(), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return True

    def consumed(self) -> int:
        """How many bytes on disk have been read; for gzip, compressed bytes."""
        return self._file.tell()

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer near the end, none at the end; raises `ReadError`."""
        return _naming_errors(self._content.read, size)

    def read_line(self, limit: int = MAX_LINE_BYTES) -> bytes:
        """The rest of the line with its line end, at most `limit` bytes; none at the end; raises `ReadError`."""
        return _naming_errors(self._content.readline, limit)

    def seek(self, offset: int) -> None:
        """Continue at `offset`, counted in bytes of uncompressed text; raises `ReadError`."""
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
