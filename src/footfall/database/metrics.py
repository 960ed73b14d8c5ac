"""What can be counted: the names of Plausible's Stats API v2, and what each may be told apart by.

All figures are exact. Ratios are rounded to the nearest, a half away from zero.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from msgspec import Struct


class Subject(StrEnum):
    """What a metric looks at, which decides on the dimensions that it goes with."""

    ANY = "any"
    EVENTS = "events"
    VISITS = "visits"
    """Whole visits: of `event:page`, the visits that began there."""


class Metric(Struct, frozen=True):
    """Something to count.

    Attributes:
        subject: what it looks at.
        decimals: digits after the point; a metric without any is an int.
        needs: of `dimension`, `page` and `goal`, what a query must have.
    """

    subject: Subject
    decimals: int = 0
    needs: str = ""


METRICS: Final[Mapping[str, Metric]] = {
    "visitors": Metric(Subject.ANY),
    "visits": Metric(Subject.ANY),
    "pageviews": Metric(Subject.EVENTS),
    "events": Metric(Subject.EVENTS),
    "views_per_visit": Metric(Subject.VISITS, decimals=2),
    "bounce_rate": Metric(Subject.VISITS),
    "visit_duration": Metric(Subject.VISITS),
    "percentage": Metric(Subject.ANY, decimals=1, needs="dimension"),
    "conversion_rate": Metric(Subject.ANY, decimals=1, needs="goal"),
    "group_conversion_rate": Metric(Subject.ANY, decimals=1, needs="goal"),
    "scroll_depth": Metric(Subject.EVENTS, needs="page"),
    "time_on_page": Metric(Subject.EVENTS, needs="page"),
}
"""By name:

- `visitors`: distinct visitors of the events.
- `visits`: distinct visits of the events.
- `pageviews`: page views.
- `events`: events, without those of the type `engagement`.
- `views_per_visit`: page views of the visits, for each visit; 0 without a visit.
- `bounce_rate`: percent of the visits that are bounces; 0 without a visit.
- `visit_duration`: seconds that a visit lasts, the mean; None without a visit.
- `percentage`: percent that the visitors are of those without the dimensions; None if there are none.
- `conversion_rate`: percent that the visitors are of those without dimensions, and without filters by goals and props.
- `group_conversion_rate`: likewise, but of those with the same dimensions, goals and props apart.
- `scroll_depth`: percent of a page that was seen: the most in a visit, the mean of visits and pages; None if nobody
  told.
- `time_on_page`: seconds that a page was in use, the mean of visitors and pages; None if nobody told.
"""
