"""A site, as its pages show it: its time, its address, and how rows and filters of it read."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Final
from urllib.parse import quote
from zoneinfo import ZoneInfo

from msgspec import Struct

from footfall.database.dimensions import NAME
from footfall.database.filter import All, Filter, Goal, Not, Operator, Where
from footfall.database.query import Figures
from footfall.entry import PAGE_VIEW
from footfall.web.pages import wording
from footfall.web.pages.address import DIMENSIONS, PROP, Match, View
from footfall.web.pages.panels import Tab
from footfall.web.pages.span import Period, Span, last_24_hours, of_all, of_days, of_period, today
from footfall.web.pages.wording import Value

LIVE: Final = timedelta(minutes=5)
"""Whoever sent something in this time is here now."""

_FILTER_TITLES: Final = {
    "utm_source": "UTM source",
    "utm_medium": "UTM medium",
    "utm_campaign": "Campaign",
    "utm_term": "UTM term",
    "utm_content": "UTM content",
    "os": "System",
    "os_version": "System version",
    "entry": "Entry page",
    "exit": "Exit page",
    "browser_version": "Browser version",
}


class Figure(Struct, frozen=True):
    """A number on the page.

    Attributes:
        value: for the script that writes it in the reader's language; empty for none.
        kind: how it is written.
        short: the number as people read it.
        whole: with all its digits.
    """

    value: str
    kind: str
    short: str
    whole: str


def figure_of(value: Value, metric: str) -> Figure:
    return Figure(
        "" if value is None else str(value),
        wording.kind_of(metric),
        wording.short(value, metric),
        wording.whole(value, metric),
    )


class Choice(Struct, frozen=True):
    """A link of a menu, and whether it leads to what is shown already."""

    title: str
    href: str
    is_chosen: bool = False
    key: str = ""


class Site(Struct, frozen=True):
    """Whose page it is.

    Attributes:
        site_id: which site.
        zone: its time zone.
        now: this moment, UTC without a zone.
        first_day: the day of its first event; None if it has none.
        goals: what it wants its visitors to do.
    """

    site_id: str
    zone: ZoneInfo
    now: datetime
    first_day: date | None
    goals: tuple[Goal, ...] = ()

    @property
    def path(self) -> str:
        return path_of(self.site_id)

    @property
    def today(self) -> date:
        return today(self.now, self.zone)

    def span_of(self, view: View) -> Span:
        """The stretch of time that a view is of."""
        day = view.day or self.today
        match view.period:
            case Period.HOURS_24:
                return last_24_hours(self.now, self.zone)
            case Period.ALL:
                return of_all(min(self.first_day or day, day), max(self.today, day), self.zone)
            case Period.CUSTOM:
                assert view.first is not None
                assert view.last is not None
                return of_days(view.first, view.last, self.zone)
            case _:
                return of_period(view.period, day, self.zone)


def path_of(site_id: str) -> str:
    """The path of a site's page."""
    return f"/sites/{quote(site_id, safe='')}"


def filter_of(view: View) -> Filter:
    """Which events count, as a query has it."""
    parts: list[Filter] = []
    for one in view.filters:
        operator = Operator.CONTAINS if one.match is Match.CONTAINS else Operator.IS
        where = Where(dimension_of(one.name), operator, one.values)
        parts.append(Not(where) if one.match is Match.IS_NOT else where)
    return All(tuple(parts))


def filter_of_list(view: View, tab: Tab) -> Filter:
    """Which events count in a list. In that of pages, only views do, unless somebody asks for an event."""
    condition = filter_of(view)
    if tab.filter != "page" or view.is_filtered_by("event"):
        return condition
    return All((condition, Where(NAME, Operator.IS, (PAGE_VIEW,))))


def dimension_of(name: str) -> str:
    """The dimension that a filter's name stands for."""
    return f"event:props:{name.removeprefix(PROP)}" if name.startswith(PROP) else DIMENSIONS[name]


def row_of(site: Site, view: View, tab: Tab, row: Figures, first: Figures, metrics: Sequence[str]) -> dict[str, object]:
    """A row of a list, for `row.html`; `first` is the list's first one, which has the longest bar."""
    text = str(row.dimensions[0])
    href = "" if view.is_filtered_by(tab.filter) else site.path + view.with_filter(tab.filter, text).query
    return {
        "title": text or tab.blank,
        "href": href,
        "share": round(min(100, 100 * (row.metrics[0] or 0) / (first.metrics[0] or 1)), 2),
        "figures": [figure_of(figure, metric) for figure, metric in zip(row.metrics, metrics, strict=True)],
    }


def filter_title(name: str) -> str:
    """What a filter is called."""
    if name.startswith(PROP):
        return name.removeprefix(PROP)
    return _FILTER_TITLES.get(name, name.capitalize())


def span_title(span: Span, day: date) -> str:  # noqa: PLR0911 - a title a period
    """What a span is called, on the day `day`."""
    first, last = span.first, span.last
    match span.period:
        case Period.DAY:
            if last == day:
                return "Today"
            return "Yesterday" if last == day - timedelta(days=1) else _day(last, day)
        case Period.HOURS_24:
            return "Last 24 hours"
        case Period.DAYS_7 | Period.DAYS_28 | Period.DAYS_91 if last == day:
            return f"Last {(last - first).days + 1} days"
        case Period.MONTH:
            return f"{last:%B %Y}"
        case Period.YEAR:
            return f"{last.year}"
        case Period.ALL:
            return "All time"
        case _:
            return _day(first, day) if first == last else f"{_day(first, last)} \N{EN DASH} {_day(last, day)}"


def _day(day: date, near: date) -> str:
    return f"{day.day} {day:%b}" if day.year == near.year else f"{day.day} {day:%b %Y}"
