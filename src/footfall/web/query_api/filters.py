"""Filters of a request as filters of a query."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from footfall.database.dimensions import BOT, GOAL, NAME
from footfall.database.filter import All, AnyOf, Filter, Goal, HasDone, Not, Operator, Where
from footfall.entry import PAGE_VIEW
from footfall.web.query_api import names
from footfall.web.query_api.request import refused

MAX_DEPTH: Final = 16
"""How deep filters may hold one another."""
PLAUSIBLE_VIEW: Final = "pageview"
"""What Plausible calls a page view; answers call it so, too."""

_IS_BOT: Final[dict[str, Filter]] = {
    "true": Not(Where(BOT, Operator.IS, ("",))),
    "false": Where(BOT, Operator.IS, ("",)),
}
"""Besides the names of bots, a filter of `visit:bot` takes these."""


def compile_filters(filters: Iterable[Any], goals: Sequence[Goal]) -> Filter:
    """The filter that holds where all of a request's hold.

    Args:
        filters: as `request.filters` has checked them.
        goals: the site's.

    Raises:
        Problem: 400, they name a goal that the site does not have, or hold one another too deeply.
    """
    return All(tuple(_compiled(f"#/filters/{index}", one, goals, 1) for index, one in enumerate(filters)))


def label_filter(dimension: str, labels: Iterable[str]) -> Filter:
    """The filter for values of a dimension as an answer has them."""
    values = tuple(value for label in dict.fromkeys(labels) for value in _values(dimension, label))
    return Where(dimension, Operator.IS, values)


def label(dimension: str, value: str) -> str:
    """A value of a dimension as an answer has it."""
    if dimension == NAME and value == PAGE_VIEW:
        return PLAUSIBLE_VIEW
    return value or names.blank(dimension)


def _compiled(place: str, one: Any, goals: Sequence[Goal], depth: int) -> Filter:  # noqa: ANN401 - checked JSON
    if depth > MAX_DEPTH:
        raise refused(place, f"filters hold one another more than {MAX_DEPTH} deep")
    match one:
        case ["and" | "or" as word, inner]:
            filters = (_compiled(f"{place}/1/{index}", part, goals, depth + 1) for index, part in enumerate(inner))
            return All(tuple(filters)) if word == "and" else AnyOf(tuple(filters))
        case ["not", inner]:
            return Not(_compiled(f"{place}/1", inner, goals, depth + 1))
        case ["has_done" | "has_not_done" as word, inner]:
            done = HasDone(_compiled(f"{place}/1", inner, goals, depth + 1))
            return done if word == "has_done" else Not(done)
        case [operator, dimension, clauses, *modifiers]:
            texts = [str(clause) for clause in clauses]
            is_case_sensitive = not modifiers or modifiers[0].get("case_sensitive", True)
            if dimension == GOAL:
                return _of_goals(place, operator, texts, goals, is_case_sensitive=is_case_sensitive)
            leaf = _leaf(operator.removesuffix("_not"), dimension, texts, is_case_sensitive=is_case_sensitive)
            return Not(leaf) if operator.endswith("_not") else leaf
    raise AssertionError(one)


def _leaf(operator: str, dimension: str, texts: list[str], *, is_case_sensitive: bool) -> Filter:
    if operator != "is":
        return Where(dimension, Operator(operator), tuple(texts), is_case_sensitive)
    words = [text for text in texts if dimension == BOT and text in _IS_BOT]
    values = [value for text in texts if text not in words for value in _values(dimension, text)]
    parts = [_IS_BOT[word] for word in words]
    if values:
        parts.append(Where(dimension, Operator.IS, tuple(values), is_case_sensitive))
    return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))


def _values(dimension: str, text: str) -> list[str]:
    """What the database has for a text of a filter."""
    if dimension == NAME and text == PLAUSIBLE_VIEW:
        return [PAGE_VIEW, text]
    return ["" if text == names.blank(dimension) else text]


def _of_goals(place: str, operator: str, texts: list[str], goals: Sequence[Goal], *, is_case_sensitive: bool) -> Filter:
    def folded(text: str) -> str:
        return text if is_case_sensitive else text.casefold()

    found: list[str] = []
    for index, text in enumerate(texts):
        if operator == "is":
            meant = [goal.name for goal in goals if folded(goal.name) == folded(text)]
            if not meant:
                known = ", ".join(goal.name for goal in goals) or "none; sites.SITE_ID.goals in the settings has them"
                raise refused(f"{place}/2/{index}", f'Invalid goal "{text}"; there are: {known}')
        else:
            meant = [goal.name for goal in goals if folded(text) in folded(goal.name)]
        found += meant
    return Where(GOAL, Operator.IS, tuple(dict.fromkeys(found))) if found else AnyOf(())


def wildcard_pattern(text: str) -> str:
    """The regular expression for a text in which a star stands for any characters."""
    return "^" + ".*".join(re.escape(part) for part in re.split(r"\*+", text)) + "$"
