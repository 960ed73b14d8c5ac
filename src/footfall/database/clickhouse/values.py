"""How ClickHouse has the values of a row; a moment is a number of microseconds (`footfall.database.moments`)."""

from collections.abc import Sequence
from typing import Any, Final, cast

from footfall.database.moments import microseconds, moment
from footfall.database.schema import EVENTS, Row

_UNKNOWN: Final = tuple(None if column.kind.clickhouse.startswith("Nullable") else "" for column in EVENTS[1:])
"""How the table has what is not known, for each column but the first."""


def loaded(row: Sequence[Any]) -> Row:
    """The reverse of `stored`."""
    time, *rest = row
    values = (
        None if column.is_optional and value == unknown else value
        for column, value, unknown in zip(EVENTS[1:], rest, _UNKNOWN, strict=True)
    )
    return cast(Row, (moment(time), *values))


def stored(row: Row) -> tuple[Any, ...]:
    """A row as the table has it."""
    time, *rest = row
    return microseconds(time), *(
        unknown if value is None else value for value, unknown in zip(rest, _UNKNOWN, strict=True)
    )
