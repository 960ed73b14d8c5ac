"""How ClickHouse has the values of a row.

A moment is a number of microseconds: an event may have happened in the year one, which is more than ClickHouse's types
for dates can show, though they hold it.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from footfall.database.schema import Row

EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - the database holds UTC without saying so
_MICROSECOND: Final = timedelta(microseconds=1)


def microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // _MICROSECOND


def moment(microseconds: int) -> datetime:
    return EPOCH + microseconds * _MICROSECOND


def stored(row: Row) -> tuple[Any, ...]:
    """A row as the table has it, with the empty text for what is not known."""
    time, *rest = row
    return microseconds(time), *("" if value is None else value for value in rest)
