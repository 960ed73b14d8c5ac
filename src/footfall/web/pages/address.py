"""What a page shows, as its address says it. Whoever opens the same address sees the same.

| parameter | meaning |
| --- | --- |
| `period`, `date` | the span: `day`, `7d`, `28d`, `91d` up to that day; its `month`, its `year`; or `24h`, `all` |
| `from`, `to` | for `period=custom`: the first and the last day |
| `compare` | `previous` (the default), `year` or `none` |
| `metric`, `interval` | what the chart shows, and by which buckets |
| `tab` | a list that a panel shows instead of its first one; may be repeated |
| `bots` | `1` counts bots as well |
| a filter's name | only what fits one of its values counts: `page=/pricing&page=/docs` |
| the name with `!` | only what fits none of them: `source!=Google` |
| the name with `~` | only what has one of them in it: `page~=blog` |
"""

from collections.abc import Iterable, Mapping
from datetime import date
from enum import StrEnum
from typing import Final, TypeVar
from urllib.parse import quote, urlencode

from msgspec import Struct
from msgspec.structs import replace

from footfall.database.buckets import Interval
from footfall.problem import FieldError, Problem
from footfall.web.pages.span import Comparison, Period

DIMENSIONS: Final[Mapping[str, str]] = {
    "page": "event:page",
    "entry": "visit:entry_page",
    "exit": "visit:exit_page",
    "hostname": "event:hostname",
    "source": "visit:source",
    "channel": "visit:channel",
    "referrer": "visit:referrer",
    "utm_source": "visit:utm_source",
    "utm_medium": "visit:utm_medium",
    "utm_campaign": "visit:utm_campaign",
    "utm_term": "visit:utm_term",
    "utm_content": "visit:utm_content",
    "country": "visit:country",
    "region": "visit:region",
    "city": "visit:city",
    "browser": "visit:browser",
    "browser_version": "visit:browser_version",
    "os": "visit:os",
    "os_version": "visit:os_version",
    "device": "visit:device",
    "screen": "visit:screen",
    "language": "visit:language",
    "event": "event:name",
    "goal": "event:goal",
}
"""What can be filtered, by its name in the address."""
PROP: Final = "prop."
"""Before the name of a property of events, which can be filtered, too: `prop.plan=pro`."""
MAX_FILTERS: Final = 20
MAX_VALUE: Final = 2_048


class Match(StrEnum):
    """How a filter compares; also what follows its name in the address."""

    IS = ""
    IS_NOT = "!"
    CONTAINS = "~"


class Filter(Struct, frozen=True):
    """Which events count.

    Attributes:
        name: one of `DIMENSIONS`, or `PROP` and a property's name.
        match: how it compares.
        values: at least one.
    """

    name: str
    match: Match
    values: tuple[str, ...]

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """How it stands in the address."""
        return [(self.name + self.match, value) for value in self.values]


class View(Struct, frozen=True, kw_only=True):
    """What a page shows, whatever the site."""

    period: Period = Period.DAYS_28
    day: date | None = None
    first: date | None = None
    last: date | None = None
    comparison: Comparison = Comparison.PREVIOUS
    metric: str | None = None
    interval: Interval | None = None
    tabs: tuple[str, ...] = ()
    has_bots: bool = False
    filters: tuple[Filter, ...] = ()

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """The parameters of its address, without those that say what a page shows by itself."""
        parameters: list[tuple[str, str]] = []
        if self.period is not Period.DAYS_28:
            parameters.append(("period", self.period))
        parameters += [
            (name, str(value))
            for name, value in (
                ("date", self.day),
                ("from", self.first),
                ("to", self.last),
                ("metric", self.metric),
                ("interval", self.interval),
            )
            if value is not None
        ]
        if self.comparison is not Comparison.PREVIOUS:
            parameters.append(("compare", self.comparison))
        parameters += [("tab", tab) for tab in self.tabs]
        if self.has_bots:
            parameters.append(("bots", "1"))
        for one in self.filters:
            parameters += one.parameters
        return parameters

    @property
    def query(self) -> str:
        """The query of its address, with a question mark; empty for the view that a page has by itself."""
        parameters = self.parameters
        # As a person would write it: RFC 3986 lets these characters stand in a query as they are.
        return f"?{urlencode(parameters, safe='/:~!@,', quote_via=quote)}" if parameters else ""

    def with_filter(self, name: str, value: str) -> "View":
        """Only what has this value of a dimension counts."""
        others = tuple(one for one in self.filters if (one.name, one.match) != (name, Match.IS))
        return replace(self, filters=(*others, Filter(name, Match.IS, (value,))))

    def without_filter(self, filter_: Filter) -> "View":
        return replace(self, filters=tuple(one for one in self.filters if one != filter_))

    def with_period(self, period: Period, day: date | None = None) -> "View":
        return replace(self, period=period, day=day, first=None, last=None, interval=None)

    def with_days(self, first: date, last: date) -> "View":
        return replace(self, period=Period.CUSTOM, day=None, first=first, last=last, interval=None)

    def with_tab(self, tab: str, others: Iterable[str]) -> "View":
        """A panel, which has `others` besides `tab`, shows this tab."""
        gone = {tab, *others}
        return replace(self, tabs=(*(one for one in self.tabs if one not in gone), tab))

    def is_filtered_by(self, name: str) -> bool:
        """Whether a filter of this name stands."""
        return any(one.name == name for one in self.filters)


