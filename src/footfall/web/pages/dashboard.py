"""The page of one site: its figures, their chart, and lists of what makes them up.

It is sent as it is made: the figures and the chart first, then one list after the other.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from msgspec.structs import replace

from footfall.database.buckets import Interval
from footfall.database.dimensions import TIME
from footfall.database.query import Figures, Query
from footfall.database.reports import Reports
from footfall.problem import FieldError, Problem
from footfall.web.pages import wording
from footfall.web.pages.address import Match, View
from footfall.web.pages.chart import Series, chart_of
from footfall.web.pages.panels import FIGURES, LESS_IS_BETTER, METRIC_TITLES, PANELS, Panel
from footfall.web.pages.rendering import render
from footfall.web.pages.site import (
    LIVE,
    Choice,
    Site,
    figure_of,
    filter_of,
    filter_of_list,
    filter_title,
    row_of,
    span_title,
)
from footfall.web.pages.span import Comparison, Period, Span
from footfall.web.pages.wording import Value

ROWS: Final = 10
"""What a list shows here; all of it has a page of its own (`lists`)."""

_MATCH_TITLES: Final = {Match.IS: "is", Match.IS_NOT: "is not", Match.CONTAINS: "contains"}
_LISTED: Final = ", ".join(FIGURES)
_OF_A_SPAN: Final = frozenset({"period", "date", "from", "to", "interval"})
_COMPARISONS: Final = {
    Comparison.PREVIOUS: "Against the time before",
    Comparison.YEAR: "Against a year before",
    Comparison.NONE: "No comparison",
}
_BLANK_SAYS_SOMETHING: Final = frozenset({"sources", "channels", "referrers", "pages"})
_UNKNOWN: Final = {
    "places": "Countries are known once geo.database names a file that tells them.",
}


class Dashboard:
    """Makes the page of one view of a site.

    Args:
        site: whose page.
        view: what is asked for.
        reports: reads the figures.

    Raises:
        Problem: 422, the view has a metric or an interval that there is not.
    """

    def __init__(self, site: Site, view: View, reports: Reports) -> None:
        self._site = site
        self._view = view
        self._answer = reports.answer
        self._span = site.span_of(view)
        self._before = self._span.compared(view.comparison)
        self._filter = filter_of(view)
        self._metric = view.metric or FIGURES[0]
        if self._metric not in FIGURES:
            raise Problem(422, "There is no such chart.", [FieldError("metric", f"must be one of {_LISTED}")])
        interval = view.interval or self._span.default_interval
        if interval not in self._span.intervals:
            expected = ", ".join(self._span.intervals)
            raise Problem(422, "There is no such chart.", [FieldError("interval", f"must be one of {expected}, here")])
        self._interval: Interval = interval
        if not self._can_answer(self._metric):
            self._metric = FIGURES[0]

    def parts(self) -> Iterator[str]:
        """The page, in parts that follow each other.

        Raises:
            TimeoutError, OSError: the first part can't be made. An error of a later one is told in its place.
        """
        yield render("site.html", **self._overview())
        for panel in PANELS:
            yield render("panel.html", **self._panel(panel))
        yield "</div>"
        yield render("end.html", zone=str(self._site.zone))

    def _url(self, view: View) -> str:
        return self._site.path + view.query

    def _query(self, span: Span, metrics: Sequence[str], **more: Any) -> Query:  # noqa: ANN401 - as `Query` has them
        return Query(
            site_id=self._site.site_id,
            metrics=tuple(metrics),
            filter=self._filter,
            goals=self._site.goals,
            with_bots=self._view.has_bots,
            start=span.start,
            end=span.end,
            **more,
        )

    def _series_query(self, span: Span) -> Query:
        return self._query(span, [self._metric], dimensions=(TIME,), buckets=span.buckets(self._interval))

    def _until_now(self, before: Span) -> Span:
        """The span before, as far as this one has come: a morning is compared with a morning, not with a day."""
        passed = self._site.now - self._span.start
        return replace(before, end=min(before.end, before.start + passed)) if passed > timedelta(0) else before

    def _can_answer(self, metric: str) -> bool:
        """Whether a metric goes with the filter; some are of whole visits, and of no page."""
        try:
            self._query(self._span, [metric])
        except ValueError:
            return False
        return True

    def _overview(self) -> dict[str, object]:
        now = self._site.now
        live = Query(site_id=self._site.site_id, metrics=("visitors",), start=now - LIVE, end=None)
        known = tuple(filter(self._can_answer, FIGURES))
        queries = [live, self._query(self._span, known), self._series_query(self._span)]
        if self._before is not None:
            queries += [self._query(self._until_now(self._before), known), self._series_query(self._before)]
        [here], [totals], series, *before = self._answer(queries)
        now_figures = dict(zip(known, totals.metrics, strict=True))
        figures_before = dict(zip(known, before[0][0].metrics, strict=True)) if before else {}
        chart = chart_of(
            self._metric,
            _series(self._span.buckets(self._interval), series),
            _series(self._before.buckets(self._interval), before[1]) if self._before else None,
            interval=self._interval,
            zone=self._span.zone,
            end=self._span.end,
            present=now,
        )
        view = self._view
        return {
            "site": self._site.site_id,
            "path": self._site.path,
            "span": self._span,
            "span_title": span_title(self._span, self._site.today),
            "earlier": self._step(self._span.earlier),
            "later": self._step(self._span.later) if self._span.end <= now else None,
            "choices": self._periods(),
            "comparisons": [
                Choice(title, self._url(replace(view, comparison=comparison)), view.comparison is comparison)
                for comparison, title in _COMPARISONS.items()
            ],
            "comparison_title": _COMPARISONS[view.comparison],
            "bots": Choice("", self._url(replace(view, has_bots=not view.has_bots)), view.has_bots),
            "hidden_parameters": [pair for pair in view.parameters if pair[0] not in _OF_A_SPAN],
            "hint": self._hint(now_figures),
            "live": here.metrics[0],
            "live_href": self._url(View(period=Period.HOURS_24)),
            "chips": [
                Choice(
                    f"{filter_title(one.name)} {_MATCH_TITLES[one.match]}",
                    self._url(view.without_filter(one)),
                    key=" or ".join(value or "(none)" for value in one.values),
                )
                for one in view.filters
            ],
            "unfiltered": self._url(replace(view, filters=())),
            "figures": [self._tile(metric, now_figures.get(metric), figures_before.get(metric)) for metric in FIGURES],
            "metric_title": METRIC_TITLES[self._metric],
            "chart": chart,
            "intervals": [
                Choice(f"By {one}", self._url(replace(view, interval=one)), one is self._interval)
                for one in self._span.intervals
            ],
        }

    def _hint(self, figures: Mapping[str, Value]) -> Choice | None:
        """What to tell somebody who sees nothing, although there is something."""
        view, first_day = self._view, self._site.first_day
        if any(figures.get(name) for name in ("visitors", "pageviews")) or first_day is None:
            return None
        if not view.has_bots and self._has_bots():
            text = "Only bots were here in this time, such as crawlers, or curl asking for the image."
            return Choice(text, self._url(replace(view, has_bots=True)), key="Count bots as well")
        if view.filters:
            return None
        text = f"Nothing in this time. The site's first event is of {first_day}."
        return Choice(text, self._url(view.with_period(Period.ALL)), key="Show all time")

    def _has_bots(self) -> bool:
        """Whether there is anything once bots count as well."""
        [[all_]] = self._answer([replace(self._query(self._span, FIGURES[:1]), with_bots=True)])
        return bool(all_.metrics[0])

    def _tile(self, metric: str, value: Value, before: Value) -> dict[str, object]:
        change = wording.change(value, before)
        mood = ""
        if change:
            mood = "good" if (change > 0) != (metric in LESS_IS_BETTER) else "bad"
        return {
            "title": METRIC_TITLES[metric],
            "href": self._url(replace(self._view, metric=None if metric == FIGURES[0] else metric)),
            "is_chosen": metric == self._metric,
            "figure": figure_of(value, metric),
            "change": change,
            "mood": mood,
            "before": wording.whole(before, metric),
        }

    def _step(self, span: Span | None) -> str | None:
        if span is None:
            return None
        if span.period in {Period.CUSTOM, Period.HOURS_24}:
            return self._url(self._view.with_days(span.first, span.last))
        return self._url(self._view.with_period(span.period, span.last))

    def _periods(self) -> list[list[Choice]]:
        view = self._view
        yesterday = self._site.today - timedelta(days=1)
        groups = (
            (
                ("Today", view.with_period(Period.DAY), "D"),
                ("Yesterday", view.with_period(Period.DAY, yesterday), "E"),
                ("Last 24 hours", view.with_period(Period.HOURS_24), "H"),
            ),
            (
                ("Last 7 days", view.with_period(Period.DAYS_7), "W"),
                ("Last 28 days", view.with_period(Period.DAYS_28), "F"),
                ("Last 91 days", view.with_period(Period.DAYS_91), "N"),
            ),
            (
                ("This month", view.with_period(Period.MONTH), "M"),
                ("This year", view.with_period(Period.YEAR), "Y"),
                ("All time", view.with_period(Period.ALL), "A"),
            ),
        )
        shown = (view.period, view.day, view.first)
        return [
            [
                Choice(title, self._url(other), (other.period, other.day, other.first) == shown, key)
                for title, other, key in group
            ]
            for group in groups
        ]

    def _panel(self, panel: Panel) -> dict[str, object]:
        if not self._site.goals:
            panel = replace(panel, tabs=tuple(tab for tab in panel.tabs if tab.filter != "goal"))
        tab = panel.shown(self._view.tabs)
        names = [one.name for one in panel.tabs]
        context: dict[str, object] = {
            "panel": panel,
            "tab": tab,
            "tabs": [
                Choice(one.title, self._url(self._view.with_tab(one.name, names)), one is tab) for one in panel.tabs
            ],
            "metrics": [METRIC_TITLES[metric] for metric in tab.metrics],
            "details": f"{self._site.path}/lists/{tab.name}{self._view.query}",
            "csv": f"{self._site.path}/lists/{tab.name}.csv{self._view.query}",
            "empty": "Nothing in this time.",
            "error": "",
            "rows": [],
        }
        try:
            query = self._query(self._span, tab.metrics, dimensions=(tab.dimension,), limit=ROWS)
            [found] = self._answer([replace(query, filter=filter_of_list(self._view, tab))])
        except TimeoutError:
            return {**context, "error": "This list took too long. Choose fewer days, or try again."}
        except OSError:
            return {**context, "error": "The database can't be reached at the moment."}
        if len(found) == 1 and not found[0].dimensions[0] and tab.name not in _BLANK_SAYS_SOMETHING:
            return {**context, "empty": _UNKNOWN.get(panel.name, "Nothing is known of this in this time.")}
        rows = [row_of(self._site, self._view, tab, row, found[0], tab.metrics) for row in found]
        return {**context, "rows": rows}


def _series(starts: tuple[datetime, ...], rows: Sequence[Figures]) -> Series:
    known = {row.dimensions[0]: row.metrics[0] for row in rows}
    return Series(starts, tuple(known.get(start, 0) for start in starts))
