"""A report as data: which figures of a site, by what, of which events, over which time, in which order, and how many.

Both databases answer a `Query` (`footfall.database.sql` compiles it), and say the same. To add a metric, add a line to
`METRICS`. A text column that is added to the schema is a dimension at once.

Names come from the lists here, or a `ValueError` says which there are; values are bound. So a query can be made from a
request.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Final

from msgspec import Struct

from footfall.database.schema import EVENTS, LABEL, TEXT

METRICS: Final[Mapping[str, str]] = {
    "events": "count(*)",
    "views": "count(*) FILTER (WHERE event_type = 'page_view')",
    "visitors": "count(DISTINCT visitor)",
}
"""What can be counted, exactly, and the SQL for it, which is the same in both databases."""

COLUMNS: Final = {
    column.name: column
    for column in EVENTS
    if column.kind in (TEXT, LABEL) and column.name not in ("site_id", "user_id")
}
"""What events can be told apart by, and filtered; the empty text stands for what is not known."""
PROP: Final = "prop:"
"""Before the name of a prop, which is a dimension, too: `prop:plan`. Its value is a text, empty where there is none."""
TIME: Final = "time"
"""The dimension that is the start of a bucket (`Query.buckets`)."""

MAX_BUCKETS: Final = 2_000


class Operator(StrEnum):
    """How a filter compares; it holds for an event that fits any of its values."""

    IS = "is"
    CONTAINS = "contains"


class Where(Struct, frozen=True):
    """Events of which a dimension (not `TIME`) fits one of some texts, of which there is at least one."""

    dimension: str
    operator: Operator
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_column(self.dimension)
        if not self.values:
            raise ValueError(f"a filter of {self.dimension!r} needs a value")


class All(Struct, frozen=True):
    """Events for which every one of some filters holds; all events where there are none."""

    filters: "tuple[Filter, ...]" = ()


class AnyOf(Struct, frozen=True):
    """Events for which at least one of some filters holds; no event where there are none."""

    filters: "tuple[Filter, ...]"


class Not(Struct, frozen=True):
    """Events for which a filter does not hold."""

    filter: "Filter"


Filter = Where | All | AnyOf | Not


class Order(Struct, frozen=True):
    """A metric or dimension of a query to sort by; texts by their code points."""

    name: str
    is_descending: bool = False


class Query(Struct, frozen=True, kw_only=True):
    """What is asked of one site.

    Attributes:
        site_id: which site.
        metrics: what to count, at least one of `METRICS`.
        dimensions: what to tell apart; there is a row for each combination that occurs, or a single one without any.
        filter: which events count.
        start: from when on they count, UTC without a zone; None for no beginning.
        end: before when; None for no end.
        buckets: for the dimension `TIME`, when each bucket begins, ascending; the first is `start`.
        order: how rows are sorted. After that, as without any: by time, then the first metric, the greatest first,
            then the other dimensions. So the order is always the same.
        limit: how many rows at most.
        offset: how many rows are left out before those.
    """

    site_id: str
    metrics: tuple[str, ...]
    dimensions: tuple[str, ...] = ()
    filter: Filter = All()
    start: datetime | None = None
    end: datetime | None = None
    buckets: tuple[datetime, ...] = ()
    order: tuple[Order, ...] = ()
    limit: int | None = None
    offset: int = 0

    def __post_init__(self) -> None:
        for metric in self.metrics:
            _check_name(metric, METRICS, "metric")
        for dimension in self.dimensions:
            if dimension != TIME:
                _check_column(dimension)
        for order in self.order:
            _check_name(order.name, (*self.metrics, *self.dimensions), "metric or dimension in the query")
        if TIME in self.dimensions and (self.start is None or (self.start,) != self.buckets[:1]):
            raise ValueError("by time, a query needs a start and buckets from there on")
        if not self.metrics:
            raise ValueError("a query needs a metric")

    @property
    def whole_order(self) -> tuple[Order, ...]:
        """`order`, and what makes it complete."""
        given = {order.name for order in self.order}
        others = [Order(name) for name in self.dimensions if name == TIME]
        others.append(Order(self.metrics[0], is_descending=True))
        others += [Order(name) for name in self.dimensions if name != TIME]
        return (*self.order, *(order for order in others if order.name not in given))


class Figures(Struct, frozen=True):
    """A row of an answer.

    Attributes:
        dimensions: values of the query's dimensions, in their order; of `TIME` a moment, else a text.
        metrics: values of its metrics, in their order.
    """

    dimensions: tuple[str | datetime, ...]
    metrics: tuple[int, ...]


class Interval(StrEnum):
    """A bucket of time, as a calendar has it; a week begins on Monday."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


def buckets(interval: Interval, start: datetime, end: datetime, zone: tzinfo = UTC) -> tuple[datetime, ...]:
    """When the buckets from `start` to `end` begin, the first at `start`, by the calendar and clock of a time zone.

    All moments are UTC without a zone, as in `Query`.

    Raises:
        ValueError: there are more than `MAX_BUCKETS`.
    """
    begins: list[datetime] = []
    moment = start
    while moment < end:
        if len(begins) == MAX_BUCKETS:
            raise ValueError(f"there are more than {MAX_BUCKETS:,} buckets of one {interval}")
        begins.append(moment)
        moment = _next(interval, moment, zone)
    return tuple(begins)


def _next(interval: Interval, moment: datetime, zone: tzinfo) -> datetime:
    """The first moment after this one at which a bucket begins."""
    local = moment.replace(tzinfo=UTC).astimezone(zone)
    if interval is Interval.HOUR:  # which is the same length of time everywhere, whatever clocks do
        return (
            moment
            + timedelta(hours=1)
            - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        )
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    match interval:
        case Interval.DAY:
            later = midnight + timedelta(days=1)
        case Interval.WEEK:
            later = midnight + timedelta(days=7 - midnight.weekday())
        case _:
            later = (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
    return later.astimezone(UTC).replace(tzinfo=None)


def _check_column(name: str) -> None:
    if not name.startswith(PROP):
        _check_name(name, COLUMNS, "dimension")


def _check_name(name: str, names: Mapping[str, object] | tuple[str, ...], kind: str) -> None:
    if name not in names:
        raise ValueError(f"there is no {kind} {name!r}; there are: {', '.join(names)}")
