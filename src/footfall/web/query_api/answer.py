"""Puts a request to the database, and makes the answer of what comes back."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from footfall.database import dimensions as model
from footfall.database.query import Figures, Order, Query
from footfall.database.reports import Reports
from footfall.problem import Problem
from footfall.sites import is_time_zone, no_time_zone
from footfall.web.query_api import date_range, names
from footfall.web.query_api.comparison import Compared, compare, narrowed, other_period
from footfall.web.query_api.date_range import Period
from footfall.web.query_api.filters import compile_filters, label
from footfall.web.query_api.goals import Sites
from footfall.web.query_api.request import Comparison, Request, refused
from footfall.web.query_api.times import Times, interval_of, times

Number = int | float | None

_EARLIEST = datetime.combine(date_range.EARLIEST, time.min)


class Row(Struct, frozen=True):
    """Values in the order in which they were asked for."""

    metrics: list[Number]
    dimensions: list[str]
    comparison: Compared | UnsetType = UNSET


class Meta(Struct, frozen=True):
    """What was asked for besides rows."""

    imports_included: bool | UnsetType = UNSET
    imports_skip_reason: str | UnsetType = UNSET
    time_labels: list[str] | UnsetType = UNSET
    comparison_time_labels: list[str] | UnsetType = UNSET
    comparison_date_range: list[str] | UnsetType = UNSET
    total_rows: int | UnsetType = UNSET


class Echo(Struct, frozen=True):
    """The query as it was understood."""

    site_id: str
    metrics: list[str]
    date_range: list[str]
    filters: list[Any]
    dimensions: list[str]
    order_by: list[tuple[str, str]]
    include: dict[str, Any]
    pagination: dict[str, int]
    time_zone: str


class Answer(Struct, frozen=True):
    """The answer of `POST /api/v2/query`."""

    results: list[Row]
    meta: Meta
    query: Echo


class QueryApi:
    """Answers requests; any thread may call it.

    Attributes:
        sites: what is known of each site.

    Args:
        reports: reads the figures.
        sites: what is known of each site.
        clock: what time it is, with a zone.
    """

    def __init__(
        self, reports: Reports, sites: Sites, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._reports = reports
        self.sites = sites
        self._clock = clock

    def zone(self, site_id: str, name: str | None = None) -> ZoneInfo:
        """The time zone of a request.

        Raises:
            Problem: 400, there is none of that name.
        """
        if name is None:
            return self.sites.zone(site_id)
        if not is_time_zone(name):
            raise refused("#/time_zone", no_time_zone(name))
        return ZoneInfo(name)

    def now(self) -> datetime:
        """What time it is, UTC without a zone."""
        return date_range.utc(self._clock())

    def today(self, zone: ZoneInfo) -> date:
        """Which day it is in a time zone."""
        return self._clock().astimezone(zone).date()

    def period(self, site_id: str, dates: str | tuple[str, str], zone: ZoneInfo) -> Period:
        """The range of time that a request asks about.

        Raises:
            Problem: 400, the calendar does not have it.
        """
        try:
            if not isinstance(dates, str):
                return date_range.between(*dates, zone)
            if dates == "24h":
                return date_range.last_24_hours(self.now(), zone)
            today = self.today(zone)
            first_day = today
            if dates == "all" and (first := self._reports.first_events(site_id).get(site_id)) is not None:
                first_day = date_range.local(max(first, _EARLIEST), zone).date()
            return date_range.named(dates, today, zone, first_day=first_day)
        except ValueError as error:
            raise refused("#/date_range", str(error)) from None

    def answer(self, request: Request) -> Answer:
        """The answer to a request.

        Raises:
            Problem: 400, its parts do not go together.
            TimeoutError, OSError: as `Reports.answer`.
        """
        zone = self.zone(request.site_id, request.time_zone)
        period = self.period(request.site_id, request.date_range, zone)
        cut = _times(request, period)
        query = self._query(request, period, cut)
        wants_total = request.include.total_rows
        # How many rows there are is told by their dimensions alone.
        every = [replace(query, metrics=("visitors",), order=(), limit=None, offset=0)] if wants_total else []
        rows, *counted = self.rows([query, *every])
        by_start = {} if cut is None else cut.by_start
        results = [Row(list(row.metrics), _labels(query, row, by_start)) for row in rows]
        meta = Meta(total_rows=len(counted[0]) if counted else UNSET)
        if cut is not None and request.include.time_labels:
            meta = replace(meta, time_labels=list(cut.labels))
        if request.include.imports:
            meta = replace(meta, imports_included=False, imports_skip_reason="no_imported_data")
        if request.include.comparisons is not None:
            other = self._other_period(request.include.comparisons, period)
            other_cut = _times(request, other)
            other_starts = () if other_cut is None else other_cut.starts
            asked = replace(narrowed(query, rows), start=other.start, end=other.end, buckets=other_starts)
            [found] = self.rows([asked])
            pairs = zip(results, compare(asked, rows, cut, found, other_cut), strict=True)
            results = [replace(row, comparison=compared) for row, compared in pairs]
            meta = replace(meta, comparison_date_range=other.texts)
            if other_cut is not None and request.include.time_labels:
                meta = replace(meta, comparison_time_labels=list(other_cut.labels))
        return Answer(results, meta, _echo(request, query, period))

    def _query(self, request: Request, period: Period, cut: Times | None) -> Query:
        goals = tuple(self.sites.goals(request.site_id))
        condition = compile_filters(request.filters, goals)
        for index, (name, _) in enumerate(request.order_by):
            if name not in (*request.metrics, *request.dimensions):
                raise refused(f"#/order_by/{index}", f'"{name}" is neither a metric nor a dimension of the query')
        try:
            return Query(
                site_id=request.site_id,
                metrics=request.metrics,
                dimensions=tuple(map(_model_name, request.dimensions)),
                filter=condition,
                start=period.start,
                end=period.end,
                buckets=() if cut is None else cut.starts,
                goals=goals,
                order=tuple(Order(_model_name(name), direction == "desc") for name, direction in request.order_by),
                limit=request.limit,
                offset=request.offset,
            )
        except ValueError as error:
            raise Problem(400, f"{error}.") from None

    def rows(self, queries: Sequence[Query]) -> list[list[Figures]]:
        """The rows of each query, all of one moment.

        Raises:
            Problem: 400, the database does not take a pattern.
            TimeoutError, OSError: as `Reports.answer`.
        """
        try:
            return self._reports.answer(queries)
        except ValueError as error:
            raise Problem(400, f"{error}.") from None

    def _other_period(self, comparison: Comparison, period: Period) -> Period:
        try:
            return other_period(comparison, period, self.today(period.zone))
        except ValueError as error:
            raise refused("#/include/comparisons", str(error)) from None


def _times(request: Request, period: Period) -> Times | None:
    """How a range is cut; None if the request does not ask for that."""
    found = [(index, name) for index, name in enumerate(request.dimensions) if name in names.TIME]
    if not found:
        if request.include.time_labels:
            raise refused("#/include/time_labels", "needs a time dimension")
        return None
    if len(found) > 1:
        raise refused(f"#/dimensions/{found[1][0]}", "there can be only one time dimension")
    index, name = found[0]
    try:
        return times(interval_of(name, period), period)
    except ValueError as error:
        raise refused(f"#/dimensions/{index}", f'"{name}" does not suit the date range: {error}') from None


def _model_name(name: str) -> str:
    return model.TIME if name in names.TIME else name


def _labels(query: Query, row: Figures, by_start: Mapping[datetime, str]) -> list[str]:
    return [
        by_start[value] if isinstance(value, datetime) else label(name, value)
        for name, value in zip(query.dimensions, row.dimensions, strict=True)
    ]


def _echo(request: Request, query: Query, period: Period) -> Echo:
    order = request.order_by
    if not order:
        time_names = [name for name in request.dimensions if name in names.TIME]
        order = (*((name, "asc") for name in time_names), (request.metrics[0], "desc"))
    return Echo(
        site_id=request.site_id,
        metrics=list(request.metrics),
        date_range=period.texts,
        filters=list(request.filters),
        dimensions=list(request.dimensions),
        order_by=list(order),
        include=msgspec.to_builtins(request.include),
        pagination={"offset": query.offset, "limit": request.limit},
        time_zone=period.zone.key,
    )
