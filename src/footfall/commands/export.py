"""Exported events: what the database holds, as a text that other programs read, too, and that `rebuild` takes back.

File format: UTF-8, a JSON object a line (NDJSON), compressed where the file's name ends in `.gz`.

- The first line is a `Header`: it says how many lines of each kind follow, and how far the database had come in each
  queue, so that a rebuild goes on exactly there.
- An `ExportedId` for each event id of the last days, so that an event sent again is still known.
- An `ExportedEvent` for each row of `events`, with its columns. Times are UTC, `visitor` is 32 hex digits.

Nobody needs the salts to read it, so they are not in it: what was exported can't be led back to an address.
"""

import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, TypeVar, cast

import duckdb
import msgspec
from msgspec import Meta, Raw, Struct

from footfall.commands.logfile import LogFile, ReadError
from footfall.database.enrich import COLUMNS, Row, source_of
from footfall.durable.files import replacing
from footfall.errors import BadUsageError, DamagedFileError, FootfallError
from footfall.queue.base import Progress
from footfall.referrer import without_query
from footfall.settings import DatabaseSettings

_FORMAT: Final = 1
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
    """The hash of a site and an event id, and when that event was received."""

    id: Number
    seen_at: Moment


class ExportedEvent(Struct, frozen=True):
    """A row of the table `events`."""

    time: Moment
    received_at: Moment
    site_id: str
    event_type: str
    path: str
    visitor: Number
    user_id: str | None
    referrer: str | None
    source: str | None
    browser: str | None
    os: str | None
    device: str | None
    props: Raw = _NULL


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
            for rows in _chunks(database, f"SELECT {', '.join(COLUMNS)} FROM events"):
                file.write(encoder.encode_lines([_event_of(cast(Row, row)) for row in rows]))
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
        if self.header.footfall_export != _FORMAT:
            raise BadUsageError(
                f"{file.path} has format {self.header.footfall_export}; this Footfall reads format {_FORMAT}."
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
            yield _signed(line.id), _naive(line.seen_at)

    def rows(self, *, settings: DatabaseSettings = DatabaseSettings()) -> Iterator[Row]:
        """The rows of the table `events`, by the present rules as far as an export tells what they ask for.

        Args:
            settings: as for `enrich`.
        """
        for _ in range(self.header.events):
            yield _row_of(self._read(ExportedEvent), settings=settings)
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


def _event_of(row: Row) -> ExportedEvent:
    time, received_at, site_id, event_type, path, visitor, user_id, referrer, source, browser, system, device, props = (
        row
    )
    return ExportedEvent(
        _utc(time),
        _utc(received_at),
        site_id,
        event_type,
        path,
        _hex(visitor),
        user_id,
        referrer,
        source,
        browser,
        system,
        device,
        _NULL if props is None else Raw(props.encode()),
    )


def _row_of(event: ExportedEvent, *, settings: DatabaseSettings) -> Row:
    referrer = event.referrer
    return (
        _naive(event.time),
        _naive(event.received_at),
        event.site_id,
        event.event_type,
        event.path,
        _signed(event.visitor),
        event.user_id,
        referrer if settings.keeps_queries or referrer is None else without_query(referrer),
        source_of(referrer, event.site_id) if referrer and event.source else None,
        event.browser,
        event.os,
        event.device,
        None if event.props == _NULL else bytes(event.props).decode(),
    )


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
