"""The names of the query API, which are those of Plausible's Stats API: a name that is not here is refused.

What can be counted, and by what, is in `footfall.database.metrics` and `footfall.database.dimensions`; here is what the
API adds to it: times by the calendar, the names of comparisons, and what stands for an unknown value.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Final

from footfall.database import dimensions as model
from footfall.database.metrics import METRICS as MODEL_METRICS

METRICS: Final = tuple(MODEL_METRICS)
TIME: Final = ("time", "time:minute", "time:hour", "time:day", "time:week", "time:month")
DIMENSIONS: Final = tuple(name for name in model.DIMENSIONS if name not in (model.TIME, model.GOAL))
"""All that can be filtered, besides goals and props."""
PROP: Final = f"^{model.PROP}.{{1,300}}$"
CITY: Final = "visit:city"

OPERATORS: Final = ("is", "is_not", "contains", "contains_not")
PATTERN_OPERATORS: Final = ("matches", "matches_not")
GOAL_OPERATORS: Final = ("is", "contains")
BEHAVIOUR: Final = ("has_done", "has_not_done")
DIRECTIONS: Final = ("asc", "desc")

_BLANK: Final[Mapping[str, str]] = {
    "visit:source": "Direct / None",
    "visit:referrer": "Direct / None",
    "visit:channel": "Direct",
    model.BOT: "(none)",
}
_REFUSED: Final = {
    "exit_rate": "exit rates are not counted",
    "total_revenue": "revenue is not recorded",
    "average_revenue": "revenue is not recorded",
    "visit:country_name": "ask for visit:country",
    "visit:region_name": "ask for visit:region",
    "visit:city_name": "ask for visit:city",
    "segment": "segments are not stored; give their filters",
}
"""Names of Plausible's that Footfall refuses, and why."""
_MAX_SHOWN: Final = 100
_ALIKE: Final = 0.8
"""How much two names have in common, of 1, if one is taken for the other misspelt."""


def is_column(name: str) -> bool:
    """Whether a name is a dimension that can be filtered; a goal is not among them."""
    return name in DIMENSIONS or re.fullmatch(PROP, name) is not None


def is_dimension(name: str) -> bool:
    return name in TIME or name == model.GOAL or is_column(name)


def blank(dimension: str) -> str:
    """What stands for an unknown value of a dimension, in answers and in filters."""
    return "(none)" if dimension.startswith(model.PROP) else _BLANK.get(dimension, "(not set)")


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """Why a name is refused: it is none, or one that Footfall does not have."""
    if isinstance(name, str) and name in _REFUSED:
        return f'Invalid {kind} "{name}": {_REFUSED[name]}'
    every = tuple(known)
    text = name[:_MAX_SHOWN] if isinstance(name, str) else repr(name)[:_MAX_SHOWN]
    near = difflib.get_close_matches(text, every, n=1, cutoff=_ALIKE)
    advice = f'did you mean "{near[0]}"?' if near else f"there are: {', '.join(every)}"
    return f'Invalid {kind} "{text}"; {advice}'
