"""Reads a text file line by line, plain or compressed, and counts the lines that were skipped."""

import bz2
import gzip
import importlib
import io
import lzma
import os
import stat
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self, TypeVar, cast

from msgspec import Struct, field

from footfall.durable.files import open_file
from footfall.errors import BadUsageError

MAX_LINE_BYTES: Final = 1 << 20
"""A longer line is cut here, unless the caller sets another limit."""

STANDARD_INPUT: Final = Path("-")

_LINE_NUMBERS: Final = 20
_BUFFER_BYTES: Final = 1 << 20

_OPENERS: Final[dict[bytes, Callable[[Any], Any]]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": lambda file: _zstd().ZstdFile(file),
}
"""How each compressed file begins, and what reads it."""
_OTHER_MAGICS: Final = {b"\x04\x22\x4d\x18": "lz4", b"PK\x03\x04": "zip", b"\x1f\x9d": "compress"}
"""How files begin that can't be read here."""
_MAGIC_BYTES: Final = max(map(len, (*_OPENERS, *_OTHER_MAGICS)))

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
    """A file on disk or standard input, plain or compressed (gzip, bzip2, xz, Zstandard), whatever its name says.

    Args:
        path: where it is; `-` stands for standard input.
        is_ours: refuse one that another user of the machine could have put there (`footfall.durable.files`); a file
            that somebody has named is read whoever made it.

    Attributes:
        path: as above.
        name: what to call it.
        size: bytes on disk when it was opened; 0 for standard input.
        is_packed: whether it is compressed.
        can_seek: whether it can be read twice.

    Raises:
        BadUsageError: the file is missing, can't be read, is not a regular file, or is compressed by another program.
    """

    def __init__(self, path: Path, *, is_ours: bool = False) -> None:
        self.path = path
        self.name = path.name
        try:
            self.can_seek = path != STANDARD_INPUT
            fd = self._open(is_ours=is_ours)
            status = os.fstat(fd)
            if self.can_seek and not stat.S_ISREG(status.st_mode):
                os.close(fd)
                raise BadUsageError(f"{path} is not a regular file. Read a pipe as standard input (-).")
            self.size = status.st_size if self.can_seek else 0
            self._file = os.fdopen(fd, "rb", _BUFFER_BYTES)
            magic = cast(io.BufferedReader, self._file).peek(_MAGIC_BYTES)
        except OSError as error:
            raise BadUsageError(f"{path} can't be read: {error.strerror}.") from error
        packer = next((name for start, name in _OTHER_MAGICS.items() if magic.startswith(start)), None)
        if packer is not None:
            self._file.close()
            raise BadUsageError(
                f"{path} is compressed with {packer}. Decompress it first: read are gzip, bzip2, xz and Zstandard."
            )
        opener = next((opener for start, opener in _OPENERS.items() if magic.startswith(start)), None)
        self.is_packed = opener is not None
        self._content: io.BufferedReader = cast(io.BufferedReader, self._file) if opener is None else opener(self._file)

    def _open(self, *, is_ours: bool) -> int:
        if not self.can_seek:
            self.name = "standard input"
            return os.dup(sys.stdin.fileno())
        # A pipe would wait for its other end.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        return open_file(self.path, os.O_RDONLY) if is_ours else os.open(self.path, flags)

    def has_moved(self) -> bool:
        """Whether the file was renamed or deleted since it was opened."""
        try:
            return not os.path.samestat(self.path.stat(), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return True

    def consumed(self) -> int:
        """Bytes on disk up to where reading is; of a compressed file the compressed ones."""
        return self._file.tell() if self.can_seek else 0

    def first_lines(self) -> list[bytes]:
        """The lines that it begins with, of up to 1 MiB in all; reading stays where it is.

        Raises:
            ReadError: not even the first can be read.
        """
        if not self.can_seek:
            content = _naming_errors(self._content.peek, _BUFFER_BYTES)
            return content.splitlines(keepends=True)
        lines: list[bytes] = []
        room = _BUFFER_BYTES
        try:
            while room > 0 and (line := self.read_line(room)):
                lines.append(line)
                room -= len(line)
        except ReadError:
            if not lines:
                raise
        self.seek(0)
        return lines

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
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ReadError(str(error)) from error
    except Exception as error:
        if type(error).__name__ == "ZstdError":  # its module is imported where it is needed
            raise ReadError(str(error)) from error
        raise


def _zstd() -> Any:  # noqa: ANN401 - a module
    """Python has it from 3.14 on; before, the same is in a package of its own."""
    try:
        return importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    except ModuleNotFoundError:
        raise BadUsageError(
            "This Python can't read Zstandard: pip install backports.zstd, or unpack it on the way: zstdcat FILE | "
            "footfall import -"
        ) from None
