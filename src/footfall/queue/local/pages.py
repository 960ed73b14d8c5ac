"""The rows in the pages of a SQLite file, read page by page.

SQLite gives up at a damaged page by which it finds others, and ignores everything behind a damaged frame of its
write-ahead log. This module reads each page on its own: those of the file, and those in the log up to its last commit.
It may find rows that were deleted or never existed; only the caller can tell.

Format: https://sqlite.org/fileformat2.html, sections 1.5, 1.6, 2.1 and 4.
"""

import mmap
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

_LOG_HEADER: Final = 32
_FRAME_HEADER: Final = 24
_LEAF: Final = 0x0D
_INDEX_LEAF: Final = 0x0A
_PAGE_BYTES: Final = 4_096
_FILE_HEADER: Final = 100
_INTEGER_BYTES: Final = (0, 1, 2, 3, 4, 6, 8)

Data = bytes | mmap.mmap
Value = int | float | str | bytes | None


class Place(NamedTuple):
    """Where a row is.

    Attributes:
        in_log: whether its page is in the log, not in the file.
        page_at: where the page begins there.
        at: where the row begins in the page.
        has_id: whether it is of a table with row ids.
        newest: whether its other pages come from the log, if they are there.
    """

    in_log: bool
    page_at: int
    at: int
    has_id: bool
    newest: bool


class Row(NamedTuple):
    """A row. Its id is 0 if it has none."""

    place: Place
    row_id: int
    values: list[Value]


class Log:
    """The write-ahead log, up to its last commit.

    Attributes:
        page_bytes: the size of a page; 0 where there is no log.
        frames: page number, and place of the page, of each frame up to the last commit.
    """

    def __init__(self, data: Data) -> None:
        self.page_bytes = 0
        self.frames: list[tuple[int, int]] = []
        if len(data) <= _LOG_HEADER + _FRAME_HEADER:
            return
        self.page_bytes = _plausible(struct.unpack_from(">I", data, 8)[0])
        # Behind the last frame there may be older ones, which have other salts.
        at = 16 if _is_log_header(data[:_LOG_HEADER]) else _LOG_HEADER + 8
        salts = data[at : at + 8]
        last = 0
        frame_bytes = _FRAME_HEADER + self.page_bytes
        for start in range(_LOG_HEADER, len(data) - frame_bytes + 1, frame_bytes):
            number, pages_after_commit = struct.unpack_from(">II", data, start)
            self.frames.append((number, start + _FRAME_HEADER))
            if pages_after_commit and data[start + 8 : start + 16] == salts:
                last = len(self.frames)
        del self.frames[last:]


