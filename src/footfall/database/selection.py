"""Which events and visits a query counts, in SQL."""

from collections.abc import Mapping, Sequence
from datetime import time
from itertools import pairwise
from typing import Final, assert_never

from footfall.database.channel import CHANNEL_COLUMNS, channel_sql
from footfall.database.dialect import Dialect
from footfall.database.dimensions import BOT, CHANNEL, EVENT_COLUMNS, GOAL, NAME, PROP, TIME, VISIT_COLUMNS, is_of_event
from footfall.database.filter import All, AnyOf, Filter, HasDone, Not, Operator, Where, dimensions_of, leaves
from footfall.database.query import Query
from footfall.database.visits import IS_EVENT, IS_VIEW, KEY, columns_for, is_between, relations_of_visits, whole_days

Columns = Mapping[str, str]
"""By the name of a column, the dimension that it has."""

_WHOLE: Final = ("duration", "is_bounce", "visit_pageviews")
"""Columns of `visits` that say something of whole visits."""
_WITH_VISITS: Final = f"JOIN visits ON {' AND '.join(f'starts.{name} = visits.{name}' for name in KEY)}"


class Selection:
    """Makes relations of what counts, for one statement.

    What only events tell is read from `hits`, the events of the site. What only visits tell is read from `visits`. For
    both together `starts`, the events that know their visits, are joined with `visits`. They are made by `relations`.
    """

    def __init__(self, query: Query, dialect: Dialect, *, counts_visits: bool) -> None:
        self._query = query
        self._dialect = dialect
        self._goals = {goal.name: goal.filter for goal in query.goals}
        self._is_by_days = all(start.time() == time.min for start in query.buckets)
        self._needs_visits = counts_visits or any(map(_is_of_visit, (*query.dimensions, *dimensions_of(query.filter))))
        self._hit_columns = {
            "moment": dialect.microseconds("time"),
            "visitor": "visitor",
            "event_type": "event_type",
        }
        self._props: dict[str, str] = {}
        self._attributes: set[str] = set()

    def rows(self, columns: Columns, condition: Filter, *, by_visit: bool, of_whole_visits: bool) -> str:
        """What counts for figures: a row for each event; or, `by_visit`, for each visit and combination of dimensions.

        Rows have the columns asked for, `visitor`, and `pageviews` and `events`, which count those that fit. They have
        `duration`, `is_bounce` and `visit_pageviews` if they are `of_whole_visits`.
        """
        named = _named(columns, condition)
        has_visits = of_whole_visits or any(map(_is_of_visit, named))
        has_events = any(map(is_of_event, named)) or (TIME in named and not self._is_by_days)
        if not by_visit and not has_visits:
            return self._select(columns, condition, "hits", "hits.visitor AS visitor", *_counts("pageviews", "events"))
        if not has_events:
            own = [f"visits.{name} AS {name}" for name in ("visitor", "pageviews", "events", *_WHOLE)]
            return self._select(columns, condition, "visits", *own)
        join = _WITH_VISITS if has_visits else ""
        if not by_visit:
            own = ["starts.visitor AS visitor", *_counts("pageviews", "events")]
            return self._select(columns, condition, "starts", *own, join=join)
        whole = _WHOLE if of_whole_visits else ()
        fitting = self._select(
            columns,
            condition,
            "starts",
            *(f"starts.{name} AS {name}" for name in KEY),
            *_counts("is_view", "is_event"),
            *(f"visits.{name} AS whole_{name}" for name in whole),
            join=join,
        )
        sums = ["sum(is_view) AS pageviews", "sum(is_event) AS events"]
        sums += [f"min(whole_{name}) AS {name}" for name in whole]
        key = ", ".join([*columns, *KEY])
        return f"SELECT {key}, {', '.join(sums)} FROM ({fitting}) AS fitting GROUP BY {key}"

    def readings(self, columns: Columns, condition: Filter) -> str:
        """How pages are read: a row for each page in each visit and combination of dimensions.

        Rows have the columns asked for, `visitor` and `page`; `scroll_depth`, the greatest, and `engaged_ms`, the sum;
        NULL where nobody told.
        """
        self._hit_columns |= {name: name for name in ("path", "scroll_depth", "engaged_ms")}  # numbers may be NULL
        has_visits = any(map(_is_of_visit, _named(columns, condition)))
        fitting = self._select(
            columns,
            condition,
            "starts",
            *(f"starts.{name} AS {name}" for name in KEY),
            "starts.path AS page",
            "starts.scroll_depth AS depth",
            "starts.engaged_ms AS engaged",
            join=_WITH_VISITS if has_visits else "",
        )
        key = ", ".join([*columns, *KEY, "page"])
        return (
            f"SELECT {key}, max(depth) AS scroll_depth, sum(engaged) AS engaged_ms "
            f"FROM ({fitting}) AS fitting GROUP BY {key}"
        )

    def relations(self) -> dict[str, str]:
        """What all rows that were made so far are read from, by name; each needs only those before it."""
        dialect, query = self._dialect, self._query
        start, end = whole_days(query.start, query.end) if self._needs_visits else (query.start, query.end)
        if self._needs_visits:
            self._hit_columns |= {name: dialect.known(name) for name in columns_for(self._attributes)}
            self._hit_columns["bot"] = dialect.known("bot")
            self._hit_columns["is_interactive"] = "coalesce(is_interactive, TRUE)"
        conditions = [f"site_id = {dialect.text(query.site_id)}"]
        if start is not None:
            conditions.append(f"time >= {dialect.time(start)}")
        if end is not None:
            conditions.append(f"time < {dialect.time(end)}")
        if not query.counts_bots:
            conditions.append(f"{dialect.known('bot')} = ''")
        columns = ", ".join(f"{expression} AS {name}" for name, expression in self._hit_columns.items())
        hits = f"SELECT {columns} FROM {dialect.events(query.site_id)} WHERE {' AND '.join(conditions)}"
        found = {"hits": hits}
        if self._needs_visits:
            found |= relations_of_visits(query, dialect, sorted(self._attributes))
        return found

    def _select(self, columns: Columns, condition: Filter, relation: str, *more: str, join: str = "") -> str:
        """What of a relation fits, with these columns and more."""
        selected = []
        source = relation
        for alias, dimension in columns.items():
            if dimension == TIME:
                moment = "visits.visit_start" if relation == "visits" else f"{relation}.moment"
                buckets, expression = self._dialect.bucket(moment, self._query.buckets)
                source = f"{relation} {buckets}"
            elif dimension == GOAL:
                fits = [(name, self._condition(goal, relation)) for name, goal in self._goals.items()]
                expression = self._dialect.each_that_holds(fits)
            else:
                expression = self._text(dimension, relation)
            selected.append(f"{expression} AS {alias}")
        conditions = f"{self._in_range(relation)} AND {self._condition(condition, relation)}"
        if NAME in columns.values():
            conditions += f" AND {relation}.{IS_EVENT}"
        return f"SELECT {', '.join([*selected, *more])} FROM {source} {join} WHERE {conditions}"

    def _in_range(self, relation: str) -> str:
        """What an event must fulfil besides; there are whole days of them if there are visits."""
        if relation == "visits" or not self._needs_visits:
            return "TRUE"
        return is_between(f"{relation}.moment", self._query, self._dialect)

    def _text(self, dimension: str, relation: str) -> str:
        """The text that a dimension has in a row."""
        if dimension == BOT:
            self._hit_columns["bot"] = self._dialect.known("bot")
            return f"{relation}.bot"
        if is_of_event(dimension):
            return f"{relation}.{self._hit_column(dimension)}"
        if dimension == CHANNEL:
            self._attributes.update(CHANNEL_COLUMNS)
            return channel_sql({name: f"visits.{name}" for name in CHANNEL_COLUMNS}, self._dialect.matches)
        self._attributes.add(VISIT_COLUMNS[dimension])
        return f"visits.{VISIT_COLUMNS[dimension]}"

    def _hit_column(self, dimension: str) -> str:
        """The column of `hits` that has a dimension of events."""
        if not dimension.startswith(PROP):
            name = EVENT_COLUMNS[dimension]
            self._hit_columns[name] = self._dialect.known(name)
        elif dimension in self._props:
            name = self._props[dimension]
        else:
            name = self._props[dimension] = f"prop{len(self._props)}"
            self._hit_columns[name] = self._dialect.prop(dimension.removeprefix(PROP))
        return name

    def _condition(self, condition: Filter, relation: str) -> str:
        match condition:
            case All(filters):
                return self._joined("AND", filters, relation) or "TRUE"
            case AnyOf(filters):
                return self._joined("OR", filters, relation) or "FALSE"
            case Not(filter=inner):
                return f"(NOT {self._condition(inner, relation)})"
            case HasDone():
                return f"({relation}.visitor IN ({self._who_has_done(condition)}))"
            case Where(dimension, _, values) if dimension == GOAL:
                return self._condition(AnyOf(tuple(self._goals[name] for name in values)), relation)
            case Where():
                return f"({self._compared(condition, self._text(condition.dimension, relation))})"
            case _:
                assert_never(condition)

    def _who_has_done(self, condition: HasDone) -> str:
        """The visitors who have, one after the other, events that fit each step."""
        first, *others = (self._condition(step, "hits") for step in condition.steps)
        in_range = self._in_range("hits")
        if not others:
            return f"SELECT hits.visitor FROM hits WHERE {in_range} AND {first}"
        # The earliest moment at which a step can be taken leaves the most time for the next.
        reached = "SELECT hits.visitor AS visitor, min(hits.moment) AS moment FROM hits"
        found = f"{reached} WHERE {in_range} AND {first} GROUP BY hits.visitor"
        for before, step in pairwise([first, *others]):
            comes_after = f"(hits.moment > step.moment OR (hits.moment = step.moment AND NOT {before}))"
            found = (
                f"{reached} JOIN ({found}) AS step ON hits.visitor = step.visitor "
                f"WHERE {in_range} AND {step} AND {comes_after} GROUP BY hits.visitor"
            )
        return f"SELECT visitor FROM ({found}) AS reached"

    def _joined(self, word: str, filters: Sequence[Filter], relation: str) -> str:
        return f"({f' {word} '.join(self._condition(one, relation) for one in filters)})" if filters else ""

    def _compared(self, where: Where, text: str) -> str:
        match where.operator:
            case Operator.IS:
                return self._dialect.is_one_of(text, where.values, is_case_sensitive=where.is_case_sensitive)
            case Operator.CONTAINS:
                return self._dialect.contains_one_of(text, where.values, is_case_sensitive=where.is_case_sensitive)
            case Operator.MATCHES:
                flag = "" if where.is_case_sensitive else "(?i)"
                return " OR ".join(self._dialect.matches(text, f"{flag}{value}") for value in where.values)
            case _:
                assert_never(where.operator)


def _named(columns: Columns, condition: Filter) -> list[str]:
    """The dimensions that are asked of a row itself; what else its visitor has done is looked up."""
    return [*columns.values(), *(leaf.dimension for leaf in leaves(condition) if isinstance(leaf, Where))]


def _is_of_visit(dimension: str) -> bool:
    return dimension.startswith("visit:") and dimension != BOT


def _counts(views: str, events: str) -> tuple[str, str]:
    """Two columns of an event: whether it is a page view, and whether it counts as an event; 1 or 0."""
    return f"CASE WHEN {IS_VIEW} THEN 1 ELSE 0 END AS {views}", f"CASE WHEN {IS_EVENT} THEN 1 ELSE 0 END AS {events}"
