"""How ClickHouse has the values of a row.

A moment is a number of microseconds: an event may have happened in the year one, which is more than ClickHouse's types
for dates can show, though they hold it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, cast

from footfall.database.schema import EVENTS, Row

EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - the database holds UTC without saying so
_MICROSECOND: Final = timedelta(microseconds=1)
_UNKNOWN: Final = tuple(None if column.kind.clickhouse.startswith("Nullable") else "" for column in EVENTS[1:])
"""How the table has what is not known, for each column but the first."""


def microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // _MICROSECOND


def moment(microseconds: int) -> datetime:
    return EPOCH + microseconds * _MICROSECOND


def loaded(row: Sequence[Any]) -> Row:
    """The reverse of `stored`."""
    time, *rest = row
    values = (None if value == unknown else value for value, unknown in zip(rest, _UNKNOWN, strict=True))
    return cast(Row, (moment(time), *values))


def stored(row: Row) -> tuple[Any, ...]:
    """A row as the table has it."""
    time, *rest = row
    return microseconds(time), *(
        unknown if value is None else value for value, unknown in zip(rest, _UNKNOWN, strict=True)
    )
