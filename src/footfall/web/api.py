"""The reporting API: figures, the state of the service, and the documentation, over HTTP."""

from collections.abc import Mapping
from functools import partial
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from footfall.database.contents import Contents
from footfall.database.reports import Reports
from footfall.problem import Problem
from footfall.sites import SiteSettings
from footfall.status.access import ReportAccess
from footfall.status.service import PATHS as STATUS_PATHS
from footfall.status.service import ServiceStatus
from footfall.web import docs, openapi
from footfall.web.desk import Desk
from footfall.web.envelope import Envelope, on_http_exception, on_problem
from footfall.web.export import export_route
from footfall.web.pages import endpoints as pages
from footfall.web.query_api import endpoints
from footfall.web.query_api.goals import Sites
from footfall.web.stats import StatsAnswer, parse_query

LIMIT_S: Final = 15.0
"""How long a request may wait until others are done, and how long its queries may take after that."""

_KEPT = {"Cache-Control": "public, max-age=86400"}


def build_app(
    *,
    reports: Reports,
    contents: Contents,
    access: ReportAccess | None,
    status: ServiceStatus,
    sites: Mapping[str, SiteSettings] | None = None,
    time_zone: str = "UTC",
    public_url: str | None = None,
    collector_url: str | None = None,
    token: str | None = None,
    wait_s: float = LIMIT_S,
) -> Starlette:
    """The API with everything.

    Args:
        reports: reads the figures.
        contents: reads the events.
        access: decides who may ask; None behind a collector, which has decided already.
        status: answers for the state of the service.
        sites: what the settings say about each site.
        time_zone: whose days the reports of other sites have.
        public_url: where browsers reach the collector, if that is set.
        collector_url: the same, or the likeliest, if the collector is another service; None if it is this one.
        token: what people log in with; None if it is not set.
        wait_s: how many seconds a request may wait until others are done.

    Raises:
        FileNotFoundError: the files of `/docs` are not installed.
    """
    desk = Desk(wait_s)
    known = Sites(sites or {}, time_zone)
    queries = endpoints.routes(reports, known, desk)
    people = pages.routes(reports, known, status, desk, public_url or collector_url, token)
    data = [_stats(reports, desk), export_route(contents), *queries]
    return _app([*data, *people, *_status_routes(status), *_documentation(public_url)], access)


def build_monitor(*, access: ReportAccess, status: ServiceStatus) -> Starlette:
    """The API of a service without reports: its state alone."""
    return _app(_status_routes(status), access)


def _status_routes(status: ServiceStatus) -> list[Route]:
    async def tell(request: Request) -> Response:
        answer = await run_in_threadpool(status.answer, request.scope["path"])
        return Response(answer.body, answer.status, media_type=answer.content_type)

    return [Route(path, tell) for path in sorted(STATUS_PATHS)]


def _app(routes: list[Route], access: ReportAccess | None) -> Starlette:
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Envelope, access=access)],
        exception_handlers={Problem: on_problem, HTTPException: on_http_exception},
    )
    app.router.redirect_slashes = False
    return app


def _stats(reports: Reports, desk: Desk) -> Route:
    async def stats(request: Request) -> Response:
        query = parse_query(request.query_params.multi_items())
        make = partial(
            reports.stats,
            query.site_id,
            first=query.first_day,
            last=query.last_day,
            limit=query.limit,
            with_bots=query.bots == "include",
        )
        return _json(msgspec.json.encode(StatsAnswer.of(query, await desk.made(make))))

    return Route("/stats", stats)


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _documentation(public_url: str | None) -> list[Route]:
    """Answers that never change. A Starlette response is an ASGI application, so each is its own endpoint."""
    folder = docs.asset_folder()
    page_headers = {"Content-Security-Policy": docs.CONTENT_SECURITY_POLICY}
    answers = {
        "/openapi.json": _json(msgspec.json.encode(openapi.document(public_url))),
        "/docs": Response(docs.PAGE, headers=page_headers, media_type="text/html"),
        "/docs/init.js": Response(docs.INIT_SCRIPT, headers=_KEPT, media_type="text/javascript"),
    }
    for name, media_type in docs.ASSETS.items():
        answers[f"/docs/{name}"] = Response((folder / name).read_bytes(), headers=_KEPT, media_type=media_type)
    return [Route(path, answer, methods=["GET"]) for path, answer in answers.items()]
