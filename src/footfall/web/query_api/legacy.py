"""Version 1 of Plausible's Stats API, which most of its published clients speak: parameters in, version 2 asked.

A parameter that is not known is refused, and so is what version 2 refuses.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from footfall.problem import Problem
from footfall.web.query_api import date_range, names
from footfall.web.query_api.answer import Number, QueryApi
from footfall.web.query_api.comparison import NOTHING, change
from footfall.web.query_api.filters import wildcard_pattern
from footfall.web.query_api.request import Comparison, Include, Request, check, refused, site_id

MAX_LIMIT: Final = 1_000
DEFAULT_LIMIT: Final = 100
PERIODS: Final = ("day", "7d", "28d", "30d", "90d", "91d", "month", "6mo", "12mo", "year", "custom")
INTERVALS: Final[Mapping[str, str]] = {"hour": "time:hour", "date": "time:day", "week": "time:week"} | {
    "day": "time:day",
    "month": "time:month",
}
COMMON: Final = ("site_id", "period", "date", "metrics", "filters", "with_imported")
PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "realtime/visitors": ("site_id", "filters"),
    "aggregate": (*COMMON, "compare"),
    "timeseries": (*COMMON, "interval"),
    "breakdown": (*COMMON, "property", "limit", "page"),
}
"""What each endpoint takes."""

_DAY = timedelta(days=1)
_LIVE: Final = timedelta(minutes=5)
_EXPRESSION: Final = re.compile(r"([^=!~]+)(==|!=)(.*)", re.DOTALL)
_SEPARATOR: Final = re.compile(r"(?<!\\)\|")

Parameters = Mapping[str, str]


def parameters(endpoint: str, given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The parameters of a request by name.

    Args:
        endpoint: one of `PARAMETERS`.
        given: decoded, in the order they came.

    Raises:
        Problem: 400, one is unknown, given twice, or the site is missing.
    """
    found: dict[str, str] = {}
    known = PARAMETERS[endpoint]
    for name, value in given:
        if name not in known:
            raise refused(name[:100], f"there is no such parameter; there are: {', '.join(known)}")
        if name in found:
            raise refused(name, "is given more than once")
        found[name] = value
    site_id("site_id", found.get("site_id"))
    return found


def realtime(api: QueryApi, given: Parameters) -> int:
    """How many visitors there were in the last five minutes."""
    now = api.now()
    moments = [f"{moment.isoformat(timespec='seconds')}Z" for moment in (now - _LIVE, now)]
    answer = api.answer(_request(given, (moments[0], moments[1]), metrics=("visitors",)))
    value = answer.results[0].metrics[0]
    assert isinstance(value, int)
    return value


def aggregate(api: QueryApi, given: Parameters) -> dict[str, Any]:
    """Each metric over the whole period, and how it has changed since the one before."""
    compare = given.get("compare")
    if compare not in {None, "previous_period"}:
        raise refused("compare", 'must be "previous_period"')
    request = _request(given, _dates(api, given))
    if compare is not None:
        request = replace(request, include=Include(comparisons=Comparison("previous_period")))
    [row] = api.answer(request).results
    results: dict[str, dict[str, Number]] = {
        name: {"value": value} for name, value in zip(request.metrics, row.metrics, strict=True)
    }
    if row.comparison:
        for name, old, new in zip(request.metrics, row.comparison.metrics, row.metrics, strict=True):
            results[name]["change"] = change(name, old, new)
    return {"results": results}


def timeseries(api: QueryApi, given: Parameters) -> dict[str, Any]:
    """Each metric over time: every hour, day or month has its row."""
    period = given.get("period", "30d")
    interval = given.get("interval")
    if interval is None:
        interval = "hour" if period == "day" else "month" if period in {"6mo", "12mo", "year"} else "date"
    if interval not in INTERVALS:
        raise refused("interval", f"must be one of {', '.join(INTERVALS)}")
    request = _request(given, _dates(api, given), dimensions=(INTERVALS[interval],))
    answer = api.answer(replace(request, include=Include(time_labels=True)))
    by_label = {row.dimensions[0]: row.metrics for row in answer.results}
    nothing = [NOTHING[name] for name in request.metrics]
    labels = answer.meta.time_labels
    assert labels
    return {
        "results": [
            {"date": label, **dict(zip(request.metrics, by_label.get(label, nothing), strict=True))} for label in labels
        ]
    }