class Pages:
    """All pages of a file and of its log. Both may be empty or hold anything."""

    def __init__(self, file: Data, log: Data) -> None:
        self._data = (file, log)
        frames = Log(log)
        self._frames = frames.frames
        self._newest = dict(frames.frames)
        in_file = struct.unpack_from(">H", file, 16)[0] if len(file) >= _FILE_HEADER else 0
        self._page_bytes = frames.page_bytes or _plausible(in_file)

    def rows(self) -> Iterator[Row]:
        """Every row in every version of every page, older versions first.

        A row of several pages comes in two versions: with the pages of the log, and with those of the file.
        """
        size = self._page_bytes
        pages = [(False, page_at, 0 if page_at else _FILE_HEADER) for page_at in range(0, len(self._data[0]), size)]
        pages += [(True, page_at, _FILE_HEADER if number == 1 else 0) for number, page_at in self._frames]
        for in_log, page_at, header_at in pages:
            for at, has_id in _cells(self._page(page_at, in_log=in_log), header_at):
                with suppress(ValueError, IndexError, struct.error):
                    row = self.row(Place(in_log, page_at, at, has_id, newest=True))
                    yield row
                    if self._newest:
                        yield self.row(row.place._replace(newest=False))

    def row(self, place: Place) -> Row:
        """The row at a place.

        Raises:
            ValueError, IndexError, struct.error: there is none.
        """
        page = self._page(place.page_at, in_log=place.in_log)
        length, at = _varint(page, place.at)
        row_id, at = _varint(page, at) if place.has_id else (0, at)
        here = self._bytes_here(length, has_id=place.has_id)
        parts = [page[at : at + here]]
        missing = length - here
        if missing:
            (number,) = struct.unpack_from(">I", page, at + here)
            while missing > 0 and (further := self._further(number, newest=place.newest)):
                parts.append(further[4 : 4 + missing])
                missing -= len(parts[-1])
                (number,) = struct.unpack_from(">I", further)
        return Row(place, row_id, _values(b"".join(parts)))

    def _bytes_here(self, length: int, *, has_id: bool) -> int:
        """How much of a row so long is in its first page."""
        if length > len(self._data[0]) + len(self._data[1]):
            raise ValueError
        size = self._page_bytes
        largest = size - 35 if has_id else (size - 12) * 64 // 255 - 23
        if length <= largest:
            return length
        smallest = (size - 12) * 32 // 255 - 23
        here = smallest + (length - smallest) % (size - 4)
        return here if here <= largest else smallest

    def _further(self, number: int, *, newest: bool) -> bytes:
        if newest and number in self._newest:
            return self._page(self._newest[number], in_log=True)
        page = self._page(max(0, number - 1) * self._page_bytes, in_log=False)
        return page if len(page) == self._page_bytes else b""

    def _page(self, at: int, *, in_log: bool) -> bytes:
        return self._data[in_log][at : at + self._page_bytes]


def _cells(page: bytes, header_at: int) -> Iterator[tuple[int, bool]]:
    """Where rows may begin in a page, and whether they have ids."""
    if len(page) < header_at + 8:
        return
    # A wrong bit in the header of a page must not hide its rows.
    has_id = (page[header_at] ^ _LEAF).bit_count() <= 1
    if not has_id and page[header_at] != _INDEX_LEAF:
        return
    lowest = len(page)
    pointer_at = header_at + 8
    while pointer_at + 2 <= lowest:
        (at,) = struct.unpack_from(">H", page, pointer_at)
        pointer_at += 2
        if pointer_at <= at < len(page):
            lowest = min(lowest, at)
            yield at, has_id


def _is_log_header(header: bytes) -> bool:
    """Whether a log's header fits its checksum."""
    order = "<" if header[3] & 1 == 0 else ">"
    words = struct.unpack(f"{order}6I", header[:24])
    first = second = 0
    for index in range(0, 6, 2):
        first = (first + words[index] + second) & 0xFFFFFFFF
        second = (second + words[index + 1] + first) & 0xFFFFFFFF
    return struct.pack(">II", first, second) == header[24:32]


def _plausible(page_bytes: int) -> int:
    """A page's size, or the usual size if that is none."""
    return page_bytes if 512 <= page_bytes <= 32_768 and page_bytes.bit_count() == 1 else _PAGE_BYTES


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of one to nine bytes, and where it ends."""
    value = 0
    for index in range(at, at + 8):
        value = value << 7 | data[index] & 0x7F
        if data[index] < 0x80:
            return value, index + 1
    return value << 8 | data[at + 8], at + 9


def _values(record: bytes) -> list[Value]:
    """The columns of a row. If its end is missing, the last column is cut."""
    header_bytes, at = _varint(record, 0)
    body = header_bytes
    values: list[Value] = []
    while at < header_bytes:
        kind, at = _varint(record, at)
        if kind >= 12:
            part = record[body : body + (kind - 12) // 2]
            values.append(part.decode(errors="replace") if kind % 2 else part)
            body += (kind - 12) // 2
        elif kind in {8, 9}:
            values.append(kind - 8)
        elif kind < len(_INTEGER_BYTES):
            size = _INTEGER_BYTES[kind]
            values.append(int.from_bytes(record[body : body + size], "big", signed=True) if kind else None)
            body += size
        else:
            raise ValueError
    return values
