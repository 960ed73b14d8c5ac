"""The paths of the query API."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from footfall.database.reports import Reports
from footfall.problem import Problem
from footfall.web.desk import Desk
from footfall.web.query_api import legacy
from footfall.web.query_api.answer import QueryApi
from footfall.web.query_api.funnel import answer_funnel, check_funnel
from footfall.web.query_api.goals import Sites
from footfall.web.query_api.listing import list_sites
from footfall.web.query_api.request import check, decode
from footfall.web.query_api.schema import SCHEMA

MAX_BODY_BYTES: Final = 1 << 20

_LEGACY: Final[dict[str, Callable[[QueryApi, legacy.Parameters], Any]]] = {
    "realtime/visitors": legacy.realtime,
    "aggregate": legacy.aggregate,
    "timeseries": legacy.timeseries,
    "breakdown": legacy.breakdown,
}


def routes(reports: Reports, sites: Sites, desk: Desk) -> list[Route]:
    """All of them.

    Args:
        reports: reads the figures.
        sites: what is known of each site.
        desk: has the answers made.
    """
    api = QueryApi(reports, sites)

    async def query(request: Request) -> Response:
        asked = check(decode(await _body(request)))
        return _json(await desk.made(partial(api.answer, asked)))

    def of_legacy(name: str) -> Route:
        async def answer(request: Request) -> Response:
            given = legacy.parameters(name, request.query_params.multi_items())
            return _json(await desk.made(partial(_LEGACY[name], api, given)))

        return Route(f"/api/v1/stats/{name}", answer, methods=["GET"])

    async def funnel(request: Request) -> Response:
        asked = check_funnel(decode(await _body(request)))
        return _json(await desk.made(partial(answer_funnel, api, asked)))

    async def listing(_: Request) -> Response:
        return _json(await desk.made(partial(list_sites, reports, sites)))

    return [
        Route("/api/v1/sites", listing, methods=["GET"]),
        Route("/api/v2/funnel", funnel, methods=["POST"]),
        Route("/api/v2/query", query, methods=["POST"]),
        Route("/api/v2/query/schema.json", _json(SCHEMA, "application/schema+json"), methods=["GET"]),
        *map(of_legacy, _LEGACY),
    ]


async def _body(request: Request) -> bytes:
    parts = bytearray()
    async for part in request.stream():
        parts += part
        if len(parts) > MAX_BODY_BYTES:
            raise Problem(413, f"The body is larger than {MAX_BODY_BYTES} bytes.")
    return bytes(parts)


def _json(answer: object, media_type: str = "application/json") -> Response:
    return Response(msgspec.json.encode(answer), media_type=media_type)
