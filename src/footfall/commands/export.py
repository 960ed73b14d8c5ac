"""Exported events that `footfall rebuild` can restore: `events.ndjson`, and beside it `events.ndjson.rebuild`.

The first is what any program reads: a JSON object a line for each row of `events` (`footfall.database.contents` says
how its columns are written). The second has what only a rebuild needs, because in the first it would count as an event:

- a `Header`: how many lines of each kind there are, and the database's position in each queue, so that a rebuild
  resumes exactly there;
- an `ExportedId` for each event id of the last days, so that an event that is sent again is still known.

Salts are in neither, because nobody needs them to read it. A file whose name ends in `.gz` is compressed; the second
never is.

In formats 1 and 2 the lines of both were in one file, the header first. In format 1 an event also had `received_at`, to
the microsecond. Both are still read, and the times of format 1 rounded as a migration of the database rounds them.
"""

import gzip
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, NamedTuple, TypeVar, cast

import duckdb
import msgspec
from msgspec import Meta, Raw, Struct

from footfall.commands.logfile import LogFile, ReadError
from footfall.database.contents import EVERYTHING, Contents, Format, Selection
from footfall.database.enrich import enrich_again
from footfall.database.restorable import FORMAT, ExportedId, Header, Moment, Number, number_of
from footfall.database.schema import (
    EVENTS,
    FLAG,
    HASH,
    JSON,
    LABEL,
    MILLISECONDS,
    MOMENT,
    NAMES,
    PERCENT,
    TEXT,
    Column,
    Row,
)
from footfall.durable.files import replacing
from footfall.errors import BadUsageError, FootfallError
from footfall.queue.base import Progress
from footfall.settings import DatabaseSettings

RESTORABLE: Final = ".rebuild"
"""What the name of the second file ends in, after that of the first."""
_PACKED: Final = ".gz"
_SUFFIXES: Final = {f".{form}": form for form in Format} | {".jsonl": Format.NDJSON}
_MAX_LINE_BYTES: Final = 64 * 1024 * 1024
"""Several times what the largest event can come to: `collector.max_body_bytes` is 16 MiB at most."""
_NULL: Final = Raw(b"null")

_Line = TypeVar("_Line", bound=Struct)
_Value = TypeVar("_Value")


class _Codec(NamedTuple):
    """How a kind of column is read from JSON.

    Attributes:
        type: what msgspec reads.
        read: makes the database's value of it.
    """

    type: Any
    read: Callable[[Any], Any]


def _as_it_is(value: _Value) -> _Value:
    return value


def _naive(time: datetime) -> datetime:
    """As the database has it."""
    return time.astimezone(UTC).replace(tzinfo=None)


_CODECS: Final = {
    MOMENT: _Codec(Moment, _naive),
    HASH: _Codec(Number, number_of),
    TEXT: _Codec(str, _as_it_is),
    LABEL: _Codec(str, _as_it_is),
    PERCENT: _Codec(Annotated[int, Meta(ge=0, le=100)], _as_it_is),
    MILLISECONDS: _Codec(Annotated[int, Meta(ge=0, lt=1 << 32)], _as_it_is),
    FLAG: _Codec(bool, _as_it_is),
    JSON: _Codec(Raw, lambda raw: None if raw == _NULL else bytes(raw).decode()),
}
_COLUMN_CODECS: Final = [_CODECS[column.kind] for column in EVENTS]


def _field_of(column: Column) -> tuple[str, Any] | tuple[str, Any, Any]:
    kind = _CODECS[column.kind].type
    if not column.is_optional:
        return column.name, kind
    return (column.name, Raw, _NULL) if kind is Raw else (column.name, kind | None, None)


_ExportedEvent: Final = msgspec.defstruct("_ExportedEvent", [_field_of(column) for column in EVENTS], frozen=True)
"""A row of the table `events`."""
_FirstExportedEvent: Final = msgspec.defstruct(
    "_FirstExportedEvent", [("received_at", Moment)], bases=(_ExportedEvent,), frozen=True, kw_only=True
)
"""A row in format 1."""


