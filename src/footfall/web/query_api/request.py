"""What `POST /api/v2/query` is asked: the body, checked member by member.

`schema.SCHEMA` describes the same, and a test holds the two together. What a schema can't say (a day that the calendar
does not have, a metric that does not go with a dimension) is checked when the request is put into queries.
"""

import re
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from footfall.database.dimensions import GOAL
from footfall.database.filter import MAX_PATTERN
from footfall.entry import MAX_SITE_ID
from footfall.problem import Problem
from footfall.web.query_api import date_range, names
from footfall.wording import reason_against_json

MAX_LIMIT: Final = 10_000
MAX_CLAUSES: Final = 1_000
"""Values of one filter."""
MAX_CLAUSE: Final = 2_048
"""Characters of one."""
MAX_FILTERS: Final = 100
"""Members of one list of filters."""
MAX_TIME_ZONE: Final = 64

MODES: Final = ("previous_period", "year_over_year", "custom")

Json = Any
"""What JSON can hold."""


class Comparison(Struct, frozen=True, omit_defaults=True):
    """The time that a period is compared with.

    Attributes:
        mode: one of `MODES`.
        dates: for `custom`, from when to when.
        matches_weekday: it begins on the same day of the week.
    """

    mode: str
    dates: tuple[str, str] | None = field(name="date_range", default=None)
    matches_weekday: bool = field(name="match_day_of_week", default=False)


class Include(Struct, frozen=True, omit_defaults=True):
    """What an answer is to have besides its rows."""

    imports: bool = False
    time_labels: bool = False
    total_rows: bool = False
    comparisons: Comparison | None = None


class Request(Struct, frozen=True, kw_only=True):
    """A request in which every part by itself is what it may be.

    Attributes:
        filters: as they were sent; all have to hold.
        time_zone: Footfall's own addition; None for the site's.
    """

    site_id: str
    metrics: tuple[str, ...]
    date_range: str | tuple[str, str]
    dimensions: tuple[str, ...] = ()
    filters: tuple[Json, ...] = ()
    order_by: tuple[tuple[str, str], ...] = ()
    include: Include = Include()
    limit: int = MAX_LIMIT
    offset: int = 0
    time_zone: str | None = None


def refused(place: str, reason: str) -> Problem:
    """The answer to a request of which one part is not what it may be.

    Args:
        place: where in the body, as a fragment that points there (RFC 6901), or the name of a parameter.
        reason: what is wrong.
    """
    return Problem(400, f"{place}: {reason}")


