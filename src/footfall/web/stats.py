"""What `GET /stats` is asked, and what it answers."""

import datetime as dt
from collections.abc import Iterable
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from footfall.database.reports import PathViews, Stats
from footfall.entry import MAX_SITE_ID
from footfall.problem import FieldError
from footfall.web.parameters import read

MAX_PATHS: Final = 100


class StatsQuery(Struct, frozen=True):
    """The parameters of `GET /stats`."""

    site_id: Annotated[
        str, Meta(min_length=1, max_length=MAX_SITE_ID, description="Which site.", examples=["site-abc-123"])
    ]
    date: Annotated[dt.date, Meta(description="One UTC day; all time without any day.")] | UnsetType = UNSET
    first: Annotated[dt.date, Meta(description="The first UTC day that counts, instead of `date`.")] | UnsetType = (
        field(name="from", default=UNSET)
    )
    last: Annotated[dt.date, Meta(description="The last UTC day that counts, instead of `date`.")] | UnsetType = field(
        name="to", default=UNSET
    )
    limit: Annotated[int, Meta(ge=1, le=MAX_PATHS, description="How many of `top_paths` at most.")] = 10
    bots: Annotated[Literal["include", "exclude"], Meta(description="Whether what bots view counts.")] = "include"

    @property
    def first_day(self) -> dt.date | None:
        """The first day that counts; None for no beginning."""
        return self.date or self.first or None

    @property
    def last_day(self) -> dt.date | None:
        """The last day that counts; None for no end."""
        return self.date or self.last or None


class StatsAnswer(Struct, frozen=True, kw_only=True):
    """The answer of `GET /stats`, its members in this order; of the days only those that were asked for."""

    site_id: str
    date: dt.date | UnsetType = UNSET
    first: dt.date | UnsetType = field(name="from", default=UNSET)
    last: dt.date | UnsetType = field(name="to", default=UNSET)
    total_views: Annotated[int, Meta(ge=0, description="Page views.")]
    unique_users: Annotated[int, Meta(ge=0, description="How many users those came from, exactly.")]
    top_paths: Annotated[
        list[PathViews], Meta(max_length=MAX_PATHS, description="The most viewed first, ties by path.")
    ]

    @classmethod
    def of(cls, query: StatsQuery, stats: Stats) -> "StatsAnswer":
        return cls(
            site_id=query.site_id,
            date=query.date,
            first=query.first,
            last=query.last,
            total_views=stats.total_views,
            unique_users=stats.unique_users,
            top_paths=stats.top_paths,
        )


def parse_query(parameters: Iterable[tuple[str, str]]) -> StatsQuery:
    """Check the parameters of a request, decoded, in the order they came.

    Raises:
        Problem: 422 with every parameter that is missing, wrong, not known or given twice.
    """
    return read(parameters, StatsQuery, _field_errors_of_days, refusal="The report can't be made.")


def _field_errors_of_days(query: StatsQuery) -> list[FieldError]:
    if query.date and (query.first or query.last):
        return [FieldError("date", "is one day; leave it out to give from and to")]
    if query.first and query.last and query.first > query.last:
        return [FieldError("from", "is after to")]
    return []
