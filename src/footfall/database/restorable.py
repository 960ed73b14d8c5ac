"""What a rebuild needs of an export besides the events: how far the database had come, and event ids."""

from datetime import datetime
from typing import Annotated, Final

from msgspec import Meta, Struct

FORMAT: Final = 3
"""Up to format 2 the events follow in the same file; since format 3 they have one of their own."""

_BITS: Final = 128

Moment = Annotated[datetime, Meta(tz=True)]
Number = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
"""A signed number of 128 bits as the hex digits of its two's complement: JSON's numbers are not that precise."""


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


def hex_of(number: int) -> str:
    return f"{number % (1 << _BITS):0{_BITS // 4}x}"


def number_of(digits: str) -> int:
    number = int(digits, 16)
    return number - (number >> (_BITS - 1) << _BITS)
