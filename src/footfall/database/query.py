"""A report as data: which figures of a site, by what, of which events, over which time, in which order, and how many.

Both databases answer a `Query` (`footfall.database.sql` compiles it), and say the same. What can be asked is in
`metrics` and `dimensions`, and of which events in `filter`.

Names come from the lists there, or a `ValueError` says which there are; values are bound. So a query can be made from a
request.
"""

from datetime import datetime

from msgspec import Struct

from footfall.database.dimensions import BOT, ENDS, GOAL, PAGE, TIME, check_dimension, is_of_event
from footfall.database.filter import All, Filter, Goal, HasDone, Where, dimensions_of, leaves
from footfall.database.metrics import METRICS, Subject


class Order(Struct, frozen=True):
    """A metric or dimension of a query to sort by; texts by their code points, and what has no value last."""

    name: str
    is_descending: bool = False


class Query(Struct, frozen=True, kw_only=True):
    """What is asked of one site.

    A visit counts where one of its events does: in the range, in each bucket, and for each value of a dimension in
    which it has an event that fits the filter. What is then said of it (`bounce_rate` and its like) is said of the
    whole visit. So the figures of a bucket are those of a query over its range.

    Attributes:
        site_id: which site.
        metrics: what to count, at least one of `METRICS`.
        dimensions: what to tell apart; there is a row for each combination that occurs, or a single one without any.
        filter: which events count.
        start: from when on they count, UTC without a zone; None for no beginning.
        end: before when; None for no end.
        buckets: for the dimension `TIME`, when each bucket begins, ascending; the first is `start`.
        goals: what `GOAL` stands for, as a dimension and in a filter.
        with_bots: whether bots count, too. They do so anyway if the filter names `BOT`.
        order: how rows are sorted. After that, as without any: by time, then the first metric, the greatest first,
            then the other dimensions. So the order is always the same.
        limit: how many rows at most.
        offset: how many rows are left out before those.

    Raises:
        ValueError: a name is not known, or parts do not go together; the text names them.
    """

    site_id: str
    metrics: tuple[str, ...]
    dimensions: tuple[str, ...] = ()
    filter: Filter = All()
    start: datetime | None = None
    end: datetime | None = None
    buckets: tuple[datetime, ...] = ()
    goals: tuple[Goal, ...] = ()
    with_bots: bool = False
    order: tuple[Order, ...] = ()
    limit: int | None = None
    offset: int = 0

    def __post_init__(self) -> None:
        if not self.metrics:
            raise ValueError("a query needs a metric")
        for metric in self.metrics:
            if metric not in METRICS:
                raise ValueError(f"there is no metric {metric!r}; there are: {', '.join(METRICS)}")
        for dimension in self.dimensions:
            check_dimension(dimension)
        for order in self.order:
            if order.name not in (*self.metrics, *self.dimensions):
                names = ", ".join((*self.metrics, *self.dimensions))
                raise ValueError(f"there is no metric or dimension {order.name!r} in the query; there are: {names}")
        if TIME in self.dimensions and (self.start is None or (self.start,) != self.buckets[:1]):
            raise ValueError("by time, a query needs a start and buckets from there on")
        self._check_goals()
        for metric in self.metrics:
            self._check_subject(metric)
            self._check_needs(metric)

    @property
    def whole_order(self) -> tuple[Order, ...]:
        """`order`, and what makes it complete."""
        given = {order.name for order in self.order}
        others = [Order(name) for name in self.dimensions if name == TIME]
        others.append(Order(self.metrics[0], is_descending=True))
        others += [Order(name) for name in self.dimensions if name != TIME]
        return (*self.order, *(order for order in others if order.name not in given))

    @property
    def counts_bots(self) -> bool:
        return self.with_bots or BOT in dimensions_of(self.filter)

    def _check_goals(self) -> None:
        names = {goal.name for goal in self.goals}
        if GOAL in self.dimensions and not names:
            raise ValueError(f"the dimension {GOAL!r} needs goals, and the site has none")
        for leaf in leaves(self.filter):
            inner = leaf.leaves if isinstance(leaf, HasDone) else (leaf,)
            for where in inner:
                if isinstance(where, Where) and where.dimension == GOAL:
                    for value in where.values:
                        if value not in names:
                            raise ValueError(f"there is no goal {value!r}; there are: {', '.join(sorted(names))}")

    def _check_subject(self, name: str) -> None:
        subject = METRICS[name].subject
        filtered = set(dimensions_of(self.filter))
        if subject is Subject.EVENTS and (wrong := [one for one in self.dimensions if one in ENDS]):
            raise ValueError(f"{name!r} counts events, and can't be told apart by {wrong[0]!r}")
        if subject is not Subject.VISITS:
            return
        if wrong := [one for one in self.dimensions if is_of_event(one) and one != PAGE]:
            raise ValueError(f"{name!r} is of visits, and can't be told apart by {wrong[0]!r}")
        if name == "views_per_visit" and PAGE in {*self.dimensions, *filtered}:
            raise ValueError(f"{name!r} is of whole visits, and can't be asked of {PAGE!r}")

    def _check_needs(self, name: str) -> None:
        has = set(self.dimensions)
        match METRICS[name].needs:
            case "dimension":
                if not has:
                    raise ValueError(f"{name!r} needs a dimension")
            case "goal":
                if GOAL not in {*has, *dimensions_of(self.filter)}:
                    raise ValueError(f"{name!r} needs {GOAL!r} as a dimension or in the filter")
            case "page":
                top = self.filter.filters if isinstance(self.filter, All) else (self.filter,)
                if PAGE not in {*has, *(one.dimension for one in top if isinstance(one, Where))}:
                    raise ValueError(f"{name!r} needs {PAGE!r} as a dimension or as a filter that always holds")


class Figures(Struct, frozen=True):
    """A row of an answer.

    Attributes:
        dimensions: values of the query's dimensions, in their order; of `TIME` a moment, else a text.
        metrics: values of its metrics, in their order; None for what can't be said.
    """

    dimensions: tuple[str | datetime, ...]
    metrics: tuple[int | float | None, ...]