def view_of(parameters: Iterable[tuple[str, str]], *, besides: frozenset[str] = frozenset()) -> View:
    """What an address asks for.

    Args:
        parameters: those of its query, decoded, in the order they came.
        besides: names that are somebody else's.

    Raises:
        Problem: 422 with every parameter that is not known, or wrong.
    """
    errors: list[FieldError] = []
    single: dict[str, str] = {}
    tabs: list[str] = []
    values: dict[tuple[str, Match], list[str]] = {}
    for name, value in parameters:
        if len(value) > MAX_VALUE:
            errors.append(FieldError(name, f"has more than {MAX_VALUE:,} characters"))
        elif name == "tab":
            tabs.append(value)
        elif name in _SINGLE:
            single[name] = value
        elif (filter_ := _filter(name)) is not None:
            values.setdefault(filter_, []).append(value)
        elif name not in besides:
            errors.append(FieldError(name, "is not known here"))
    if sum(map(len, values.values())) > MAX_FILTERS:
        errors.append(FieldError("filters", f"are more than {MAX_FILTERS}"))
    view = View(
        period=_one_of(Period, single, "period", Period.DAYS_28, errors),
        day=_day(single, "date", errors),
        first=_day(single, "from", errors),
        last=_day(single, "to", errors),
        comparison=_one_of(Comparison, single, "compare", Comparison.PREVIOUS, errors),
        metric=single.get("metric"),
        interval=_one_of(Interval, single, "interval", None, errors),
        tabs=tuple(tabs),
        has_bots=single.get("bots") == "1",
        filters=tuple(Filter(name, match, tuple(texts)) for (name, match), texts in values.items()),
    )
    if view.period is Period.CUSTOM and not errors:
        errors += _errors_of_days(view.first, view.last)
    if errors:
        raise Problem(422, "This address asks for something that there is not.", errors)
    return view


_SINGLE: Final = frozenset({"period", "date", "from", "to", "compare", "metric", "interval", "bots"})


_EARLIEST: Final = date(1971, 1, 1)
_LATEST: Final = date(9000, 1, 1)
"""Far enough from the ends of the calendar to count on in either direction."""
_Choice = TypeVar("_Choice", bound=StrEnum)
_Default = TypeVar("_Default")


def _one_of(
    values: type[_Choice], single: Mapping[str, str], name: str, default: _Default, errors: list[FieldError]
) -> _Choice | _Default:
    text = single.get(name)
    if text is None:
        return default
    try:
        return values(text)
    except ValueError:
        errors.append(FieldError(name, f"must be one of {', '.join(values)}"))
        return default


def _day(single: Mapping[str, str], name: str, errors: list[FieldError]) -> date | None:
    text = single.get(name)
    if text is None:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = date.min
    if not _EARLIEST <= day <= _LATEST:
        errors.append(FieldError(name, "must be a day, as in 2026-11-25"))
        return None
    return day


def _filter(name: str) -> tuple[str, Match] | None:
    """The filter that a parameter's name stands for."""
    bare = name.rstrip("!~")
    is_known = bare in DIMENSIONS or (bare.startswith(PROP) and bare != PROP)
    return (bare, Match(name[len(bare) :])) if is_known and name[len(bare) :] in set(Match) else None


def _errors_of_days(first: date | None, last: date | None) -> list[FieldError]:
    if first is None or last is None:
        return [FieldError("from", "and to are needed for period=custom")]
    return [FieldError("from", "is after to")] if first > last else []
