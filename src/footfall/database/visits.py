"""Visits, worked out of events in SQL.

A visit is one visitor's activity on one site within one UTC day, cut where nothing happens for 30 minutes or more. It
depends on the set of events alone. A bot that has the user id of a person is another visitor.

- Its first page view says where and with what it began. Of page views at the same moment, that is the one with the
  least path, then the least referrer; should these be equal, too, each attribute has its least value. A visit without a
  page view is told by its first event.
- Its last page view is its exit; of several at the same moment, the one with the greatest path. Without one, its last
  event.
- It is a bounce if it has exactly one page view, and no other event but those that are not interactive. Engagement
  events prolong a visit and do nothing else.

A statement reads two relations from here (`relations_of_visits`). Each can be replaced by one that has the same rows,
such as one that keeps visits in a table:

- `starts`: the events of some whole UTC days, each with the start of its visit. With the visitor and the bot it names
  the visit.
- `visits`: the visits that have an event in a range of time, one row each, with the columns `KEY`, `COUNTS` and the
  attributes that are asked for. Only `pageviews` and `events` depend on the range; all else is of the whole visit, so
  it can be kept: where a day lies in the range as a whole, `pageviews` is `visit_pageviews`, and `events` is likewise.
"""

from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from typing import Final

from footfall.database.dialect import Dialect
from footfall.database.dimensions import ATTRIBUTES
from footfall.database.query import Query
from footfall.entry import PAGE_VIEW

GAP: Final = timedelta(minutes=30)
ENGAGEMENT: Final = "engagement"
"""The `event_type` of events that tell for how long, and how far down, a page is read."""

KEY: Final = ("visitor", "bot", "visit_start")
"""What tells visits of a site apart; the start is in microseconds since 1970."""
COUNTS: Final = ("duration", "is_bounce", "visit_pageviews", "pageviews", "events")
"""What is counted of a visit: microseconds from its first event to its last; 1 for a bounce, else 0; its page views;
and those of its page views and events that are in the range."""

FIRST: Final[Mapping[str, str]] = {
    "entry_page": "path",
    "entry_page_hostname": "hostname",
    **{name: name for name in (*ATTRIBUTES, "click_id")},
}
"""Attributes of a visit, and the column of its first page view that they come from."""
LAST: Final[Mapping[str, str]] = {"exit_page": "path", "exit_page_hostname": "hostname"}
"""Likewise of its last page view."""

_US_PER_DAY: Final = timedelta(days=1) // timedelta(microseconds=1)
_GAP_US: Final = GAP // timedelta(microseconds=1)
_NEVER: Final = -(10**18)
"""Before all moments that a database holds."""

IS_VIEW: Final = f"event_type = '{PAGE_VIEW}'"
IS_EVENT: Final = f"event_type <> '{ENGAGEMENT}'"


def columns_for(attributes: Iterable[str]) -> set[str]:
    """The text columns of events that some attributes of visits are worked out of."""
    wanted = {column for name in attributes if (column := FIRST.get(name) or LAST.get(name))}
    return wanted | {"path", "referrer"} if wanted else wanted


def whole_days(start: datetime | None, end: datetime | None) -> tuple[datetime | None, datetime | None]:
    """The UTC days that a range touches, as a range: what has to be looked at to know its visits."""
    if start is not None:
        start = datetime.combine(start, time.min)
    if end is not None and end.time() != time.min:
        end = datetime.combine(end, time.min) + timedelta(days=1) if end.date() < date.max else None
    return start, end


def is_between(moment: str, query: Query, dialect: Dialect) -> str:
    """Whether a moment is in a query's range."""
    conditions = ["TRUE"]
    if query.start is not None:
        conditions.append(f"{moment} >= {dialect.moment(query.start)}")
    if query.end is not None:
        conditions.append(f"{moment} < {dialect.moment(query.end)}")
    return " AND ".join(conditions)


def relations_of_visits(query: Query, dialect: Dialect, attributes: Iterable[str]) -> dict[str, str]:
    """The relations `starts` and `visits`, and what they take, by name.

    They are made of `hits`: the events that count of the days that the query touches, with `visitor`, `bot`, `moment`,
    `event_type`, `is_interactive`, `columns_for` the attributes, and whatever else is wanted in `starts`.

    Args:
        query: says the site and the range.
        dialect: the database's.
        attributes: of `FIRST` and `LAST`.
    """
    by_visitor = "(PARTITION BY visitor, bot ORDER BY moment)"
    midnight = f"moment - (moment % {_US_PER_DAY} + {_US_PER_DAY}) % {_US_PER_DAY}"
    continues = f"moment - previous < {_GAP_US} AND previous >= {midnight}"
    return {
        "steps": f"SELECT *, lag(moment, 1, {_NEVER}) OVER {by_visitor} AS previous FROM hits",
        "starts": f"SELECT *, max(CASE WHEN {continues} THEN {_NEVER} ELSE moment END) OVER {by_visitor} "
        "AS visit_start FROM steps",
        "visits": _visits(dialect, attributes, is_between("moment", query, dialect)),
    }


def _visits(dialect: Dialect, attributes: Iterable[str], is_in_range: str) -> str:
    views = f"count(*) FILTER (WHERE {IS_VIEW})"
    others = f"count(*) FILTER (WHERE {IS_EVENT} AND NOT {IS_VIEW} AND is_interactive)"
    columns = [
        *KEY,
        "max(moment) - visit_start AS duration",
        f"CASE WHEN {views} = 1 AND {others} = 0 THEN 1 ELSE 0 END AS is_bounce",
        f"{views} AS visit_pageviews",
        f"count(*) FILTER (WHERE {IS_VIEW} AND {is_in_range}) AS pageviews",
        f"count(*) FILTER (WHERE {IS_EVENT} AND {is_in_range}) AS events",
    ]
    for name in attributes:
        if name in FIRST:
            order = dialect.together(
                f"NOT ({IS_VIEW})", "moment", "starts.path", "starts.referrer", f"starts.{FIRST[name]}"
            )
            columns.append(f"{dialect.part(f'min({order})', 5)} AS {name}")
        else:
            order = dialect.together(IS_VIEW, "moment", "starts.path", f"starts.{LAST[name]}")
            columns.append(f"{dialect.part(f'max({order})', 4)} AS {name}")
    return (
        f"SELECT {', '.join(columns)} FROM starts GROUP BY {', '.join(KEY)} "
        f"HAVING count(*) FILTER (WHERE {is_in_range}) > 0"
    )
