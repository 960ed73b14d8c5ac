"""A query in SQL: the text that both databases understand, but for what each says in its own words."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import Any, assert_never

from footfall.database.dimensions import BOT, EVENT_COLUMNS, PROP, TIME
from footfall.database.filter import All, AnyOf, Filter, HasDone, Not, Operator, Where
from footfall.database.query import Query
from footfall.database.schema import NAMES

METRICS = {
    "events": "count(*) FILTER (WHERE event_type <> 'engagement')",
    "pageviews": "count(*) FILTER (WHERE event_type = 'page_view')",
    "visitors": "count(DISTINCT visitor)",
}


class Compiler(ABC):
    """Makes statements of queries, and collects the values that they are to be run with.

    Attributes:
        parameters: by name.
    """

    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {}

    def select(self, query: Query) -> str:
        """A statement whose rows have the query's dimensions as `d0`, `d1` ... and its metrics as `m0`, `m1` ..."""
        names = {name: f"d{number}" for number, name in enumerate(query.dimensions)}
        columns = [
            f"{self.bucket(query) if name == TIME else self._text_of(name)} AS {alias}" for name, alias in names.items()
        ]
        for number, name in enumerate(query.metrics):
            if name not in METRICS:
                raise ValueError(f"the metric {name!r} is not supported yet")
            columns.append(f"{METRICS[name]} AS m{number}")
        conditions = [f"site_id = {self.text(query.site_id)}"]
        if query.start is not None:
            conditions.append(f"time >= {self.moment(query.start)}")
        if query.end is not None:
            conditions.append(f"time < {self.moment(query.end)}")
        if not query.counts_bots and "bot" in NAMES:
            conditions.append(f"{self.column('bot')} = ''")
        conditions.append(self._condition(query.filter))
        statement = f"SELECT {', '.join(columns)} FROM {self.table(query)} WHERE {' AND '.join(conditions)}"
        if names:
            statement += f" GROUP BY {', '.join(names.values())}"
        order = {name: f"m{number}" for number, name in enumerate(query.metrics)} | names
        statement += " ORDER BY " + ", ".join(
            f"{order[one.name]} {'DESC' if one.is_descending else 'ASC'}" for one in query.whole_order
        )
        if query.limit is not None:
            statement += f" LIMIT {int(query.limit)}"
        return statement + (f" OFFSET {int(query.offset)}" if query.offset else "")

    def bind(self, value: object) -> str:
        """Keep a value; return the name by which the statement has it."""
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return name

    @abstractmethod
    def text(self, value: str) -> str:
        """A text that is bound."""

    @abstractmethod
    def moment(self, value: datetime) -> str:
        """A moment that is bound."""

    @abstractmethod
    def table(self, query: Query) -> str:
        """Where the events are."""

    @abstractmethod
    def column(self, name: str) -> str:
        """A text column of `events`, empty where it is not known."""

    @abstractmethod
    def prop(self, name: str) -> str:
        """The text of a prop, empty where there is none."""

    @abstractmethod
    def bucket(self, query: Query) -> str:
        """When the bucket of an event begins."""

    @abstractmethod
    def is_one_of(self, text: str, values: Sequence[str]) -> str:
        """Whether a text is one of some."""

    @abstractmethod
    def contains(self, text: str, value: str) -> str:
        """Whether a text has another in it."""

    def _text_of(self, dimension: str) -> str:
        if dimension.startswith(PROP):
            return self.prop(dimension.removeprefix(PROP))
        name = "bot" if dimension == BOT else EVENT_COLUMNS.get(dimension)
        if name not in NAMES:
            raise ValueError(f"the dimension {dimension!r} is not supported yet")
        return self.column(name)

    def _condition(self, condition: Filter) -> str:
        match condition:
            case All(filters):
                return self._joined("AND", filters, "TRUE")
            case AnyOf(filters):
                return self._joined("OR", filters, "FALSE")
            case Not(filter=inner):
                return f"NOT {self._condition(inner)}"
            case HasDone():
                raise ValueError("what a visitor has done can't be asked yet")
            case Where(dimension, operator, values, is_case_sensitive):
                if not is_case_sensitive:
                    raise ValueError("to compare without regard to case is not supported yet")
                text = self._text_of(dimension)
                match operator:
                    case Operator.IS:
                        return f"({self.is_one_of(text, values)})"
                    case Operator.CONTAINS:
                        return f"({' OR '.join(self.contains(text, value) for value in values)})"
                    case Operator.MATCHES:
                        raise ValueError("to match patterns is not supported yet")
                    case _:
                        assert_never(operator)
            case _:
                assert_never(condition)

    def _joined(self, word: str, filters: Sequence[Filter], empty: str) -> str:
        return f"({f' {word} '.join(self._condition(one) for one in filters) or empty})"
