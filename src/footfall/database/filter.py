"""Which events count: conditions on dimensions, joined by and, or and not.

A filter is put to one event at a time. A metric of visits counts the visits of which an event fits.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from footfall.database.dimensions import ENTRY_PAGE, GOAL, PAGE, PROP, TIME, check_dimension, is_of_event

MAX_PATTERN: Final = 1_000
"""Characters of one pattern."""


class Operator(StrEnum):
    """How a filter compares; it holds for an event that fits any of its values.

    `MATCHES` takes regular expressions of RE2 (https://github.com/google/re2/wiki/Syntax), which may match anywhere in
    the text; a dot matches a line's end, too.
    """

    IS = "is"
    CONTAINS = "contains"
    MATCHES = "matches"


class Where(Struct, frozen=True):
    """Events of which a dimension (not `TIME`) fits one of some texts, of which there is at least one.

    Attributes:
        dimension: which one. `GOAL` takes the names of `Query.goals`, and only `IS`.
        operator: how to compare.
        values: with what; the empty text is what is not known.
        is_case_sensitive: whether `a` and `A` differ. If not, letters are the same that RE2 takes for the same.

    Raises:
        ValueError: there is no such dimension, it can't be filtered so, or a pattern is longer than `MAX_PATTERN`.
    """

    dimension: str
    operator: Operator
    values: tuple[str, ...]
    is_case_sensitive: bool = True

    def __post_init__(self) -> None:
        check_dimension(self.dimension)
        if self.dimension == TIME:
            raise ValueError(f"{TIME!r} can't be filtered; a query has a start and an end for that")
        if self.dimension == GOAL and (self.operator is not Operator.IS or not self.is_case_sensitive):
            raise ValueError(f"{GOAL!r} can only be compared by {Operator.IS.value!r}, and with regard to case")
        if not self.values:
            raise ValueError(f"a filter of {self.dimension!r} needs a value")
        if self.operator is Operator.MATCHES and any(len(value) > MAX_PATTERN for value in self.values):
            raise ValueError(f"a pattern for {self.dimension!r} is longer than {MAX_PATTERN:,} characters")


class All(Struct, frozen=True):
    """Events for which every one of some filters holds; all events where there are none."""

    filters: "tuple[Filter, ...]" = ()


class AnyOf(Struct, frozen=True):
    """Events for which at least one of some filters holds; no event where there are none."""

    filters: "tuple[Filter, ...]"


class Not(Struct, frozen=True):
    """Events for which a filter does not hold."""

    filter: "Filter"


class HasDone(Struct, frozen=True):
    """Events of visitors who have, in the query's range, an event for which a filter holds, and perhaps more after it.

    Attributes:
        filter: what they have done.
        then: what they have done after that, in this order. Of events of the same moment, one comes after another if it
            does not also fit the step before.

    Raises:
        ValueError: a filter has a dimension that is not of events, or a `HasDone` of its own.
    """

    filter: "Filter"
    then: "tuple[Filter, ...]" = ()

    def __post_init__(self) -> None:
        if any(isinstance(leaf, HasDone) for leaf in self.leaves):
            raise ValueError("what a visitor has done can't be asked of what a visitor has done")
        for leaf in self.leaves:
            if isinstance(leaf, Where) and not is_of_event(leaf.dimension):
                raise ValueError(f"what a visitor has done is told by dimensions of events, not by {leaf.dimension!r}")

    @property
    def steps(self) -> "tuple[Filter, ...]":
        """All that they have done, in its order."""
        return (self.filter, *self.then)

    @property
    def leaves(self) -> "Iterator[Where | HasDone]":
        """The leaves of each step."""
        return (leaf for step in self.steps for leaf in leaves(step))


Filter = Where | All | AnyOf | Not | HasDone


class Goal(Struct, frozen=True):
    """What a site wants its visitors to do.

    Attributes:
        name: as reports show it.
        filter: events that count for it, told by dimensions of events.

    Raises:
        ValueError: the filter has another dimension, or a goal.
    """

    name: str
    filter: Filter

    def __post_init__(self) -> None:
        for leaf in leaves(self.filter):
            if not isinstance(leaf, Where) or not is_of_event(leaf.dimension) or leaf.dimension == GOAL:
                raise ValueError(f"the goal {self.name!r} can only be told by dimensions of events")


def leaves(condition: Filter) -> Iterator[Where | HasDone]:
    """The parts of a filter that no `All`, `AnyOf` or `Not` is made of."""
    match condition:
        case All(filters) | AnyOf(filters):
            for one in filters:
                yield from leaves(one)
        case Not(inner):
            yield from leaves(inner)
        case _:
            yield condition


def dimensions_of(condition: Filter) -> Iterator[str]:
    """The dimensions that a filter names, also within `HasDone`."""
    for leaf in leaves(condition):
        if isinstance(leaf, Where):
            yield leaf.dimension
        else:
            for step in leaf.steps:
                yield from dimensions_of(step)


def patterns_of(condition: Filter) -> Iterator[str]:
    """The patterns that a filter matches texts with."""
    for leaf in leaves(condition):
        if isinstance(leaf, HasDone):
            for step in leaf.steps:
                yield from patterns_of(step)
        elif leaf.operator is Operator.MATCHES:
            yield from leaf.values


def of_entries(condition: Filter) -> Filter:
    """A filter that asks of the first page of a visit what this one asks of the page of an event."""
    match condition:
        case All(filters):
            return All(tuple(map(of_entries, filters)))
        case AnyOf(filters):
            return AnyOf(tuple(map(of_entries, filters)))
        case Not(inner):
            return Not(of_entries(inner))
        case Where(dimension) if dimension == PAGE:
            return replace(condition, dimension=ENTRY_PAGE)
        case _:
            return condition


def without_goals(condition: Filter) -> Filter:
    """A filter without what it says of goals and props; what a visitor has done stays."""
    return _without_goals(condition) or All()


def _without_goals(condition: Filter) -> Filter | None:
    match condition:
        case All(filters):
            return All(tuple(kept for one in filters if (kept := _without_goals(one)) is not None))
        case AnyOf(filters):
            left = tuple(kept for one in filters if (kept := _without_goals(one)) is not None)
            return AnyOf(left) if left or not filters else None
        case Not(inner):
            kept = _without_goals(inner)
            return None if kept is None else Not(kept)
        case Where(dimension) if dimension == GOAL or dimension.startswith(PROP):
            return None
        case _:
            return condition