def count_events(database: duckdb.DuckDBPyConnection) -> int:
    [(count,)] = database.execute("SELECT count(*) FROM events").fetchall()
    return int(count)


def format_of(path: Path) -> Format:
    """The format that a file's name says.

    Raises:
        BadUsageError: it says none.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    is_packed = suffixes[-1:] == [_PACKED]
    form = _SUFFIXES.get(suffixes[-2 if is_packed else -1]) if len(suffixes) > is_packed else None
    if form is None:
        raise BadUsageError(
            f"{path.name} does not say its format. Name it .csv, .parquet or .ndjson (.csv.gz and .ndjson.gz are "
            "compressed), or give --format."
        )
    if form is Format.PARQUET and is_packed:
        raise BadUsageError(f"{path.name}: Parquet is compressed as it is. Leave out {_PACKED}.")
    return form


def restorable_path(path: Path) -> Path:
    """The file that stands beside exported events."""
    return path.with_name(path.name + RESTORABLE)


def write_export(
    contents: Contents,
    path: Path,
    form: Format,
    selection: Selection = EVERYTHING,
    *,
    is_restorable: bool = False,
    on_progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Write events to `path`, which has them all or is as it was; return how many.

    Args:
        contents: where they are.
        path: the file; one that is there is replaced.
        form: how they are written.
        selection: which.
        is_restorable: write the second file, too; all events are written then, as NDJSON.
        on_progress: called now and then with the bytes that were written since the last call.

    Raises:
        TimeoutError, OSError, FootfallError: as `Contents`.
        FootfallError: the file can't be written.
    """
    with contents.export(selection, form, is_restorable=is_restorable) as exported, ExitStack() as files:
        parts = _read(exported.parts)
        if is_restorable:
            parts = _rest_after(parts, files.enter_context(_written(restorable_path(path))))
        file = files.enter_context(_written(path))
        for part in parts:
            file.write(part)
            on_progress(len(part))
        if is_restorable:
            # The one of an older export is gone before the events are others, so the two always belong together.
            restorable_path(path).unlink(missing_ok=True)
    return exported.events


class Export:
    """Exported events that can be restored; the parts are read in the order in which they stand here.

    Args:
        file: the events; what stands beside it (`RESTORABLE`) is opened when it is needed.

    Attributes:
        header: says what there is.

    Raises:
        BadUsageError: the file is not an export, or not whole. The methods raise this, too.
    """

    def __init__(self, file: LogFile) -> None:
        self._file = file
        self._lines = _Lines(file)
        self._beside = None if self._lines.are_led_by(Header) else restorable_path(file.path)
        if self._beside is None:
            self.header = self._lines.read(Header)
        else:
            self._check_is_event()
            with self._opened_beside(self._beside) as lines:
                self.header = lines.read(Header)
        if not 1 <= self.header.footfall_export <= FORMAT:
            raise BadUsageError(
                f"{file.path} has format {self.header.footfall_export}; this Footfall reads formats 1 to {FORMAT}."
            )

    def consumed(self) -> int:
        """Bytes on disk up to where reading is."""
        return self._file.consumed()

    def progress(self) -> dict[str, Progress]:
        """How far the database had come, by source."""
        return {
            source: Progress(position.sequence, 0, position.written, position.skipped)
            for source, position in self.header.positions.items()
        }

    def event_ids(self) -> Iterator[tuple[int, datetime]]:
        """The rows of the table `event_ids`."""
        if self._beside is None:
            yield from self._ids_of(self._lines)
            return
        with self._opened_beside(self._beside) as lines:
            lines.read(Header)
            yield from self._ids_of(lines)
            lines.end("its last event id")

    def rows(self, *, settings: DatabaseSettings = DatabaseSettings()) -> Iterator[Row]:
        """The rows of the table `events`, by the present rules as far as an export tells what they ask for.

        Args:
            settings: as for `enrich`.
        """
        shape = _FirstExportedEvent if self.header.footfall_export == 1 else _ExportedEvent
        for _ in range(self.header.events):
            yield _row_of(self._lines.read(shape), settings=settings)
        self._lines.end("its last event")

    def _ids_of(self, lines: "_Lines") -> Iterator[tuple[int, datetime]]:
        for _ in range(self.header.event_ids):
            line = lines.read(ExportedId)
            yield number_of(line.id), _naive(line.seen_at).replace(microsecond=0)

    def _check_is_event(self) -> None:
        if not self._lines.are_led_by(_ExportedEvent) and not self._lines.are_over():
            raise BadUsageError(f"{self._file.path} is not an export of Footfall's.")

    @contextmanager
    def _opened_beside(self, path: Path) -> Iterator["_Lines"]:
        if not path.exists():
            raise BadUsageError(
                f"{self._file.path} is not an export of Footfall's that can be restored: {path.name} is not beside "
                "it, which `footfall export` writes with all events as .ndjson."
            )
        with LogFile(path) as file:
            yield _Lines(file)


