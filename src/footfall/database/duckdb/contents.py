"""What is taken out of a DuckDB database, while it is being written or not.

Whoever reads takes a transaction of its own, which ends after `_COPY_S` at the latest. It keeps neither commits nor
checkpoints waiting; only the place of what was deleted meanwhile is not used again before its end.
"""

import re
import shutil
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec

from footfall.database.contents import (
    EVERYTHING,
    FORMULA_STARTS,
    Answer,
    BusyError,
    Contents,
    Exported,
    Format,
    Selection,
    SqlError,
)
from footfall.database.duckdb.copy import copied, outlet, quoted
from footfall.database.duckdb.file import first_line, outlet_of, path_of
from footfall.database.duckdb.sql_rules import statement_of
from footfall.database.restorable import FORMAT, ExportedId, Header, Position, hex_of
from footfall.database.schema import EVENTS, HASH, JSON, LABEL, MOMENT, TEXT, Column

MAX_AT_ONCE: Final = 4
"""Queries, exports and snapshots that are made at a time."""
QUERY_S: Final = 60.0
_COPY_S: Final = 3_600.0
_QUERY_ROWS: Final = 100
_IDS: Final = 10_000
_SPARE_BYTES: Final = 256 * 1024 * 1024
"""A copy leaves so much of the disk to the queue and the writer."""
_PART_BYTES: Final = 1024 * 1024

_OPTIONS: Final = {
    Format.CSV: "FORMAT csv, HEADER true",
    Format.PARQUET: "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 100000",
    # Lines that are made already: nothing is quoted, and no line has the delimiter in it, because JSON escapes it.
    Format.NDJSON: "FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\x01'",
}


class DuckdbContents(Contents):
    """Takes out what a database holds.

    Args:
        database: each call takes a cursor of its own from it.
        query_s: how many seconds a statement may take; None for any number.
        slots: the limit of what is made at once, if it is shared with others.
    """

    def __init__(
        self,
        database: duckdb.DuckDBPyConnection,
        *,
        query_s: float | None = QUERY_S,
        slots: threading.BoundedSemaphore | None = None,
    ) -> None:
        self._database = database
        self._query_s = query_s
        self.slots = slots or threading.BoundedSemaphore(MAX_AT_ONCE)
        self._cursors: set[duckdb.DuckDBPyConnection] = set()

    def interrupt(self) -> None:
        """End what is under way."""
        for cursor in list(self._cursors):
            cursor.interrupt()

    @contextmanager
    def query(self, sql: str) -> Iterator[Answer]:
        with self._cursor(self._query_s) as cursor:
            statement = statement_of(cursor, sql)
            # As JSON, so that a cell of any type can be told. The first line is ours, which errors must not count.
            wrapped = f"SELECT to_json(COLUMNS(*))::VARCHAR FROM (\n{statement.sql}\n)"
            try:
                cursor.execute("BEGIN TRANSACTION READ ONLY")
                cursor.execute(wrapped if statement.is_select else statement.sql)
                columns = [str(column[0]) for column in cursor.description or ()]
                yield Answer(columns, _rows(cursor, is_json=statement.is_select))
            except (duckdb.InterruptException, duckdb.OutOfMemoryException):
                raise
            except (duckdb.IOException, duckdb.FatalException, duckdb.InternalException):
                raise
            except duckdb.Error as error:
                raise SqlError(_as_typed(error) if statement.is_select else str(error)) from None

    @contextmanager
    def export(self, selection: Selection, form: Format, *, is_restorable: bool = False) -> Iterator[Exported]:
        assert not is_restorable or (selection == EVERYTHING and form is Format.NDJSON)
        with self._cursor(_COPY_S) as cursor, ExitStack() as held:
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            condition, parameters = _condition(selection)
            [(events,)] = cursor.execute(f"SELECT count(*) FROM events WHERE {condition}", parameters).fetchall()
            select = f"SELECT {_columns(form)} FROM events WHERE {condition}"

            def parts() -> Generator[bytes]:
                if is_restorable:
                    yield from _restorable_lines(cursor, events)
                directory = outlet_of(path_of(cursor))
                with copied(cursor, directory, select, parameters, _OPTIONS[form]) as copy, _naming_errors():
                    yield from copy

            yield Exported(events, held.enter_context(closing(parts())))

    @contextmanager
    def snapshot(self) -> Iterator[Iterator[bytes]]:
        with self._cursor(_COPY_S) as cursor, ExitStack() as held:
            path = path_of(cursor)
            with outlet(outlet_of(path), ".duckdb") as copy:
                needed = path.stat().st_size + _SPARE_BYTES
                if shutil.disk_usage(path.parent).free < needed:
                    raise OSError(f"a snapshot needs {needed:,} bytes of free disk beside {path} for a moment")
                _copy_database(cursor, copy)
                file = held.enter_context(copy.open("rb"))
            yield iter(lambda: file.read(_PART_BYTES), b"")

    @contextmanager
    def _cursor(self, limit_s: float | None) -> Iterator[duckdb.DuckDBPyConnection]:
        if not self.slots.acquire(blocking=False):
            raise BusyError(f"{MAX_AT_ONCE} queries and exports are being made already. Try again later.")
        try:
            with closing(self._database.cursor()) as cursor:  # closing it ends the transaction
                self._cursors.add(cursor)
                try:
                    with _naming_errors():
                        if limit_s is not None:
                            milliseconds = max(1, round(limit_s * 1_000))
                            cursor.execute("SET SESSION max_execution_time = $limit", {"limit": milliseconds})
                        yield cursor
                finally:
                    self._cursors.discard(cursor)
        finally:
            self.slots.release()


