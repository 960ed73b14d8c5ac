"""The answer to a statement of SQL, as a table for people, or as CSV or NDJSON for programs."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import islice
from typing import Final

from footfall.database.contents import FORMULA_STARTS, Answer

SHOWN_ROWS: Final = 500
"""Of a table; the other forms have all."""
_MAX_WIDTH: Final = 80
_NO_JSON: Final = frozenset({"NaN", "Infinity", "-Infinity"})


class Form(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    CSV = "csv"
    NDJSON = "ndjson"


def printed(answer: Answer, form: Form) -> Iterator[str]:
    """The lines of an answer, each with its end; in CSV and NDJSON some at a time."""
    match form:
        case Form.TABLE:
            return _table(answer)
        case Form.CSV:
            return _csv(answer)
        case Form.NDJSON:
            return _ndjson(answer)


def _table(answer: Answer) -> Iterator[str]:
    rows = list(islice(_each(answer), SHOWN_ROWS + 1))
    is_cut = len(rows) > SHOWN_ROWS
    cells = [[_shown(cell) for cell in row] for row in rows[:SHOWN_ROWS]]
    columns = [_shown(json.dumps(name)) for name in answer.columns]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    is_number = [
        bool(cells) and all(cell is None or not cell.startswith(('"', "{", "[")) for cell in column)
        for column in zip(*rows[:SHOWN_ROWS], strict=True)
    ] or [False] * len(columns)

    def line(texts: Sequence[str]) -> str:
        return "  ".join(
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(texts, widths, is_number, strict=True)
        ).rstrip()

    yield line(columns) + "\n"
    yield "  ".join("-" * width for width in widths) + "\n"
    for row in cells:
        yield line(row) + "\n"
    if is_cut:
        yield f"... and more than these {SHOWN_ROWS} rows: --format csv prints all\n"


def _csv(answer: Answer) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_guarded(name) for name in answer.columns])
    yield buffer.getvalue()
    for rows in answer.rows:
        buffer.seek(0)
        buffer.truncate()
        writer.writerows([_csv_cell(cell) for cell in row] for row in rows)
        yield buffer.getvalue()


def _ndjson(answer: Answer) -> Iterator[str]:
    names = [json.dumps(name, ensure_ascii=False) for name in answer.columns]
    for rows in answer.rows:
        yield "".join(
            "{" + ",".join(f"{name}:{_json(cell)}" for name, cell in zip(names, row, strict=True)) + "}\n"
            for row in rows
        )


def _each(answer: Answer) -> Iterator[Sequence[str | None]]:
    for rows in answer.rows:
        yield from rows


def _json(cell: str | None) -> str:
    if cell is None:
        return "null"
    return f'"{cell}"' if cell in _NO_JSON else cell


def _text(cell: str | None) -> str:
    """A text as it is, and anything else as JSON writes it."""
    if cell is None:
        return ""
    return str(json.loads(cell)) if cell.startswith('"') else cell


def _guarded(text: str) -> str:
    """A text that a spreadsheet does not take for a formula, as `footfall.database.contents` says."""
    return f"'{text}" if text.startswith(tuple(FORMULA_STARTS)) else text


def _csv_cell(cell: str | None) -> str:
    is_text = cell is not None and cell.startswith('"')
    return _guarded(_text(cell)) if is_text else _text(cell)


def _shown(cell: str | None) -> str:
    """A cell in one line, without what a terminal would take for a command: whoever sends a hit chooses its texts."""
    text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in _text(cell))
    return text if len(text) <= _MAX_WIDTH else text[: _MAX_WIDTH - 1] + "…"
