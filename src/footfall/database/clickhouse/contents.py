"""What is taken out of a ClickHouse database.

The server writes the formats itself, and its own rules say what a user may read. All is asked for with `readonly`,
which refuses whatever writes, opens a file or changes a setting.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NoReturn

from footfall.database.clickhouse.server import ClickhouseDatabase
from footfall.database.contents import FORMULA_STARTS, Answer, Contents, Exported, Format, Selection
from footfall.database.moments import microseconds
from footfall.database.schema import EVENTS, HASH, JSON, LABEL, MOMENT, TEXT, Column
from footfall.errors import BadUsageError

_QUERY_S: Final = 60
_COPY_S: Final = 3_600
_MAX_MEMORY_BYTES: Final = 2 * 1024**3
_QUERY_ROWS: Final = 100
_FORMATS: Final = {Format.CSV: "CSVWithNames", Format.PARQUET: "Parquet", Format.NDJSON: "TSVRaw"}
"""Lines of NDJSON are made already, and written as they are."""
_TEXTS: Final = (TEXT, LABEL, JSON)


class ClickhouseContents(Contents):
    """Takes out what a database holds.

    Args:
        database: stays the caller's.
    """

    def __init__(self, database: ClickhouseDatabase) -> None:
        self._database = database

    @contextmanager
    def query(self, sql: str) -> Iterator[Answer]:
        settings = {"output_format_json_quote_64bit_integers": 0, **_limits(_QUERY_S)}
        statement = sql.strip().rstrip(";")
        with self._database.streamed(statement, {}, settings, "JSONCompactEachRowWithNames", is_typed=True) as parts:
            lines = _lines(parts)
            columns = [str(name) for name in json.loads(next(lines, b"[]"))]
            yield Answer(columns, _rows(lines))

    @contextmanager
    def export(self, selection: Selection, form: Format, *, is_restorable: bool = False) -> Iterator[Exported]:
        assert not is_restorable, "only an export of DuckDB can be restored"
        condition, parameters = _condition(self._database.name, selection)
        source = f"FROM {self._database.name}.events WHERE {condition}"
        [(events,)] = self._database.query(f"SELECT count() {source}", parameters, settings=_limits(_QUERY_S))
        settings = {"format_csv_null_representation": "", **_limits(_COPY_S)}
        with self._database.streamed(
            f"SELECT {_columns(form)} {source}", parameters, settings, _FORMATS[form]
        ) as parts:
            yield Exported(events, parts)

    def snapshot(self) -> NoReturn:
        raise BadUsageError(
            "footfall snapshot copies DuckDB's file. ClickHouse makes its own copies (BACKUP DATABASE … TO …); to take "
            "the events along, run footfall export events.parquet (database.url)."
        )


def _limits(seconds: int) -> dict[str, Any]:
    # The last one holds for all that come after it.
    return {"max_execution_time": seconds, "max_memory_usage": _MAX_MEMORY_BYTES, "readonly": 1}


def _lines(parts: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        yield from lines
    if rest:
        yield rest


def _rows(lines: Iterator[bytes]) -> Iterator[Sequence[Sequence[str | None]]]:
    rows = []
    for line in lines:
        rows.append([None if cell is None else json.dumps(cell) for cell in json.loads(line)])
        if len(rows) == _QUERY_ROWS:
            yield rows
            rows = []
    if rows:
        yield rows


def _condition(database: str, selection: Selection) -> tuple[str, dict[str, Any]]:
    # Reports leave these rows out, too.
    conditions = [
        f"(queue, sequence, event_key) GLOBAL NOT IN (SELECT queue, sequence, event_key FROM {database}.doubles)"
    ]
    parameters: dict[str, Any] = {}
    if selection.site_id is not None:
        conditions.append("site_id = {site_id:String}")
        parameters["site_id"] = selection.site_id
    if selection.start is not None:
        conditions.append("time >= fromUnixTimestamp64Micro({start:Int64})")
        parameters["start"] = microseconds(selection.start)
    if selection.end is not None:
        conditions.append("time < fromUnixTimestamp64Micro({end:Int64})")
        parameters["end"] = microseconds(selection.end)
    return " AND ".join(conditions), parameters


def _columns(form: Format) -> str:
    """What is selected of a row, for a format."""
    if form is Format.NDJSON:
        members = (f"""'"{column.name}":', {_json(column)}""" for column in EVENTS)
        return "concat('{', " + ", ',', ".join(members) + ", '}')"
    written = _csv if form is Format.CSV else _parquet
    # Names of the table's columns would stand for what is made of them in the conditions, too.
    return ", ".join(f"{written(column)} AS `{column.name}`" for column in EVENTS)


def _text(column: Column) -> str:
    name = f"events.{column.name}"
    if column.kind is MOMENT:
        return f"formatDateTime({name}, '%Y-%m-%dT%H:%i:%S.%fZ')"
    return f"lower(leftPad(hex({name}), 32, '0'))" if column.kind is HASH else name


def _known(column: Column) -> str:
    """NULL for what is not known; the table has it as the empty text, where it is a text."""
    return f"nullIf({_text(column)}, '')" if column.is_optional and column.kind in _TEXTS else _text(column)


def _json(column: Column) -> str:
    value = _known(column) if column.kind is JSON else f"toJSONString({_known(column)})"
    return f"ifNull({value}, 'null')" if column.is_optional else value


def _csv(column: Column) -> str:
    if column.kind not in (TEXT, LABEL):
        return _known(column)
    starts = ", ".join("'" + start.encode("unicode_escape").decode() + "'" for start in FORMULA_STARTS)
    text = _known(column)
    return f"if(substringUTF8({text}, 1, 1) IN ({starts}), concat('\\'', {text}), {text})"


def _parquet(column: Column) -> str:
    return f"events.{column.name}" if column.kind is MOMENT else _known(column)