@contextmanager
def _naming_errors() -> Iterator[None]:
    try:
        yield
    except duckdb.InterruptException as error:
        raise TimeoutError("it took too long") from error
    except duckdb.OutOfMemoryException as error:
        raise TimeoutError("it needs more memory than there is") from error
    except duckdb.Error as error:
        raise OSError(f"the database can't be read: {first_line(error)}") from error


def _rows(cursor: duckdb.DuckDBPyConnection, *, is_json: bool) -> Iterator[Sequence[Sequence[str | None]]]:
    while rows := cursor.fetchmany(_QUERY_ROWS):
        yield rows if is_json else [[msgspec.json.encode(cell).decode() for cell in row] for row in rows]


def _as_typed(error: duckdb.Error) -> str:
    """What DuckDB says of a statement that stands in a line of ours, with the lines counted as they were typed."""
    return re.sub(r"^LINE (\d+):", lambda found: f"LINE {int(found[1]) - 1}:", str(error), flags=re.MULTILINE)


def _condition(selection: Selection) -> tuple[str, dict[str, Any]]:
    parameters = {"site_id": selection.site_id, "start": selection.start, "end": selection.end}
    conditions = {"site_id": "site_id = $site_id", "start": "time >= $start", "end": "time < $end"}
    given = {name: value for name, value in parameters.items() if value is not None}
    return " AND ".join(conditions[name] for name in given) or "TRUE", given


def _columns(form: Format) -> str:
    """What is selected of a row, for a format."""
    if form is Format.NDJSON:
        members = (f"""'"{column.name}":' || {_json(column)}""" for column in EVENTS)
        return "'{' || " + " || ',' || ".join(members) + " || '}'"
    written = _csv if form is Format.CSV else _parquet
    return ", ".join(f"{written(column)} AS {column.name}" for column in EVENTS)


def _text(column: Column) -> str:
    if column.kind is MOMENT:
        return f"strftime({column.name}, '%Y-%m-%dT%H:%M:%S.%fZ')"
    return f"lower(lpad(to_hex({column.name}), 32, '0'))" if column.kind is HASH else column.name


def _json(column: Column) -> str:
    value = column.name if column.kind is JSON else f"to_json({_text(column)})::VARCHAR"
    return f"coalesce({value}, 'null')" if column.is_optional else value


def _csv(column: Column) -> str:
    name = column.name
    if column.kind not in (TEXT, LABEL):
        return _text(column)
    starts = ", ".join(quoted(start) for start in FORMULA_STARTS)
    return f"CASE WHEN {name}[1] IN ({starts}) THEN '''' || {name} ELSE {name} END"


def _parquet(column: Column) -> str:
    return f"{column.name} AT TIME ZONE 'UTC'" if column.kind is MOMENT else _text(column)


def _restorable_lines(cursor: duckdb.DuckDBPyConnection, events: int) -> Iterator[bytes]:
    encoder = msgspec.json.Encoder()
    [(event_ids,)] = cursor.execute("SELECT count(*) FROM event_ids").fetchall()
    positions = {
        source: Position(sequence, written, msgspec.json.decode(skipped, type=dict[str, int]))
        for source, sequence, written, skipped in cursor.execute(
            "SELECT source, sequence, written, skipped FROM positions ORDER BY source"
        ).fetchall()
    }
    yield encoder.encode(Header(FORMAT, datetime.now(UTC), event_ids, events, positions)) + b"\n"
    cursor.execute("SELECT id, seen_at FROM event_ids")
    while ids := cursor.fetchmany(_IDS):
        yield encoder.encode_lines([ExportedId(hex_of(id_), seen_at.replace(tzinfo=UTC)) for id_, seen_at in ids])


def _copy_database(cursor: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Copy all tables into a new file, but not the rows of `salts`, which are to be forgotten everywhere."""
    [(source,)] = cursor.execute("SELECT current_database()").fetchall()
    copy = path.stem
    try:
        cursor.execute(f'ATTACH {quoted(path)} AS "{copy}" (READ_WRITE)')
        cursor.execute("BEGIN")
        cursor.execute(f'COPY FROM DATABASE "{source}" TO "{copy}" (SCHEMA)')
        tables = cursor.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = $source", {"source": source}
        ).fetchall()
        for (table,) in tables:
            if table != "salts":
                cursor.execute(f'INSERT INTO "{copy}"."{table}" SELECT * FROM "{source}"."{table}"')
        cursor.execute("COMMIT")
        cursor.execute(f'CHECKPOINT "{copy}"')
    except BaseException:
        with suppress(duckdb.Error):
            cursor.execute("ROLLBACK")
        raise
    finally:
        with suppress(duckdb.Error):
            cursor.execute(f'DETACH "{copy}"')