def breakdown(api: QueryApi, given: Parameters) -> dict[str, Any]:
    """Each metric by the values of a property."""
    prop = given.get("property")
    if prop is None:
        raise refused("property", "is required")
    limit = _number(given, "limit", DEFAULT_LIMIT, MAX_LIMIT)
    page = _number(given, "page", 1, 1_000_000)
    if prop in names.TIME:
        raise refused("property", f'"{prop}" is no property; timeseries tells times apart')
    request = _request(given, _dates(api, given), dimensions=(prop,))
    answer = api.answer(replace(request, limit=limit, offset=(page - 1) * limit))
    name = prop.removeprefix("event:").removeprefix("visit:").removeprefix("props:")
    return {
        "results": [
            {name: row.dimensions[0], **dict(zip(request.metrics, row.metrics, strict=True))} for row in answer.results
        ]
    }


def _request(
    given: Parameters,
    dates: tuple[str, str],
    *,
    dimensions: tuple[str, ...] = (),
    metrics: tuple[str, ...] | None = None,
) -> Request:
    """The request of version 2, checked as if it had been sent."""
    asked = metrics or tuple(name.strip() for name in given.get("metrics", "visitors").split(","))
    if given.get("with_imported", "false") not in {"true", "false"}:
        raise refused("with_imported", "must be true or false")
    document = {
        "site_id": given["site_id"],
        "metrics": list(asked),
        "date_range": list(dates),
        "dimensions": list(dimensions),
        "filters": _filters(given.get("filters", "")),
    }
    try:
        return check(document)
    except Problem as problem:
        raise _renamed(problem) from None


def _renamed(problem: Problem) -> Problem:
    """A refusal that names parameters, not members of a body."""
    place, _, reason = problem.detail.partition(": ")
    name = place.removeprefix("#/").partition("/")[0]
    return refused({"dimensions": "property", "date_range": "date"}.get(name, name), reason)


def _dates(api: QueryApi, given: Parameters) -> tuple[str, str]:
    """The first and the last day of the period.

    A number of days ends the day before `date`, which is today if none is given; a number of months ends with the month
    of `date`.
    """
    period = given.get("period", "30d")
    if period not in PERIODS:
        raise refused("period", f'Invalid period "{period[:100]}"; there are: {", ".join(PERIODS)}')
    zone: ZoneInfo = api.zone(given["site_id"])
    text = given.get("date")
    if period == "custom":
        first, comma, last = (text or "").partition(",")
        if not comma or not all(re.fullmatch(date_range.DATE, day.strip()) for day in (first, last)):
            raise refused("date", "must be two days, as in 2025-11-01,2025-11-30")
        return _checked(first.strip(), last.strip(), zone)
    day = api.today(zone)
    if text not in {None, "today"}:
        assert text is not None
        if not re.fullmatch(date_range.DATE, text):
            raise refused("date", "must be a day, as in 2025-11-12")
        _checked(text, text, zone)
        day = date.fromisoformat(text)
    try:
        first_day, last_day = _range(period, day)
    except (ValueError, OverflowError):
        raise refused("date", "lies too far in the past") from None
    return _checked(first_day.isoformat(), last_day.isoformat(), zone)


def _range(period: str, day: date) -> tuple[date, date]:
    match period:
        case "day":
            return day, day
        case "month":
            return day.replace(day=1), date_range.month_end(day)
        case "year":
            return day.replace(month=1, day=1), day.replace(month=12, day=31)
    if period.endswith("mo"):
        return date_range.months_before(day, int(period.removesuffix("mo")) - 1), date_range.month_end(day)
    return day - int(period.removesuffix("d")) * _DAY, day - _DAY


def _checked(first: str, last: str, zone: ZoneInfo) -> tuple[str, str]:
    try:
        date_range.between(first, last, zone)
    except ValueError as error:
        raise refused("date", str(error)) from None
    return first, last


def _filters(text: str) -> list[Any]:
    """Expressions joined by semicolons, as in `visit:source==Google|Bing;event:page!=/blog/*`, for version 2."""
    return [_filter(expression.strip()) for expression in text.split(";") if expression.strip()]


def _filter(expression: str) -> list[Any]:
    parts = _EXPRESSION.fullmatch(expression)
    if parts is None:
        raise refused("filters", f'"{expression[:100]}" must be property==value or property!=value')
    dimension, operator = parts[1].strip(), parts[2]
    values = [value.replace("\\|", "|") for value in _SEPARATOR.split(parts[3].strip())]
    negation = "_not" if operator == "!=" else ""
    if any("*" in value for value in values) and dimension != "event:goal":
        return [f"matches{negation}", dimension, [wildcard_pattern(value) for value in values]]
    return [f"is{negation}", dimension, values]


def _number(given: Parameters, name: str, default: int, most: int) -> int:
    text = given.get(name, str(default))
    if not re.fullmatch("[0-9]{1,9}", text) or not 1 <= int(text) <= most:
        raise refused(name, f"must be a whole number from 1 to {most}")
    return int(text)
