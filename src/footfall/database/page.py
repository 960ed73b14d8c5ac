"""Which page a path names. A page has one path, whether a hit, an event or a line of an imported log names it.

A client may write a page as `/pricing`, `pricing`, `/pricing?ref=mail#team` or `https://example.com/pricing`. All of
these are `/pricing`: scheme, host, query and fragment are left off, and a path begins with `/`. With
`database.path_queries` = `keep` the query stays, for sites that tell pages apart by it, as in `/item?id=7`. Campaign
parameters (`utm_source` and its like) are left off even then, because they say how somebody came to the page, not which
page it is. They have columns of their own.

Upper and lower case, percent-encoding and a slash at the end stay as they are: to a server, such paths may differ.
"""

import re
from typing import Final
from urllib.parse import unquote_plus

_ORIGIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
"""Scheme and host of an absolute address, RFC 3986, section 3."""
_CAMPAIGN: Final = "utm_"
_CAMPAIGN_PARAMETERS: Final = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")
_CLICK_IDS: Final = (
    "gclid",  # Google Ads
    "gbraid",
    "wbraid",
    "dclid",  # Google's display ads
    "msclkid",  # Microsoft Advertising
    "fbclid",  # Facebook and Instagram
    "ttclid",  # TikTok
    "twclid",  # X
    "li_fat_id",  # LinkedIn
    "rdt_cid",  # Reddit
    "sccid",  # Snapchat
    "epik",  # Pinterest
    "yclid",  # Yandex
)
"""Query parameters in which advertising platforms name a click."""
_MAX_CAMPAIGN: Final = 255
"""How many characters of one parameter are kept."""

Campaign = tuple[str | None, str | None, str | None, str | None, str | None]
"""The parameters `utm_source`, `utm_medium`, `utm_campaign`, `utm_term` and `utm_content`."""
NO_CAMPAIGN: Final[Campaign] = (None, None, None, None, None)


def page_of(path: str, *, keep_query: bool) -> str:
    """The page that a path or an address names; `/` if it names none."""
    rest = path.strip()
    if not rest.startswith("/") and (origin := _ORIGIN.match(rest)):
        rest = rest[origin.end() :]
    page, _, query = rest.partition("#")[0].partition("?")
    if not page.startswith("/"):
        page = f"/{page}"
    if query and keep_query:
        kept = "&".join(part for part in query.split("&") if part and not part.lower().startswith(_CAMPAIGN))
        return f"{page}?{kept}" if kept else page
    return page


def campaign_of(address: str) -> Campaign:
    """The campaign in the query of an address or a path. If a parameter is repeated, the first one counts."""
    query = address.partition("#")[0].partition("?")[2]
    if _CAMPAIGN not in query.lower():
        return NO_CAMPAIGN
    found: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if value:
            found.setdefault(name.lower(), unquote_plus(value)[:_MAX_CAMPAIGN])
    source, medium, campaign, term, content = (found.get(name) for name in _CAMPAIGN_PARAMETERS)
    return source, medium, campaign, term, content


def click_id_of(address: str) -> str | None:
    """The name of the advertising click id in the query of an address or a path; None if it has none."""
    query = address.partition("#")[0].partition("?")[2].lower()
    if "id=" not in query and "epik=" not in query:
        return None
    given = {name for name, _, value in (part.partition("=") for part in query.split("&")) if value}
    return next((name for name in _CLICK_IDS if name in given), None)