class _Lines:
    """Reads a file's lines, each as what it is to be."""

    def __init__(self, file: LogFile) -> None:
        self._file = file
        self._number = 0
        self._ahead: bytes | None = None

    def are_led_by(self, shape: type[Struct]) -> bool:
        """Whether the next line is such a one."""
        try:
            msgspec.json.decode(self._peek(), type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        return True

    def are_over(self) -> bool:
        """Whether there is no line any more."""
        return not self._peek()

    def read(self, shape: type[_Line]) -> _Line:
        """The next line."""
        line = self._peek()
        self._ahead = None
        self._number += 1
        if not line.endswith(b"\n"):
            raise BadUsageError(f"{self._file.path} is not whole: it ends in line {self._number}.")
        try:
            return msgspec.json.decode(line, type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadUsageError(f"{self._file.path}, line {self._number}: {error}.") from error

    def end(self, last: str) -> None:
        """Refuse what comes after the last line."""
        if not self.are_over():
            raise BadUsageError(f"{self._file.path} goes on after {last}, with line {self._number + 1}.")

    def _peek(self) -> bytes:
        if self._ahead is None:
            try:
                self._ahead = self._file.read_line(_MAX_LINE_BYTES)
            except ReadError as error:
                raise BadUsageError(f"{self._file.path} can't be read past line {self._number}: {error}.") from error
        return self._ahead


def _rest_after(parts: Iterator[bytes], second: BinaryIO) -> Iterator[bytes]:
    """Write the lines that a rebuild needs to the second file; the events are what is left."""
    header = next(parts)
    second.write(header)
    left = msgspec.json.decode(header, type=Header).event_ids
    while left > 0:
        part = next(parts)
        second.write(part)
        left -= part.count(b"\n")
    return parts


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    """What is written here is compressed where the name says so, and takes the place of `path` once it is whole."""
    try:
        with replacing(path) as file:
            if path.suffix == _PACKED:
                with gzip.GzipFile(path.stem, "wb", fileobj=file) as packed:
                    yield cast(BinaryIO, packed)
            else:
                yield file
    except OSError as error:
        raise FootfallError(f"{path} can't be written: {error.strerror or error}.") from error


def _read(parts: Iterator[bytes]) -> Iterator[bytes]:
    """The parts; if they can't be read, that is no error of the file that they are written to."""
    try:
        yield from parts
    except OSError as error:
        raise FootfallError(f"The export was given up: {error}.") from error


def _row_of(event: Struct, *, settings: DatabaseSettings) -> Row:
    exported = msgspec.structs.asdict(event)
    if exported["time"] == exported.get("received_at"):
        exported["time"] = exported["time"].replace(microsecond=0)
    row = cast(Row, tuple(codec.read(exported[name]) for codec, name in zip(_COLUMN_CODECS, NAMES, strict=True)))
    return enrich_again(row, settings)