def decode(body: bytes) -> Json:
    """A body as JSON.

    Raises:
        Problem: 400, it is not JSON.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"The body is not JSON: {reason_against_json(error, body)}.") from None


def check(document: Json) -> Request:
    """A request made of JSON.

    Raises:
        Problem: 400, which names what is missing, unknown or wrong, the first of it.
    """
    given = members("#", document, known=tuple(_READERS), required=("site_id", "metrics", "date_range"))
    values: dict[str, Any] = {name: _READERS[name](f"#/{name}", value) for name, value in given.items()}
    limit, offset = values.pop("pagination", (MAX_LIMIT, 0))
    return Request(**values, limit=limit, offset=offset)


def site_id(place: str, value: Json) -> str:
    """A site's id.

    Raises:
        Problem: 400, it is none.
    """
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_SITE_ID:
        raise refused(place, f"must be a text of 1 to {MAX_SITE_ID} characters")
    return value


def dates(place: str, value: Json) -> str | tuple[str, str]:
    """A range of dates; `date_range` says whether the calendar has it.

    Raises:
        Problem: 400, it is none.
    """
    match value:
        case str() if value in date_range.NAMED or re.fullmatch(f"{date_range.DAYS}|{date_range.MONTHS}", value):
            return value
        case [str() as first, str() as last]:
            for pattern in (date_range.DATE, date_range.MOMENT):
                if re.fullmatch(pattern, first) and re.fullmatch(pattern, last):
                    return first, last
    shown = msgspec.json.encode(value).decode()
    raise refused(
        place,
        f"Invalid date range {shown[:100]}; there are: {', '.join(date_range.NAMED)}, a number of days as in 7d (at "
        "most 5000d) or of months as in 6mo (at most 100mo), and lists of two days, as in 2025-11-12, or of two "
        "moments, as in 2025-11-12T09:30:00+01:00",
    )


def filters(place: str, value: Json) -> tuple[Json, ...]:
    """A list of filters, each checked, as it came.

    Raises:
        Problem: 400, one is none.
    """
    found = _list(place, value, most=MAX_FILTERS)
    for index, one in enumerate(found):
        _filter(f"{place}/{index}", one)
    return tuple(found)


def time_zone(place: str, value: Json) -> str:
    """The name of a time zone, which may not be there.

    Raises:
        Problem: 400, it is none.
    """
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TIME_ZONE:
        raise refused(place, "must be the name of a time zone, as in Europe/Berlin")
    return value


def _metrics(place: str, value: Json) -> tuple[str, ...]:
    found = _list(place, value, least=1)
    for index, name in enumerate(found):
        if not isinstance(name, str) or name not in names.METRICS:
            raise refused(f"{place}/{index}", names.unknown("metric", name, names.METRICS))
    return _unique(place, found)


def _dimensions(place: str, value: Json) -> tuple[str, ...]:
    found = _list(place, value)
    for index, name in enumerate(found):
        _dimension(f"{place}/{index}", name)
    return _unique(place, found)


def _dimension(place: str, name: Json) -> None:
    if not isinstance(name, str) or not names.is_dimension(name):
        known = (*names.DIMENSIONS, GOAL, "event:props:NAME", *names.TIME)
        raise refused(place, names.unknown("dimension", name, known))


def _filter(place: str, value: Json, *, of_behaviour: bool = False) -> None:
    known = (*names.OPERATORS, *names.PATTERN_OPERATORS, "and", "or", "not", *names.BEHAVIOUR)
    match value:
        case ["and" | "or", inner]:
            found = _list(f"{place}/1", inner, least=1, most=MAX_FILTERS)
            for index, one in enumerate(found):
                _filter(f"{place}/1/{index}", one, of_behaviour=of_behaviour)
        case ["not", inner]:
            _filter(f"{place}/1", inner, of_behaviour=of_behaviour)
        case ["has_done" | "has_not_done", inner] if not of_behaviour:
            _filter(f"{place}/1", inner, of_behaviour=True)
        case ["has_done" | "has_not_done", _]:
            raise refused(place, "has_done and has_not_done can't hold one another")
        case [str() as operator, dimension, clauses, *modifiers] if operator in known:
            _leaf(place, operator, dimension, clauses, modifiers, of_behaviour=of_behaviour)
        case [str() as operator, *_] if operator not in known:
            raise refused(f"{place}/0", names.unknown("operator", operator, known))
        case _:
            raise refused(
                place,
                'must be a filter: [operator, dimension, [value, ...]], ["and" or "or", [filter, ...]], '
                '["not", filter] or ["has_done" or "has_not_done", filter]',
            )


def _leaf(
    place: str, operator: str, dimension: Json, clauses: Json, modifiers: list[Json], *, of_behaviour: bool
) -> None:
    if operator not in {*names.OPERATORS, *names.PATTERN_OPERATORS}:
        raise refused(place, f'"{operator}" takes one member')
    _check_filtered(place, operator, dimension, of_behaviour=of_behaviour)
    is_pattern = operator in names.PATTERN_OPERATORS
    most = MAX_PATTERN if is_pattern else MAX_CLAUSE
    for index, clause in enumerate(_list(f"{place}/2", clauses, least=1, most=MAX_CLAUSES)):
        is_number = dimension == names.CITY and isinstance(clause, int) and not isinstance(clause, bool)
        if not is_number and not (isinstance(clause, str) and len(clause) <= most):
            raise refused(f"{place}/2/{index}", f"must be a text of at most {most} characters")
    if modifiers:
        if is_pattern or len(modifiers) > 1:
            raise refused(f"{place}/3", f'"{operator}" takes {"no" if is_pattern else "one object of"} modifiers')
        given = members(f"{place}/3", modifiers[0], known=("case_sensitive",))
        _booleans(f"{place}/3", given)


def _check_filtered(place: str, operator: str, dimension: Json, *, of_behaviour: bool) -> None:
    if isinstance(dimension, str) and dimension in names.TIME:
        raise refused(f"{place}/1", f"{dimension} can't be filtered; date_range says which time counts")
    if dimension == GOAL:
        if operator not in names.GOAL_OPERATORS:
            raise refused(f"{place}/0", f'"{GOAL}" takes {" or ".join(names.GOAL_OPERATORS)}, not "{operator}"')
    elif not isinstance(dimension, str) or not names.is_column(dimension):
        known = (*names.DIMENSIONS, GOAL, "event:props:NAME")
        raise refused(f"{place}/1", names.unknown("dimension", dimension, known))
    elif of_behaviour and not dimension.startswith("event:"):
        raise refused(f"{place}/1", f'has_done and has_not_done take dimensions of events, not "{dimension}"')


def _order_by(place: str, value: Json) -> tuple[tuple[str, str], ...]:
    found = []
    for index, one in enumerate(_list(place, value, most=MAX_FILTERS)):
        match one:
            case [str() as name, "asc" | "desc" as direction] if name in names.METRICS or names.is_dimension(name):
                found.append((name, direction))
            case _:
                raise refused(f"{place}/{index}", 'must be [metric or dimension, "asc" or "desc"]')
    return tuple(found)


def _include(place: str, value: Json) -> Include:
    given = members(place, value, known=("imports", "time_labels", "total_rows", "comparisons"))
    comparisons = given.pop("comparisons", None)
    _booleans(place, given)
    return Include(
        **given,
        comparisons=None if comparisons is None else _comparison(f"{place}/comparisons", comparisons),
    )


def _comparison(place: str, value: Json) -> Comparison:
    given = members(place, value, known=("mode", "date_range", "match_day_of_week"), required=("mode",))
    mode = given["mode"]
    if mode not in MODES:
        raise refused(f"{place}/mode", names.unknown("mode", mode, MODES))
    if ("date_range" in given) != (mode == "custom"):
        raise refused(f"{place}/date_range", 'goes with the mode "custom", which needs it')
    matches_weekday = given.get("match_day_of_week", False)
    _booleans(place, {"match_day_of_week": matches_weekday})
    if mode != "custom":
        return Comparison(mode, None, matches_weekday)
    compared = dates(f"{place}/date_range", given["date_range"])
    if isinstance(compared, str):
        raise refused(f"{place}/date_range", "must be a list of two days or of two moments")
    return Comparison(mode, compared, matches_weekday)


def _pagination(place: str, value: Json) -> tuple[int, int]:
    given = members(place, value, known=("limit", "offset"))
    limit = given.get("limit", MAX_LIMIT)
    offset = given.get("offset", 0)
    if not _is_whole(limit) or not 1 <= limit <= MAX_LIMIT:
        raise refused(f"{place}/limit", f"must be a whole number from 1 to {MAX_LIMIT}")
    if not _is_whole(offset) or not 0 <= offset < 1 << 31:
        raise refused(f"{place}/offset", "must be a whole number of at least 0")
    return limit, offset


_READERS: Final = {
    "site_id": site_id,
    "metrics": _metrics,
    "date_range": dates,
    "dimensions": _dimensions,
    "filters": filters,
    "order_by": _order_by,
    "include": _include,
    "pagination": _pagination,
    "time_zone": time_zone,
}
"""What reads each member of the body."""


def members(place: str, value: Json, *, known: tuple[str, ...], required: tuple[str, ...] = ()) -> dict[str, Json]:
    """The members of an object, by name.

    Raises:
        Problem: 400, it is none; or one is not known, or missing.
    """
    if not isinstance(value, dict):
        raise refused(place, "must be a JSON object")
    for name in required:
        if name not in value:
            raise refused(f"{place}/{name}", "is required")
    for name in value:
        if name not in known:
            raise refused(f"{place}/{name[:100]}", f"there is no such member; there are: {', '.join(known)}")
    return dict(value)


def _list(place: str, value: Json, *, least: int = 0, most: int | None = None) -> list[Json]:
    if not isinstance(value, list):
        raise refused(place, "must be a list")
    if len(value) < least:
        raise refused(place, "must not be empty")
    if most is not None and len(value) > most:
        raise refused(place, f"has more than {most} members")
    return value


def _booleans(place: str, members: dict[str, Json]) -> None:
    for name, value in members.items():
        if not isinstance(value, bool):
            raise refused(f"{place}/{name}", "must be true or false")


def _unique(place: str, found: list[str]) -> tuple[str, ...]:
    for index, name in enumerate(found):
        if name in found[:index]:
            raise refused(f"{place}/{index}", f'"{name}" is given twice')
    return tuple(found)


def _is_whole(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
