"""A whole list of a site's page: searchable, sortable, in steps; and the same as CSV."""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlencode

from msgspec import Struct

from footfall.database.filter import All, Operator, Where
from footfall.database.query import Order, Query
from footfall.database.reports import Reports
from footfall.problem import FieldError, Problem
from footfall.web.pages.address import View
from footfall.web.pages.panels import METRIC_TITLES, TABS, Tab
from footfall.web.pages.rendering import render
from footfall.web.pages.site import Choice, Site, filter_of_list, row_of, span_title

ROWS: Final = 100
"""What one step shows."""
MAX_CSV_ROWS: Final = 100_000
NAMES: Final = frozenset({"search", "sort", "offset"})
"""The parameters of a list, besides those of a view."""

_METRICS: Final = {
    "page": ("visitors", "visits", "pageviews"),
    "hostname": ("visitors", "visits", "pageviews"),
    "event": ("visitors", "events"),
    "goal": ("visitors", "conversion_rate", "events"),
}
_OF_VISITS: Final = ("visitors", "visits", "bounce_rate", "visit_duration")


class ListView(Struct, frozen=True):
    """Which rows of a list are asked for.

    Attributes:
        search: only rows that have it in them, in upper or lower case.
        sort: the metric to sort by, the greatest first; or `name`.
        offset: how many rows come before.
    """

    search: str
    sort: str
    offset: int

    def query(self, view: View) -> str:
        """The query of its address, with a question mark."""
        own = {"search": self.search, "sort": self.sort, "offset": str(self.offset) if self.offset else ""}
        more = urlencode({name: value for name, value in own.items() if value})
        rest = view.query
        return f"{rest}{'&' if rest else '?'}{more}" if more else rest


def list_view_of(given: Mapping[str, str], tab: Tab) -> ListView:
    """What an address asks for.

    Raises:
        Problem: 422, with what is wrong.
    """
    sort = given.get("sort", "")
    expected = ("name", *metrics_of(tab))
    if sort and sort not in expected:
        raise Problem(
            422, "The list can't be sorted so.", [FieldError("sort", f"must be one of {', '.join(expected)}")]
        )
    offset = given.get("offset", "0")
    if not offset.isdecimal() or len(offset) > 9:
        raise Problem(422, "There is no such part of the list.", [FieldError("offset", "must be a whole number")])
    return ListView(given.get("search", "")[:200], sort, int(offset))


def tab_of(name: str) -> Tab:
    """A list by its name.

    Raises:
        Problem: 404, there is none.
    """
    if name not in TABS:
        raise Problem(404, f"There is no list {name!r}; there are: {', '.join(TABS)}.")
    return TABS[name]


def metrics_of(tab: Tab) -> tuple[str, ...]:
    """What its rows tell."""
    return _METRICS.get(tab.filter, _OF_VISITS)


def page(site: Site, view: View, tab: Tab, wanted: ListView, reports: Reports) -> str:
    """The page of a list.

    Raises:
        TimeoutError, OSError: as `Reports.answer`.
    """
    metrics = metrics_of(tab)
    query = _query(site, view, tab, wanted, limit=ROWS + 1)
    [found] = reports.answer([query])
    base = f"{site.path}/lists/{tab.name}"
    rows = [row_of(site, view, tab, row, found[0], metrics) for row in found[:ROWS]]

    def url(change: ListView) -> str:
        return base + change.query(view)

    def sorted_by(name: str) -> str:
        return url(ListView(wanted.search, name, 0))

    chosen = wanted.sort or metrics[0]
    return render(
        "list.html",
        site=site.site_id,
        back=site.path + view.query,
        tab=tab,
        span_title=span_title(site.span_of(view), site.today),
        search=wanted.search,
        hidden_parameters=view.parameters + ([("sort", wanted.sort)] if wanted.sort else []),
        base=base,
        name_column=Choice(tab.title, sorted_by("name"), chosen == "name"),
        columns=[Choice(METRIC_TITLES[name], sorted_by(name), chosen == name) for name in metrics],
        rows=rows,
        first=wanted.offset + 1,
        last=wanted.offset + len(rows),
        before=url(ListView(wanted.search, wanted.sort, max(0, wanted.offset - ROWS))) if wanted.offset else None,
        after=url(ListView(wanted.search, wanted.sort, wanted.offset + ROWS)) if len(found) > ROWS else None,
        csv=f"{base}.csv" + wanted.query(view),
    ) + render("end.html", zone=str(site.zone))


def as_csv(site: Site, view: View, tab: Tab, wanted: ListView, reports: Reports) -> Iterator[str]:
    """The rows of a list, for a spreadsheet, up to `MAX_CSV_ROWS`.

    A value that a spreadsheet would take for a formula has an apostrophe before it
    (https://owasp.org/www-community/attacks/CSV_Injection).

    Raises:
        TimeoutError, OSError: as `Reports.answer`.
    """
    metrics = metrics_of(tab)
    [found] = reports.answer([_query(site, view, tab, wanted, limit=MAX_CSV_ROWS)])
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow((tab.filter, *metrics))
    for row in found:
        name = str(row.dimensions[0])
        writer.writerow(("'" + name if name[:1] in _FORMULAS else name, *row.metrics))
        if text.tell() > 64 * 1024:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()


_FORMULAS: Final = frozenset("=+-@\t\r")


def _query(site: Site, view: View, tab: Tab, wanted: ListView, *, limit: int) -> Query:
    span = site.span_of(view)
    condition = filter_of_list(view, tab)
    if wanted.search:
        search = Where(tab.dimension, Operator.CONTAINS, (wanted.search,), is_case_sensitive=False)
        condition = All((condition, search))
    order: tuple[Order, ...] = ()
    if wanted.sort:
        is_name = wanted.sort == "name"
        order = (Order(tab.dimension if is_name else wanted.sort, is_descending=not is_name),)
    return Query(
        site_id=site.site_id,
        metrics=metrics_of(tab),
        dimensions=(tab.dimension,),
        filter=condition,
        goals=site.goals,
        with_bots=view.has_bots,
        start=span.start,
        end=span.end,
        order=order,
        limit=limit,
        offset=wanted.offset,
    )
