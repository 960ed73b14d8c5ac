"""What figures can be told apart and filtered by: the names of Plausible's Stats API v2.

A dimension `event:…` is what one event says. A dimension `visit:…` is what the event's visit says, and so is the same
for all events of a visit, whatever each of them says of itself. Every value is a text; the empty text stands for what
is not known.
"""

from collections.abc import Mapping
from typing import Final

TIME: Final = "time"
"""The start of a bucket (`Query.buckets`), and the only dimension whose values are moments."""
PAGE: Final = "event:page"
NAME: Final = "event:name"
GOAL: Final = "event:goal"
"""The name of a goal (`Query.goals`); an event counts for each goal that it fits."""
PROP: Final = "event:props:"
"""Before the name of a prop: `event:props:plan`."""
BOT: Final = "visit:bot"
"""The name of the bot, empty for everybody else."""
CHANNEL: Final = "visit:channel"
ENTRY_PAGE: Final = "visit:entry_page"

EVENT_COLUMNS: Final[Mapping[str, str]] = {PAGE: "path", NAME: "event_type", "event:hostname": "hostname"}
"""The column of `events` that has a dimension of events."""

ENDS: Final[Mapping[str, str]] = {
    ENTRY_PAGE: "entry_page",
    "visit:exit_page": "exit_page",
    "visit:entry_page_hostname": "entry_page_hostname",
    "visit:exit_page_hostname": "exit_page_hostname",
}
"""The column of a visit that has a dimension of its first or last page."""

ATTRIBUTES: Final = (
    "source",
    "referrer",
    "utm_source",
    "utm_medium",
    "utm_campaign",
    "utm_content",
    "utm_term",
    "device",
    "screen",
    "language",
    "browser",
    "browser_version",
    "os",
    "os_version",
    "country",
    "region",
    "city",
)
"""Columns of `events` of which a visit has the value of its first event (`footfall.database.visits`)."""

VISIT_COLUMNS: Final[Mapping[str, str]] = {
    **{f"visit:{column}": column for column in (*ATTRIBUTES, "bot")},
    **ENDS,
}
"""The column of a visit that has a dimension of visits; `CHANNEL` is worked out from several."""

DIMENSIONS: Final = (TIME, *EVENT_COLUMNS, GOAL, *VISIT_COLUMNS, CHANNEL)
"""All of them but the props, which every site has its own of."""


def is_of_event(name: str) -> bool:
    return name.startswith("event:")


def check_dimension(name: str) -> None:
    """Refuse what is no dimension.

    Raises:
        ValueError: it says which there are.
    """
    if name not in DIMENSIONS and not (name.startswith(PROP) and name != PROP):
        raise ValueError(f"there is no dimension {name!r}; there are: {', '.join(DIMENSIONS)}, {PROP}NAME")
