"""What a database is asked for a report, and what it answers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta

from msgspec import Struct
from msgspec.structs import replace

from footfall.database.dimensions import NAME, PAGE
from footfall.database.filter import Operator, Where
from footfall.database.query import Figures, Query
from footfall.entry import PAGE_VIEW


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


class Reports(ABC):
    """Reads figures; any thread may call it, also while somebody writes."""

    @abstractmethod
    def answer(self, queries: Sequence[Query]) -> list[list[Figures]]:
        """The rows of each query, all of one moment.

        Raises:
            ValueError: a filter has a pattern that RE2 does not take.
            TimeoutError: it took longer, or more memory, than it may.
            OSError: the database can't be reached.
        """

    @abstractmethod
    def first_events(self, site_id: str | None = None) -> dict[str, datetime]:
        """When the first event of each site was, or of one site; UTC without a zone, by site, in their order.

        Raises:
            TimeoutError, OSError: as `answer`.
        """

    @abstractmethod
    def trouble(self) -> str | None:
        """Why no report can be made now, or None."""

    def stats(
        self, site_id: str, *, first: date | None, last: date | None, limit: int, with_bots: bool = True
    ) -> Stats:
        """The figures of a site, zeros for one that was never seen.

        Args:
            site_id: which site.
            first: the first UTC day that counts; None for no beginning.
            last: the last UTC day that counts; None for no end.
            limit: how many of `top_paths` at most.
            with_bots: whether what bots view counts, too.

        Raises:
            TimeoutError, OSError: as `answer`.
        """
        totals = Query(
            site_id=site_id,
            metrics=("pageviews", "visitors"),
            filter=Where(NAME, Operator.IS, (PAGE_VIEW,)),
            with_bots=with_bots,
            start=None if first is None else datetime.combine(first, time.min),
            end=None if last is None or last == date.max else datetime.combine(last + timedelta(days=1), time.min),
        )
        paths = replace(totals, metrics=("pageviews",), dimensions=(PAGE,), limit=limit)
        [total], rows = self.answer([totals, paths])
        views, visitors = (int(count or 0) for count in total.metrics)
        return Stats(views, visitors, [PathViews(str(row.dimensions[0]), int(row.metrics[0] or 0)) for row in rows])
