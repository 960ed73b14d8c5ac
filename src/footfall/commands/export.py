"""Exported events: what the database holds, as a text that other programs can read, and that `rebuild` can restore.

File format: UTF-8, a JSON object a line (NDJSON), compressed where the file's name ends in `.gz`.

- The first line is a `Header`. It says how many lines of each kind follow, and the database's position in each queue,
  so that a rebuild resumes exactly there.
- An `ExportedId` for each event id of the last days, so that an event that is sent again is still known.
- An object for each row of `events`, with its columns (`footfall.database.schema`). Times are UTC, `visitor` is 32 hex
  digits.

Salts are not in it, because nobody needs them to read it.

In format 1 an event also had `received_at`, to the microsecond. It is still read, and rounded as a migration of the
database rounds it.
"""

import gzip
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, NamedTuple, TypeVar, cast

import duckdb
import msgspec
from msgspec import Meta, Raw, Struct

from footfall.commands.logfile import LogFile, ReadError
from footfall.database.enrich import enrich_again
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
from footfall.errors import BadUsageError, DamagedFileError, FootfallError
from footfall.queue.base import Progress
from footfall.settings import DatabaseSettings

_FORMAT: Final = 2
_ROWS: Final = 10_000
"""Read from the database at a time."""
_MAX_LINE_BYTES: Final = 64 * 1024 * 1024
"""Several times what the largest event can come to: `collector.max_body_bytes` is 16 MiB at most."""
_NULL: Final = Raw(b"null")
_BITS: Final = 128

Moment = Annotated[datetime, Meta(tz=True)]
Number = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
"""A signed number of 128 bits as the hex digits of its two's complement: JSON's numbers are not that precise."""

_Line = TypeVar("_Line", bound=Struct)
_Value = TypeVar("_Value")


class Position(Struct, frozen=True):
    """How far the database has come in one queue; a `Progress` without what concerns the queue alone."""

    sequence: int
    written: int
    skipped: dict[str, int]


class Header(Struct, frozen=True):
    """The first line."""

    footfall_export: int
    made_at: Moment
    event_ids: int
    events: int
    positions: dict[str, Position]


class ExportedId(Struct, frozen=True):
    """The hash of a site and an event id, and when that event was received, to the second."""

    id: Number
    seen_at: Moment


class _Codec(NamedTuple):
    """How a kind of column is written as JSON.

    Attributes:
        type: what msgspec writes and reads.
        write: from the database's value.
        read: back to it.
    """

    type: Any
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def _as_it_is(value: _Value) -> _Value:
    return value


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC)


def _naive(time: datetime) -> datetime:
    """As the database has it."""
    return time.astimezone(UTC).replace(tzinfo=None)


def _hex(number: int) -> str:
    return f"{number % (1 << _BITS):0{_BITS // 4}x}"


def _signed(digits: str) -> int:
    number = int(digits, 16)
    return number - (number >> (_BITS - 1) << _BITS)


