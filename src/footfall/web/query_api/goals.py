"""The goals and funnels of the settings, for queries."""

from collections.abc import Iterator, Mapping, Sequence
from zoneinfo import ZoneInfo

from footfall.database.dimensions import NAME, PAGE, PROP
from footfall.database.filter import All, Filter, Goal, Operator, Where
from footfall.entry import PAGE_VIEW
from footfall.sites import FunnelSettings, GoalSettings, SiteSettings
from footfall.web.query_api.filters import wildcard_pattern


class Sites:
    """What the settings say about each site, as queries need it.

    Args:
        declared: `sites`.
        time_zone: `reporting.time_zone`, of a site without one of its own.
    """

    def __init__(self, declared: Mapping[str, SiteSettings], time_zone: str) -> None:
        self.declared = declared
        self._zone = ZoneInfo(time_zone)
        self._zones = {site_id: ZoneInfo(site.time_zone) for site_id, site in declared.items() if site.time_zone}
        self._goals = {site_id: tuple(map(_goal, site.goals)) for site_id, site in declared.items()}

    def zone(self, site_id: str) -> ZoneInfo:
        """The time zone whose days a site's reports have."""
        return self._zones.get(site_id, self._zone)

    def goals(self, site_id: str) -> Sequence[Goal]:
        return self._goals.get(site_id, ())

    def funnels(self, site_id: str) -> Sequence[FunnelSettings]:
        site = self.declared.get(site_id)
        return () if site is None else site.funnels


def _goal(settings: GoalSettings) -> Goal:
    return Goal(settings.name, All(tuple(_conditions(settings))))


def _conditions(settings: GoalSettings) -> Iterator[Filter]:
    if settings.page is not None:
        yield Where(NAME, Operator.IS, (PAGE_VIEW,))
        if "*" in settings.page:
            yield Where(PAGE, Operator.MATCHES, (wildcard_pattern(settings.page),))
        else:
            yield Where(PAGE, Operator.IS, (settings.page,))
    if settings.event is not None:
        yield Where(NAME, Operator.IS, (settings.event,))
    for name, value in settings.props.items():
        yield Where(f"{PROP}{name}", Operator.IS, (value,))
