"""Which page a path names. A page has one path, whether a hit, an event or a line of an imported log names it.

A client may write a page as `/pricing`, `pricing`, `/pricing?ref=mail#team` or `https://example.com/pricing`. All of
these are `/pricing`: scheme, host, query and fragment are left off, and a path begins with `/`. A fragment that begins
with `/` or `!/` stays: it is the route of a single-page application, as in `/#/settings`, not a place in the page. With
`database.path_queries` = `keep` the query stays, for sites that tell pages apart by it, as in `/item?id=7`. Campaign
parameters (`utm_source` and its like) are left off even then, because they say how somebody came to the page, not which
page it is. They have columns of their own.

Upper and lower case, percent-encoding and a slash at the end stay as they are: to a server, such paths may differ.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote_plus

from footfall.entry import MAX_PATH
from footfall.referrer import host_in

_ORIGIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
"""Scheme and host of an absolute address, RFC 3986, section 3."""
_ROUTES: Final = ("/", "!/")
_CAMPAIGN: Final = "utm_"
_CAMPAIGN_PARAMETERS: Final = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")
_OTHER_SOURCES: Final = ("source", "ref")
"""What links say instead of `utm_source`."""
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


class Address(NamedTuple):
    """What the address of a page tells, or its path.

    Attributes:
        path: the page that it names; `/` if it names none.
        campaign: how the visitor came to it.
        click_id: the name of the advertising click id that it has.
        host: empty if it is only a path.
    """

    path: str
    campaign: Campaign
    click_id: str | None
    host: str


NO_ADDRESS: Final = Address("", NO_CAMPAIGN, None, "")
"""That of an event which belongs to no page."""


@lru_cache(maxsize=8_192)
def read_address(address: str, *, keep_query: bool) -> Address:
    """Read the address or path of a page, as far as `MAX_PATH`; a campaign may be behind that."""
    path = page_of(address[:MAX_PATH], keep_query=keep_query)[:MAX_PATH]
    host = host_in(address) if "://" in address else ""
    query = address.partition("#")[0].partition("?")[2]
    return Address(path, _campaign_in(query), _click_id_in(query), host)


def page_of(path: str, *, keep_query: bool) -> str:
    """The page that a path or an address names; `/` if it names none."""
    rest = path.strip()
    if not rest.startswith("/") and (origin := _ORIGIN.match(rest)):
        rest = rest[origin.end() :]
    rest, _, fragment = rest.partition("#")
    page, _, query = rest.partition("?")
    if not page.startswith("/"):
        page = f"/{page}"
    route = f"#{fragment.partition('?')[0]}" if fragment.startswith(_ROUTES) else ""
    if query and keep_query:
        kept = "&".join(part for part in query.split("&") if part and not part.lower().startswith(_CAMPAIGN))
        return f"{page}?{kept}{route}" if kept else page + route
    return page + route


def _campaign_in(query: str) -> Campaign:
    """The campaign in a query. If a parameter is repeated, the first one counts."""
    lower = query.lower()
    if _CAMPAIGN not in lower and not any(f"{name}=" in lower for name in _OTHER_SOURCES):
        return NO_CAMPAIGN
    found: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if value:
            found.setdefault(name.lower(), unquote_plus(value)[:_MAX_CAMPAIGN])
    source, medium, campaign, term, content = (found.get(name) for name in _CAMPAIGN_PARAMETERS)
    source = source or next((found[name] for name in _OTHER_SOURCES if name in found), None)
    return source, medium, campaign, term, content


def _click_id_in(query: str) -> str | None:
    given = {name for name, _, value in (part.partition("=") for part in query.lower().split("&")) if value}
    return next((name for name in _CLICK_IDS if name in given), None)
