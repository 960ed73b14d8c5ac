"""The lists of a site's page: which there are, and what each is a list of."""

from typing import Final

from msgspec import Struct

from footfall.web.pages.address import DIMENSIONS, PROP


class Tab(Struct, frozen=True):
    """One list.

    Attributes:
        name: in the address.
        title: what a person reads.
        filter: the filter that a click on one of its rows adds.
        metrics: what each row tells, the one that it is sorted by first.
        blank: what a row without a value is called.
    """

    name: str
    title: str
    filter: str
    metrics: tuple[str, ...] = ("visitors",)
    blank: str = "Unknown"

    @property
    def dimension(self) -> str:
        """In a query."""
        if self.filter.startswith(PROP):
            return "event:props:" + self.filter.removeprefix(PROP)
        return DIMENSIONS[self.filter]


class Panel(Struct, frozen=True):
    """Lists of which one at a time is shown."""

    name: str
    title: str
    tabs: tuple[Tab, ...]

    def shown(self, tabs: tuple[str, ...]) -> Tab:
        """The list that an address asks for, else the first one."""
        return next((tab for tab in self.tabs if tab.name in tabs), self.tabs[0])


_PAGE_METRICS: Final = ("visitors", "pageviews")

PANELS: Final = (
    Panel(
        "sources",
        "Sources",
        (
            Tab("sources", "Sources", "source", blank="Direct / none"),
            Tab("channels", "Channels", "channel", blank="Direct"),
            Tab("referrers", "Referrers", "referrer", blank="Direct / none"),
            Tab("campaigns", "Campaigns", "utm_campaign", blank="(not set)"),
            Tab("media", "Media", "utm_medium", blank="(not set)"),
            Tab("campaign-sources", "UTM sources", "utm_source", blank="(not set)"),
        ),
    ),
    Panel(
        "pages",
        "Pages",
        (
            Tab("pages", "Pages", "page", _PAGE_METRICS, blank="(no page)"),
            Tab("entry-pages", "Entry pages", "entry", ("visitors", "visits"), blank="(no page)"),
            Tab("exit-pages", "Exit pages", "exit", ("visitors", "visits"), blank="(no page)"),
            Tab("hostnames", "Hostnames", "hostname", _PAGE_METRICS),
        ),
    ),
    Panel(
        "places",
        "Places",
        (
            Tab("countries", "Countries", "country"),
            Tab("regions", "Regions", "region"),
            Tab("cities", "Cities", "city"),
            Tab("languages", "Languages", "language"),
        ),
    ),
    Panel(
        "devices",
        "Devices",
        (
            Tab("browsers", "Browsers", "browser"),
            Tab("systems", "Systems", "os"),
            Tab("devices", "Devices", "device"),
            Tab("screens", "Screens", "screen"),
        ),
    ),
    Panel(
        "events",
        "Events",
        (
            Tab("goals", "Goals", "goal", ("visitors", "conversion_rate")),
            Tab("events", "Events", "event", ("visitors", "events")),
        ),
    ),
)

TABS: Final = {tab.name: tab for panel in PANELS for tab in panel.tabs}

METRIC_TITLES: Final = {
    "visitors": "Visitors",
    "visits": "Visits",
    "pageviews": "Views",
    "events": "Events",
    "views_per_visit": "Views per visit",
    "bounce_rate": "Bounce rate",
    "visit_duration": "Visit duration",
    "conversion_rate": "Conversion",
}
FIGURES: Final = ("visitors", "visits", "pageviews", "views_per_visit", "bounce_rate", "visit_duration")
"""What stands above the chart."""
LESS_IS_BETTER: Final = frozenset({"bounce_rate"})