_CODECS: Final = {
    MOMENT: _Codec(Moment, _utc, _naive),
    HASH: _Codec(Number, _hex, _signed),
    TEXT: _Codec(str, _as_it_is, _as_it_is),
    LABEL: _Codec(str, _as_it_is, _as_it_is),
    PERCENT: _Codec(Annotated[int, Meta(ge=0, le=100)], _as_it_is, _as_it_is),
    MILLISECONDS: _Codec(Annotated[int, Meta(ge=0, lt=1 << 32)], _as_it_is, _as_it_is),
    FLAG: _Codec(bool, _as_it_is, _as_it_is),
    JSON: _Codec(
        Raw,
        lambda text: _NULL if text is None else Raw(text.encode()),
        lambda raw: None if raw == _NULL else bytes(raw).decode(),
    ),
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


def write_export(
    database: duckdb.DuckDBPyConnection, path: Path, *, on_progress: Callable[[int], object] = lambda _: None
) -> int:
    """Write all events to `path`, which has them all or is as it was; return how many.

    Args:
        database: nobody writes to it meanwhile.
        path: the file; one that is there is replaced.
        on_progress: called now and then with the number of events written since the last call.

    Raises:
        DamagedFileError: the database can't be read.
        FootfallError: the file can't be written.
    """
    encoder = msgspec.json.Encoder()
    try:
        header = _header_of(database)
        with _written(path) as file:
            file.write(encoder.encode(header) + b"\n")
            for ids in _chunks(database, "SELECT id, seen_at FROM event_ids"):
                file.write(encoder.encode_lines([ExportedId(_hex(id_), _utc(seen_at)) for id_, seen_at in ids]))
            for rows in _chunks(database, f"SELECT {', '.join(NAMES)} FROM events"):
                file.write(encoder.encode_lines([_event_of(row) for row in rows]))
                on_progress(len(rows))
    except duckdb.Error as error:
        raise DamagedFileError(f"the database can't be read: {error}") from error
    except OSError as error:
        raise FootfallError(f"{path} can't be written: {error.strerror or error}.") from error
    return header.events


class Export:
    """A file that `write_export` wrote; its parts are read in the order in which they stand here.

    Attributes:
        header: its first line.

    Raises:
        BadUsageError: the file is not an export, or not whole. The methods raise this, too.
    """

    def __init__(self, file: LogFile) -> None:
        self._file = file
        self._line = 0
        try:
            self.header = self._read(Header)
        except BadUsageError:
            raise BadUsageError(f"{file.path} is not an export of Footfall's.") from None
        if not 1 <= self.header.footfall_export <= _FORMAT:
            raise BadUsageError(
                f"{file.path} has format {self.header.footfall_export}; this Footfall reads formats 1 to {_FORMAT}."
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
        for _ in range(self.header.event_ids):
            line = self._read(ExportedId)
            yield _signed(line.id), _naive(line.seen_at).replace(microsecond=0)

    def rows(self, *, settings: DatabaseSettings = DatabaseSettings()) -> Iterator[Row]:
        """The rows of the table `events`, by the present rules as far as an export tells what they ask for.

        Args:
            settings: as for `enrich`.
        """
        shape = _FirstExportedEvent if self.header.footfall_export == 1 else _ExportedEvent
        for _ in range(self.header.events):
            yield _row_of(self._read(shape), settings=settings)
        if self._next():
            raise BadUsageError(f"{self._file.path} goes on after its last event, with line {self._line}.")

    def _read(self, shape: type[_Line]) -> _Line:
        line = self._next()
        if not line.endswith(b"\n"):
            raise BadUsageError(f"{self._file.path} is not whole: it ends in line {self._line}.")
        try:
            return msgspec.json.decode(line, type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadUsageError(f"{self._file.path}, line {self._line}: {error}.") from error

    def _next(self) -> bytes:
        self._line += 1
        try:
            return self._file.read_line(_MAX_LINE_BYTES)
        except ReadError as error:
            raise BadUsageError(f"{self._file.path} can't be read past line {self._line - 1}: {error}.") from error


def _header_of(database: duckdb.DuckDBPyConnection) -> Header:
    [(event_ids,)] = database.execute("SELECT count(*) FROM event_ids").fetchall()
    positions = {
        source: Position(sequence, written, msgspec.json.decode(skipped, type=dict[str, int]))
        for source, sequence, written, skipped in database.execute(
            "SELECT source, sequence, written, skipped FROM positions ORDER BY source"
        ).fetchall()
    }
    return Header(_FORMAT, datetime.now(UTC), event_ids, count_events(database), positions)


def _chunks(database: duckdb.DuckDBPyConnection, query: str) -> Iterator[list[tuple[Any, ...]]]:
    database.execute(query)
    while rows := database.fetchmany(_ROWS):
        yield rows


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    """What is written here is packed where the name says so, and takes the place of `path` once it is whole."""
    with replacing(path) as file:
        if path.suffix == ".gz":
            with gzip.GzipFile(path.stem, "wb", fileobj=file) as packed:
                yield cast(BinaryIO, packed)
        else:
            yield file


def _event_of(row: Sequence[Any]) -> Struct:
    return _ExportedEvent(*(codec.write(value) for codec, value in zip(_COLUMN_CODECS, row, strict=True)))


def _row_of(event: Struct, *, settings: DatabaseSettings) -> Row:
    exported = msgspec.structs.asdict(event)
    if exported["time"] == exported.get("received_at"):
        exported["time"] = exported["time"].replace(microsecond=0)
    row = cast(Row, tuple(codec.read(exported[name]) for codec, name in zip(_COLUMN_CODECS, NAMES, strict=True)))
    return enrich_again(row, settings)
