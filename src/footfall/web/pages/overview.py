"""The first page: every site with who is there now, and the last days; or, without any, how to begin."""

from collections.abc import Iterator, Mapping
from typing import Final

from footfall.database.buckets import Interval
from footfall.database.dimensions import TIME
from footfall.database.query import Query
from footfall.database.reports import Reports
from footfall.web.pages.chart import Series, chart_of
from footfall.web.pages.rendering import render
from footfall.web.pages.site import LIVE, Site, figure_of, path_of
from footfall.web.pages.span import Period, of_period

MAX_SITES: Final = 60
"""More are only named, with a link to each."""
_DAYS: Final = Period.DAYS_28


def parts(sites: Mapping[str, Site], reports: Reports, *, snippet_host: str) -> Iterator[str]:
    """The page, in parts that follow each other.

    Args:
        sites: by id, in their order.
        reports: reads the figures.
        snippet_host: the address under which browsers reach the collector.

    Raises:
        TimeoutError, OSError: as `Reports.answer`.
    """
    if not sites:
        yield render("welcome.html", host=snippet_host) + render("end.html", zone="UTC")
        return
    shown = dict(list(sites.items())[:MAX_SITES])
    yield render("overview.html", count=len(sites))
    for site in shown.values():
        yield render("card.html", **_card(site, reports))
    others = [(site_id, path_of(site_id)) for site_id in sites if site_id not in shown]
    yield render("overview_end.html", others=others)
    yield render("end.html", zone="the time zone of each site")


def _card(site: Site, reports: Reports) -> dict[str, object]:
    span = of_period(_DAYS, site.today, site.zone)
    starts = span.buckets(Interval.DAY)
    here, now, series = reports.answer(
        [
            Query(site_id=site.site_id, metrics=("visitors",), start=site.now - LIVE),
            Query(site_id=site.site_id, metrics=("visitors",), start=starts[-1], end=span.end),
            Query(
                site_id=site.site_id,
                metrics=("visitors",),
                dimensions=(TIME,),
                start=span.start,
                end=span.end,
                buckets=starts,
            ),
        ]
    )
    by_day = {row.dimensions[0]: row.metrics[0] for row in series}
    chart = chart_of(
        "visitors",
        Series(starts, tuple(by_day.get(start, 0) for start in starts)),
        None,
        interval=Interval.DAY,
        zone=site.zone,
        end=span.end,
        present=site.now,
    )
    return {
        "site": site.site_id,
        "href": site.path,
        "live": here[0].metrics[0],
        "today": figure_of(now[0].metrics[0], "visitors"),
        "chart": chart,
    }
