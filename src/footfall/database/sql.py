"""A query in SQL: one statement, the same for both databases but for the words of their dialects.

Its relation `figures` has what counts (`footfall.database.selection`), told apart by the query's dimensions. Beside it
is set, where it is asked for: `entries`, in which visits are told apart by the page that they began with; `readings` of
pages; and whom the visitors are a part of: `everybody`, `candidates` for a goal, `groups` of those.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from footfall.database.dialect import Dialect
from footfall.database.dimensions import ENTRY_PAGE, GOAL, PAGE, PROP, TIME
from footfall.database.filter import Filter, dimensions_of, of_entries, without_goals
from footfall.database.metrics import METRICS, Subject
from footfall.database.moments import moment
from footfall.database.query import Figures, Query
from footfall.database.selection import Columns, Selection

_WHOLE: Final[Mapping[str, str]] = {
    "percentage": "everybody",
    "conversion_rate": "candidates",
    "group_conversion_rate": "groups",
}
"""By metric, the relation that has whom the visitors are a part of."""
_OF_VISITS: Final = frozenset(name for name, metric in METRICS.items() if metric.subject is Subject.VISITS)
_BY_VISIT: Final = _OF_VISITS | {"visits"}
_READINGS: Final = frozenset({"scroll_depth", "time_on_page"})
_ZERO_FOR_NONE: Final = frozenset({"views_per_visit", "bounce_rate", "conversion_rate", "group_conversion_rate"})
"""Metrics that are 0 where there is nothing to count; others are None there."""


def select(query: Query, dialect: Dialect) -> str:
    """A statement whose rows have the query's dimensions as `d0`, `d1` ... and its metrics as `m0`, `m1` ...

    A moment is in microseconds. A metric of n decimals is a whole number, 10^n times as great.
    """
    return _Statement(query, dialect).text()


def figures(query: Query, row: Sequence[Any]) -> Figures:
    """What a row of the statement says."""
    width = len(query.dimensions)
    dimensions = [
        moment(int(value)) if name == TIME else value for name, value in zip(query.dimensions, row[:width], strict=True)
    ]
    metrics = [_figure(name, value) for name, value in zip(query.metrics, row[width:], strict=True)]
    return Figures(tuple(dimensions), tuple(metrics))


def _figure(metric: str, value: int | None) -> int | float | None:
    decimals = METRICS[metric].decimals
    return value / 10**decimals if value is not None and decimals else value


class _Statement:
    def __init__(self, query: Query, dialect: Dialect) -> None:
        self._query = query
        self._dialect = dialect
        counts_visits = not (_BY_VISIT | _READINGS).isdisjoint(query.metrics)
        self._selection = Selection(query, dialect, counts_visits=counts_visits)
        self._columns = {f"d{number}": name for number, name in enumerate(query.dimensions)}
        self._metrics = {f"m{number}": name for number, name in enumerate(query.metrics)}
        self._is_of_pages = PAGE in {*query.dimensions, *dimensions_of(query.filter)}

    def text(self) -> str:
        query = self._query
        own = {alias: name for alias, name in self._metrics.items() if self._relation_of(name) == "figures"}
        if not own or not _WHOLE.keys().isdisjoint(query.metrics):
            own["visitors"] = "visitors"
        relations = {"figures": self._figures(self._columns, query.filter, own)}
        source = "figures"
        for relation in dict.fromkeys(map(self._relation_of, query.metrics)):
            if relation != "figures":
                shared, relations[relation] = self._beside(relation)
                on = " AND ".join(f"figures.{alias} = {relation}.{alias}" for alias in shared)
                source += f" LEFT JOIN {relation} ON {on}" if on else f" CROSS JOIN {relation}"
        columns = [f"figures.{alias} AS {alias}" for alias in self._columns]
        columns += [f"{self._result(alias, name)} AS {alias}" for alias, name in self._metrics.items()]
        relations = self._selection.relations() | relations
        statement = (
            f"WITH {', '.join(f'{name} AS ({made})' for name, made in relations.items())} "
            f"SELECT {', '.join(columns)} FROM {source} ORDER BY {self._order()}"
        )
        if query.limit is not None:
            statement += f" LIMIT {int(query.limit)}"
        return statement + (f" OFFSET {int(query.offset)}" if query.offset else "")

    def _relation_of(self, metric: str) -> str:
        """Where a metric comes from."""
        if metric in _READINGS:
            return "readings"
        if self._is_of_pages and metric in _OF_VISITS:
            return "entries"
        return _WHOLE.get(metric, "figures")

    def _beside(self, relation: str) -> tuple[Columns, str]:
        """A relation that is set beside the figures, and the columns that they share."""
        columns, condition = self._columns, self._query.filter
        metrics = {alias: name for alias, name in self._metrics.items() if self._relation_of(name) == relation}
        match relation:
            case "entries":
                at_entry = {alias: ENTRY_PAGE if name == PAGE else name for alias, name in columns.items()}
                return columns, self._figures(at_entry, of_entries(condition), metrics)
            case "readings":
                return columns, self._readings(columns, metrics)
            case "groups":
                shared = {alias: name for alias, name in columns.items() if name != GOAL and not name.startswith(PROP)}
            case _:
                shared = {}
        if relation != "everybody":
            condition = without_goals(condition)
        return shared, self._figures(shared, condition, {"visitors": "visitors"})

    def _figures(self, columns: Columns, condition: Filter, metrics: Mapping[str, str]) -> str:
        names = set(metrics.values())
        rows = self._selection.rows(
            columns,
            condition,
            by_visit=not _BY_VISIT.isdisjoint(names),
            of_whole_visits=not _OF_VISITS.isdisjoint(names),
        )
        return _grouped(columns, {alias: self._counted(name) for alias, name in metrics.items()}, rows)

    def _readings(self, columns: Columns, metrics: Mapping[str, str]) -> str:
        rows = self._selection.readings(columns, self._query.filter)
        ratio, page = self._dialect.ratio, self._dialect.together("visitor", "page")
        readers = f"count(DISTINCT {page}) FILTER (WHERE engaged_ms IS NOT NULL)"
        means = {
            "scroll_depth": ratio("sum(scroll_depth)", "count(scroll_depth)"),
            "time_on_page": ratio("sum(engaged_ms)", f"(1000 * {readers})"),
        }
        return _grouped(columns, {alias: means[name] for alias, name in metrics.items()}, rows)

    def _counted(self, metric: str) -> str:
        """What a metric of `Selection.rows` is."""
        ratio = self._dialect.ratio
        match metric:
            case "visitors":
                return "count(DISTINCT visitor)"
            case "visits":
                return "count(*)"
            case "pageviews" | "events":
                return f"coalesce(sum({metric}), 0)"
            case "views_per_visit":
                return ratio("100 * sum(visit_pageviews)", "count(*)")
            case "bounce_rate":
                return ratio("100 * sum(is_bounce)", "count(*)")
            case "visit_duration":
                return ratio("sum(duration)", "(1000000 * count(*))")
        raise AssertionError(metric)

    def _result(self, alias: str, metric: str) -> str:
        """What the statement gives for a metric."""
        relation = self._relation_of(metric)
        value = f"{relation}.{alias}"
        if metric in _WHOLE:
            value = self._dialect.ratio("1000 * figures.visitors", f"{relation}.visitors")
        return f"coalesce({value}, 0)" if metric in _ZERO_FOR_NONE else value

    def _order(self) -> str:
        aliases = {name: alias for alias, name in (self._metrics | self._columns).items()}
        return ", ".join(
            f"{aliases[one.name]} {'DESC' if one.is_descending else 'ASC'} NULLS LAST"
            for one in self._query.whole_order
        )


def _grouped(columns: Columns, expressions: Mapping[str, str], rows: str) -> str:
    selected = ", ".join([*columns, *(f"{expression} AS {alias}" for alias, expression in expressions.items())])
    statement = f"SELECT {selected} FROM ({rows}) AS counted"
    return f"{statement} GROUP BY {', '.join(columns)}" if columns else statement
