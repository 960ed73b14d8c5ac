"""Moments as microseconds since 1970, UTC: what databases do arithmetic with.

An event may have happened in the year one, which is more than ClickHouse's types for dates can show, though they hold
it.
"""

from datetime import datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - databases hold UTC without saying so
_MICROSECOND: Final = timedelta(microseconds=1)


def microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // _MICROSECOND


def moment(microseconds: int) -> datetime:
    return EPOCH + microseconds * _MICROSECOND
