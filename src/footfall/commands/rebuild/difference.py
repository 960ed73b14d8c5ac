"""How a new database differs from the one that it is to replace: the events of each site and day, before and after."""

from collections.abc import Iterator
from datetime import date
from heapq import merge
from itertools import groupby
from operator import itemgetter

from msgspec import Struct, field

SHOWN_DAYS = 20
"""So many of each sort are named."""

DayCount = tuple[str, date, int]
"""A site, a UTC day, and how many events it has then."""


class Change(Struct, frozen=True):
    """A site's day that has another number of events."""

    site_id: str
    day: date
    before: int
    after: int


class Difference(Struct):
    """All changes.

    Attributes:
        fewer: the first days that have fewer events than before.
        more: the first that have more.
        days: how many days have fewer.
        missing: how many events they lack in all.
    """

    fewer: list[Change] = field(default_factory=list)
    more: list[Change] = field(default_factory=list)
    days: int = 0
    missing: int = 0

    def lines(self) -> Iterator[str]:
        """The changes, for people."""
        for change in (*self.fewer, *self.more):
            yield f"{change.site_id} {change.day}: {change.before:,} events before, {change.after:,} now"
        if self.days > len(self.fewer):
            yield f"... and fewer on {self.days - len(self.fewer):,} more days"


def difference(before: Iterator[DayCount], after: Iterator[DayCount]) -> Difference:
    """Compare two databases; both are ordered by site and day, and neither has to fit into memory."""
    found = Difference()
    for (site_id, day), sides in groupby(merge(_tagged(before, 0), _tagged(after, 1)), key=itemgetter(0, 1)):
        counts = [0, 0]
        for _, _, side, count in sides:
            counts[side] = count
        change = Change(site_id, day, *counts)
        if change.after < change.before:
            found.days += 1
            found.missing += change.before - change.after
        shown = found.fewer if change.after < change.before else found.more
        if change.before != change.after and len(shown) < SHOWN_DAYS:
            shown.append(change)
    return found


def _tagged(counts: Iterator[DayCount], side: int) -> Iterator[tuple[str, date, int, int]]:
    return ((site_id, day, side, count) for site_id, day, count in counts)
