"""The channel that a visit came by: the default grouping of Google Analytics 4, and AI assistants beside it.

The groups and their order are those of https://support.google.com/analytics/answer/9756891. A channel is not stored:
it is worked out of what is, whenever somebody asks. So a better rule holds for all visits, however old.

`RULES` are data. `channel_of` applies them in Python, `channel_sql` makes an expression of them. Both put texts into
lower case first, and only letters of ASCII, so that each engine gives the same answer.
"""

import re
from collections.abc import Callable, Mapping
from string import ascii_lowercase, ascii_uppercase
from typing import Final

from msgspec import Struct

from footfall.database.source import KINDS

CHANNEL_COLUMNS: Final = ("source", "utm_source", "utm_medium", "utm_campaign", "click_id")
"""The columns of `events` that tell a channel; what is not known is the empty text."""
DIRECT: Final = "Direct"
"""The channel of visits for which no rule holds."""


class Has(Struct, frozen=True):
    """A column, in lower case, fits a regular expression of RE2, which may match anywhere in it; never an empty one."""

    column: str
    pattern: str


class IsOneOf(Struct, frozen=True):
    """A column is one of some texts, to the letter."""

    column: str
    values: tuple[str, ...]


class Both(Struct, frozen=True):
    """Each of two groups of conditions has one that holds."""

    first: "tuple[Condition, ...]"
    second: "tuple[Condition, ...]"


Condition = Has | IsOneOf | Both


class Rule(Struct, frozen=True):
    """A channel, and conditions of which one is enough."""

    channel: str
    conditions: tuple[Condition, ...]


def _is(kind: str) -> tuple[Condition, ...]:
    return (IsOneOf("source", KINDS[kind]),)


_PAID: Final = (
    Has("utm_medium", "cp|^ppc$|^retargeting$|^paid"),
    # How tools for advertising name themselves.
    Has(
        "utm_source",
        "^adwords$|^(google|bing|facebook|fb|instagram|linkedin|twitter|x|tiktok|reddit|snapchat)[_-]?ads$",
    ),
)
_SHOPPING_CAMPAIGN: Final = Has("utm_campaign", "(^|[^a-df-z])shop|shopping")
_GOOGLE_CLICK: Final = ("gclid", "gbraid", "wbraid")
_MAIL: Final = "e[-_ ]?mail|newsletter"

RULES: Final = (
    Rule("Cross-network", (Has("utm_campaign", "cross-network"),)),
    Rule("Paid Shopping", (Both((*_is("shopping"), _SHOPPING_CAMPAIGN), _PAID),)),
    Rule(
        "Paid Search",
        (
            Both(_is("search"), _PAID),
            Both((IsOneOf("source", ("Google",)),), (IsOneOf("click_id", _GOOGLE_CLICK),)),
            Both((IsOneOf("source", ("Bing",)),), (IsOneOf("click_id", ("msclkid",)),)),
        ),
    ),
    Rule("Paid Social", (Both(_is("social"), _PAID),)),
    Rule("Paid Video", (Both(_is("video"), _PAID),)),
    Rule("Display", (Has("utm_medium", "^(display|banner|expandable|interstitial|cpm)$"),)),
    Rule("Paid Other", _PAID),
    Rule("Organic Shopping", (*_is("shopping"), _SHOPPING_CAMPAIGN)),
    Rule("Organic Social", (*_is("social"), Has("utm_medium", "^(social|social[- ](network|media)|sm)$"))),
    Rule("Organic Video", (*_is("video"), Has("utm_medium", "video"))),
    Rule("AI Assistants", _is("ai")),
    Rule("Organic Search", (*_is("search"), Has("utm_medium", "^organic$"))),
    Rule("Email", (Has("source", _MAIL), Has("utm_medium", _MAIL))),
    Rule("Affiliates", (Has("utm_medium", "^affiliates?$"),)),
    Rule("Audio", (Has("utm_medium", "^audio$"),)),
    Rule("SMS", (Has("source", "^sms$"), Has("utm_medium", "^sms$"))),
    Rule("Mobile Push Notifications", (Has("utm_medium", "push$|mobile|notification"), Has("source", "^firebase$"))),
    Rule("Referral", (Has("utm_medium", "^(referral|app|link)$"), Has("source", ""))),
)
"""In their order: the first that holds for a visit names its channel."""

CHANNELS: Final = (*(rule.channel for rule in RULES), DIRECT)

_LOWER: Final = str.maketrans(ascii_uppercase, ascii_lowercase)


def channel_of(visit: Mapping[str, str]) -> str:
    """The channel of a visit, told by its `CHANNEL_COLUMNS`."""
    return next((rule.channel for rule in RULES if any(_holds(one, visit) for one in rule.conditions)), DIRECT)


def _holds(condition: Condition, visit: Mapping[str, str]) -> bool:
    match condition:
        case Has(column, pattern):
            # In RE2, `$` is the end; in Python, it is also before a line feed at the end.
            found = re.search(pattern.replace("$", r"\Z"), visit[column].translate(_LOWER), re.DOTALL)
            return visit[column] != "" and found is not None
        case IsOneOf(column, values):
            return visit[column] in values
        case Both(first, second):
            return any(_holds(one, visit) for one in first) and any(_holds(one, visit) for one in second)


def channel_sql(columns: Mapping[str, str], matches: Callable[[str, str], str]) -> str:
    """An SQL expression for the channel of a visit, for either database.

    Args:
        columns: for each of `CHANNEL_COLUMNS`, an expression that has its text.
        matches: makes a condition of an expression and a regular expression: whether the text has a part that fits.
    """

    def compiled(condition: Condition) -> str:
        match condition:
            case Has(column, pattern):
                text = columns[column]
                lower = f"translate({text}, '{ascii_uppercase}', '{ascii_lowercase}')"
                # Most visits have no campaign, and to compare is much faster than to match.
                return f"({text} <> '' AND {matches(lower, pattern)})"
            case IsOneOf(column, values):
                texts = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
                return f"{columns[column]} IN ({texts})"
            case Both(first, second):
                return f"({either(first)} AND {either(second)})"

    def either(conditions: tuple[Condition, ...]) -> str:
        return f"({' OR '.join(compiled(condition) for condition in conditions)})"

    cases = " ".join(f"WHEN {either(rule.conditions)} THEN '{rule.channel}'" for rule in RULES)
    return f"CASE {cases} ELSE '{DIRECT}' END"
