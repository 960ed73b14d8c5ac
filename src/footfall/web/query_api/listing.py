"""The sites that there are: those in the settings, and those that events have come for."""

from msgspec import Struct

from footfall.database.reports import Reports
from footfall.web.query_api.goals import Sites


class Site(Struct, frozen=True):
    """A site, in the words of Plausible's Sites API, and what the settings say besides.

    Attributes:
        domain: its id.
        timezone: whose days its reports have.
        name: what people call it.
        group: what it is listed under; None for nothing.
        goals: the names of its goals.
        funnels: the names of its funnels.
        is_declared: it is in the settings.
        has_events: events have come for it.
    """

    domain: str
    timezone: str
    name: str
    group: str | None
    goals: list[str]
    funnels: list[str]
    is_declared: bool
    has_events: bool


class SiteList(Struct, frozen=True):
    """The answer of `GET /api/v1/sites`: declared sites in the order of the settings, then all others by their ids."""

    sites: list[Site]


def list_sites(reports: Reports, sites: Sites) -> SiteList:
    """All sites; raises as `Reports.answer`."""
    seen = reports.first_events()
    ids = list(dict.fromkeys([*sites.declared, *seen]))
    return SiteList([_site(site_id, sites, has_events=site_id in seen) for site_id in ids])


def _site(site_id: str, sites: Sites, *, has_events: bool) -> Site:
    declared = sites.declared.get(site_id)
    return Site(
        domain=site_id,
        timezone=sites.zone(site_id).key,
        name=(declared.name if declared else None) or site_id,
        group=declared.group if declared else None,
        goals=[goal.name for goal in sites.goals(site_id)],
        funnels=[funnel.name for funnel in sites.funnels(site_id)],
        is_declared=declared is not None,
        has_events=has_events,
    )
