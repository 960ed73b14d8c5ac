"""What a database is asked for a report, and what it answers."""

from datetime import date
from typing import Protocol

from msgspec import Struct


class PathViews(Struct, frozen=True):
    """One page, and how often it was viewed."""

    path: str
    views: int


class Stats(Struct, frozen=True):
    """The figures of one site over some days.

    Attributes:
        total_views: page views.
        unique_users: how many visitors those came from, exactly.
        top_paths: the pages viewed most, ties in the order of their code points.
    """

    total_views: int
    unique_users: int
    top_paths: list[PathViews]


class Reports(Protocol):
    """Reads figures, all of one moment; any thread may call it, also while somebody writes."""

    def stats(self, site_id: str, *, first: date | None, last: date | None, limit: int) -> Stats:
        """The figures of a site, zeros for one that was never seen.

        Args:
            site_id: which site.
            first: the first UTC day that counts; None for no beginning.
            last: the last UTC day that counts; None for no end.
            limit: how many of `top_paths` at most.

        Raises:
            TimeoutError: it took longer, or more memory, than it may.
            OSError: the database can't be reached.
        """
        ...

    def trouble(self) -> str | None:
        """Why no report can be made now, or None."""
        ...
