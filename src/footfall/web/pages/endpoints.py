"""The paths of the pages."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Final
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from footfall.database.reports import Reports
from footfall.entry import MAX_SITE_ID
from footfall.problem import Problem, phrase
from footfall.status.service import ServiceStatus
from footfall.web.desk import Desk
from footfall.web.pages import assets, lists, overview, session, system
from footfall.web.pages.address import view_of
from footfall.web.pages.dashboard import Dashboard
from footfall.web.pages.live import Live
from footfall.web.pages.rendering import render
from footfall.web.pages.site import Site
from footfall.web.query_api.date_range import local
from footfall.web.query_api.goals import Sites

_HEADERS: Final = {"Content-Security-Policy": assets.CONTENT_SECURITY_POLICY}
_KEPT: Final = {"Cache-Control": "public, max-age=31536000, immutable"}


def routes(  # noqa: C901 - a function a path
    reports: Reports,
    sites: Sites,
    status: ServiceStatus,
    desk: Desk,
    collector_url: str | None,
    token: str | None,
) -> list[Route]:
    """All of them.

    Args:
        reports: reads the figures.
        sites: what is known of each site.
        status: answers for the state of the service.
        desk: has the pages made.
        collector_url: where browsers reach the collector; None: where they reach these pages.
        token: what people log in with; None if it is not set.
    """
    live = Live(reports, desk, _now)

    async def streamed(
        make: Callable[[], Iterator[str]], media_type: str = "text/html", headers: Mapping[str, str] | None = None
    ) -> Response:
        """An answer that is sent as it is made. What goes wrong with its first part is still answered as an error."""
        parts = await desk.made(make)
        first = await desk.made(partial(next, parts))

        async def all_parts() -> AsyncIterator[str]:
            part = first
            while part:
                yield part
                part = await desk.made(partial(next, parts, ""))

        return StreamingResponse(all_parts(), media_type=media_type, headers={**_HEADERS, **(headers or {})})

    def site_of(site_id: str, first: datetime | None) -> Site:
        zone = sites.zone(site_id)
        first_day = None if first is None else local(first, zone).date()
        return Site(site_id, zone, _now(), first_day, tuple(sites.goals(site_id)))

    def asked(site_id: str) -> Callable[[], Site]:
        if len(site_id) > MAX_SITE_ID:
            raise Problem(404, f"A site id has at most {MAX_SITE_ID} characters.")
        return lambda: site_of(site_id, reports.first_events(site_id).get(site_id))

    async def home(request: Request) -> Response:
        def make() -> Iterator[str]:
            first = reports.first_events()
            known = {site_id: site_of(site_id, first.get(site_id)) for site_id in (*sites.declared, *first)}
            return overview.parts(known, reports, snippet_host=(collector_url or str(request.base_url)).rstrip("/"))

        return await streamed(make)

    async def of_a_site(request: Request) -> Response:
        # Not the decoded path: a site id may have a slash in it.
        match [unquote(part) for part in request.scope["raw_path"].decode("latin-1").split("/")[2:]]:
            case [site_id] if site_id:
                return await dashboard(request, site_id)
            case [site_id, "lists", name]:
                return await whole_list(request, site_id, name)
            case [site_id, "live"]:
                return _stream(live.visitors(site_id))
        raise Problem(404, "There is no such page; a site's page is at /sites/ and its id, percent-encoded.")

    async def dashboard(request: Request, site_id: str) -> Response:
        view = view_of(request.query_params.multi_items())
        make_site = asked(site_id)
        return await streamed(lambda: Dashboard(make_site(), view, reports).parts())

    async def whole_list(request: Request, site_id: str, file: str) -> Response:
        name, _, suffix = file.partition(".")
        tab = lists.tab_of(name)
        view = view_of(request.query_params.multi_items(), besides=lists.NAMES)
        wanted = lists.list_view_of(request.query_params, tab)
        make_site = asked(site_id)
        if suffix == "csv":
            headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
            return await streamed(lambda: lists.as_csv(make_site(), view, tab, wanted, reports), "text/csv", headers)
        if suffix:
            raise Problem(404, f"A list is a page, or {name}.csv.")
        return HTMLResponse(
            await desk.made(lambda: lists.page(make_site(), view, tab, wanted, reports)), headers=_HEADERS
        )

    async def state(_: Request) -> Response:
        return HTMLResponse(
            await desk.made(partial(system.page, status, has_login=token is not None)), headers=_HEADERS
        )

    async def first(_: Request) -> Response:
        return _stream(live.first())

    return [
        Route("/", _for_people(home), methods=["GET"]),
        Route("/first", first, methods=["GET"]),
        Route("/system", _for_people(state), methods=["GET"]),
        Route("/sites/{rest:path}", _for_people(of_a_site), methods=["GET"]),
        session.route(token),
        *map(_asset, assets.MEDIA_TYPES),
    ]


def _for_people(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that tells what is wrong on a page, unless a program asks."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Problem as problem:
            if "text/html" not in request.headers.get("accept", ""):
                raise
            page = render(
                "problem.html", title=phrase(problem.status), detail=problem.detail, errors=problem.field_errors
            )
            return HTMLResponse(page + render("end.html", zone="UTC"), problem.status, _HEADERS)

    return answer


def _stream(messages: AsyncIterator[bytes]) -> Response:
    """Server-sent events, which nginx is told to pass on at once."""
    return StreamingResponse(messages, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _asset(name: str) -> Route:
    response = Response(assets.content_of(name), media_type=assets.MEDIA_TYPES[name], headers=_KEPT)
    return Route(assets.address_of(name), response, methods=["GET"])
