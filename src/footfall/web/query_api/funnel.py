"""Funnels: how many visitors reach each of a site's goals, one after the other."""

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from footfall.database.filter import All, HasDone
from footfall.database.query import Query
from footfall.problem import Problem
from footfall.web.query_api import request
from footfall.web.query_api.answer import QueryApi
from footfall.web.query_api.filters import compile_filters
from footfall.web.query_api.request import Json, refused

_MAX_NAME: Final = 128


class FunnelRequest(Struct, frozen=True, kw_only=True):
    """The body of `POST /api/v2/funnel`; its members are those of `request.Request`.

    Attributes:
        funnel: the name of one in the settings.
    """

    site_id: str
    funnel: str
    date_range: str | tuple[str, str]
    filters: list[Json] = []
    time_zone: str | None = None


class Step(Struct, frozen=True):
    """One step of a funnel.

    Attributes:
        goal: its name.
        visitors: who have taken it, and all steps before, in their order.
        conversion_rate: percent that those are of the visitors who took the first step.
        step_conversion_rate: percent that they are of those who took the step before.
        dropped: visitors who took the step before, and not this one.
    """

    goal: str
    visitors: int
    conversion_rate: float
    step_conversion_rate: float
    dropped: int


class FunnelAnswer(Struct, frozen=True):
    """The answer of `POST /api/v2/funnel`: the steps in their order, and the query as it was understood."""

    results: list[Step]
    query: dict[str, Any]


def check_funnel(document: Json) -> FunnelRequest:
    """A request made of JSON.

    Raises:
        Problem: 400, which names what is missing, unknown or wrong.
    """
    readers: dict[str, Callable[[str, Json], Any]] = {
        "site_id": request.site_id,
        "funnel": _name,
        "date_range": request.dates,
        "filters": lambda place, value: list(request.filters(place, value)),
        "time_zone": request.time_zone,
    }
    given = request.members("#", document, known=tuple(readers), required=("site_id", "funnel", "date_range"))
    return FunnelRequest(**{name: readers[name](f"#/{name}", value) for name, value in given.items()})


def answer_funnel(api: QueryApi, asked: FunnelRequest) -> FunnelAnswer:
    """How many visitors there are at each step.

    Raises:
        Problem: 400, the site has no such funnel, or parts of the request do not go together.
        TimeoutError, OSError: as `Reports.answer`.
    """
    sites = api.sites
    funnels = {funnel.name: funnel for funnel in sites.funnels(asked.site_id)}
    funnel = funnels.get(asked.funnel)
    if funnel is None:
        known = ", ".join(funnels) or "none; sites.SITE_ID.funnels in the settings has them"
        raise refused("#/funnel", f'Invalid funnel "{asked.funnel}"; there are: {known}')
    period = api.period(asked.site_id, asked.date_range, api.zone(asked.site_id, asked.time_zone))
    goals = sites.goals(asked.site_id)
    condition = compile_filters(asked.filters, goals)
    by_name = {goal.name: goal.filter for goal in goals}
    steps = [by_name[name] for name in funnel.steps]
    try:
        queries = [
            Query(
                site_id=asked.site_id,
                metrics=("visitors",),
                filter=All((condition, HasDone(steps[0], tuple(steps[1:count])))),
                start=period.start,
                end=period.end,
                goals=tuple(goals),
            )
            for count in range(1, len(steps) + 1)
        ]
    except ValueError as error:
        raise Problem(400, f"{error}.") from None
    visitors = [int(rows[0].metrics[0] or 0) for rows in api.rows(queries)]
    return FunnelAnswer(
        [_step(name, visitors, place) for place, name in enumerate(funnel.steps)],
        {
            "site_id": asked.site_id,
            "funnel": asked.funnel,
            "date_range": period.texts,
            "filters": asked.filters,
            "time_zone": period.zone.key,
        },
    )


def _step(goal: str, visitors: list[int], place: int) -> Step:
    here, before = visitors[place], visitors[max(place - 1, 0)]
    return Step(goal, here, _percent(here, visitors[0]), _percent(here, before), before - here)


def _percent(part: int, whole: int) -> float:
    return round(part * 100 / whole, 1) if whole else 0.0


def _name(place: str, value: Json) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= _MAX_NAME:
        raise refused(place, "must be the name of a funnel")
    return value
