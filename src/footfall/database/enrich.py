"""Makes a row of a hit or an event: its site, page and visitor, where the visitor came from, and with what device.

Nothing here reads or writes anything. So a new version with better rules can make the database again from old batches.

- **Time**: the one given, as it was sent. Without one, the second in which the entry was received, and no more: the
  visits log has the time to 100 ns, so a precise one would lead from each row to an address.
- **Site**: the one given; for a hit without one, the host of its referrer, which is the page that shows the image.
- **Path**: the page (`footfall.database.page`) that the given path names. Without one: for a hit, the referrer's page;
  for any other page view, `/`; for an event of another type, the empty text, because it may belong to no page.
- **Campaign**: what the query of the page's address says (`utm_source` and its like).
- **Visitor**: a number of 128 bits. With a user id, it is a hash of site and user id, and lasts as long as the id does.
  Without one, it is a hash of site, address and user agent, keyed with a secret salt of the UTC day. A visitor's
  numbers on two sites have nothing in common, nor, without a user id, those on two days. Nothing else uses the address.
- **Referrer**: as it was sent, up to its query, because a query may hold reset tokens and mail addresses.
- **Source**: the name of the site that led here (see `_SOURCES`), or its host without `www.`. A visit without a
  referrer, or from the same site, has none. Nor has the image: the referrer that a browser sends with it is the page
  that shows it, never the page before.
- **Host name**: that of the page, as far as the request tells: its `Origin`, an absolute path, the image's referrer.
- **Browser, system, device, bot**: what the user agent tells (`footfall.database.agent`). Its text is kept as well, so
  that later rules can read it.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from typing import Final

import msgspec

from footfall.database.agent import agent_of
from footfall.database.page import NO_CAMPAIGN, Campaign, campaign_of, click_id_of, page_of
from footfall.database.schema import Row
from footfall.entry import (
    MAX_HOST,
    MAX_PATH,
    MAX_SITE_ID,
    MAX_USER_AGENT_BYTES,
    MAX_USER_ID,
    PAGE_VIEW,
    Entry,
    Hit,
)
from footfall.referrer import host_in, text_of, without_query
from footfall.settings import DatabaseSettings

SALT_BYTES: Final = 16
"""The length of the hash that a salt keys."""

_DAY_US: Final = 24 * 60 * 60 * 1_000_000
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - databases hold UTC without saying so
_pack: Final = msgspec.msgpack.Encoder().encode
"""MessagePack keeps fields apart, so that no two visitors are hashed from the same bytes."""

_SOURCES: Final = {
    "baidu.com": "Baidu",
    "bing.com": "Bing",
    "bsky.app": "Bluesky",
    "chatgpt.com": "ChatGPT",
    "com.google.android.gm": "Gmail",
    "com.google.android.googlequicksearchbox": "Google",
    "com.linkedin.android": "LinkedIn",
    "com.reddit.frontpage": "Reddit",
    "duckduckgo.com": "DuckDuckGo",
    "ecosia.org": "Ecosia",
    "facebook.com": "Facebook",
    "fb.com": "Facebook",
    "fb.me": "Facebook",
    "github.com": "GitHub",
    "instagram.com": "Instagram",
    "kagi.com": "Kagi",
    "linkedin.com": "LinkedIn",
    "lnkd.in": "LinkedIn",
    "mail.google.com": "Gmail",
    "naver.com": "Naver",
    "news.ycombinator.com": "Hacker News",
    "org.telegram.messenger": "Telegram",
    "perplexity.ai": "Perplexity",
    "qwant.com": "Qwant",
    "redd.it": "Reddit",
    "reddit.com": "Reddit",
    "search.brave.com": "Brave",
    "seznam.cz": "Seznam",
    "startpage.com": "Startpage",
    "t.co": "X",
    "t.me": "Telegram",
    "threads.net": "Threads",
    "tiktok.com": "TikTok",
    "twitter.com": "X",
    "vk.com": "VK",
    "wikipedia.org": "Wikipedia",
    "x.com": "X",
    "ya.ru": "Yandex",
    "youtu.be": "YouTube",
    "youtube.com": "YouTube",
}
"""The names of well-known hosts and of all hosts below them. Android apps send `android-app://com.example`."""

_DEEPEST_SOURCE: Final = max(host.count(".") + 1 for host in _SOURCES)

_SOURCES_IN_ALL_COUNTRIES: Final = {
    "google": "Google",
    "pinterest": "Pinterest",
    "yahoo": "Yahoo",
    "yandex": "Yandex",
}
"""The names of sites with a domain in each country: `google.de`, `google.co.uk`, `google.com.br`."""

_NOTHING_TOLD: Final = (None, None, None)
_SCREENS: Final = ((576, "mobile"), (992, "tablet"), (1_440, "laptop"))
"""Widths in CSS pixels, below which a screen is of that class."""
_LARGEST_SCREEN: Final = "desktop"
_LANGUAGE: Final = re.compile(r"([A-Za-z]{2,8})(?:[-_]([A-Za-z]{4}))?(?:[-_]([A-Za-z]{2}|[0-9]{3}))?(?![A-Za-z0-9])")
"""Language, script and region, RFC 5646, section 2.1; some clients write an underscore."""


class Skip(StrEnum):
    """Why an entry has no row."""

    NO_SITE = "no_site"
    SITE_ID_TOO_LONG = "site_id_too_long"


def enrich(entry: Entry, salts: Mapping[int, bytes], settings: DatabaseSettings = DatabaseSettings()) -> Row | Skip:
    """The row of `entry`, or why it has none.

    Args:
        entry: as it came out of the queue.
        salts: the secret of each UTC day, by days since 1970; each has `SALT_BYTES`.
        settings: say what is kept of a path and of a referrer.
    """
    occurred_us = entry.received_ns // 1_000_000_000 * 1_000_000
    user_id = entry.user_id
    props: str | None = None
    told: tuple[int | None, int | None, bool | None] = _NOTHING_TOLD
    screen = language = None
    if isinstance(entry, Hit):
        referrer = text_of(entry.referrer)
        event_type = PAGE_VIEW
        site_id, path = _site_and_path(entry, referrer)
        host = entry.host
        if not site_id:
            return Skip.NO_SITE
        if len(site_id) > MAX_SITE_ID:
            return Skip.SITE_ID_TOO_LONG
        if user_id and len(user_id) > MAX_USER_ID:
            user_id = None
    else:
        referrer = entry.referrer or ""
        event_type = entry.event_type
        site_id = entry.site_id
        path = entry.path or ("/" if event_type == PAGE_VIEW else "")
        host = entry.host or (host_in(path) if "://" in path else "")
        if entry.occurred_us is not None:
            occurred_us = entry.occurred_us
        if entry.props:
            props = msgspec.json.encode(entry.props).decode()
        told = entry.scroll_depth, entry.engaged_ms, entry.interactive
        screen = _screen(entry.screen_width)
        language = _language(entry.language) if entry.language else None
    hostname = host or (host_in(path) if "://" in path else "") or (host_in(referrer) if host is None else "")
    campaign = _campaign(path, referrer, host)
    click_id = click_id_of(path) or (click_id_of(referrer) if host is None else None)
    if path:
        path = page_of(path[:MAX_PATH], keep_query=settings.path_queries == "keep")[:MAX_PATH]
    user_agent = entry.user_agent[:MAX_USER_AGENT_BYTES]
    if user_id:
        visitor = visitor_of(site_id, user_id)
    else:
        visitor = _unknown_visitor(salts[occurred_us // _DAY_US], site_id, entry.address or "", user_agent)
    browser, browser_version, os, os_version, device, bot, agent_text = agent_of(user_agent)
    source = None if host is None or not referrer else source_of(referrer, site_id, host)
    if not settings.keeps_queries:
        referrer = without_query(referrer)
    return (
        _EPOCH + timedelta(0, 0, occurred_us),
        site_id,
        event_type,
        path,
        visitor,
        user_id or None,
        referrer or None,
        source,
        browser,
        os,
        device,
        props,
        *campaign,
        hostname[:MAX_HOST] or None,
        browser_version,
        os_version,
        bot,
        screen,
        language,
        None,
        None,
        None,
        agent_text,
        click_id,
        *told,
    )


def _site_and_path(hit: Hit, referrer: str) -> tuple[str, str]:
    """The site and path of a hit. What it does not name comes from its referrer, the page that shows the image."""
    host = "" if hit.site_id and hit.path else host_in(referrer)
    return hit.site_id or host, hit.path or (referrer if host else "/")


def _campaign(path: str, referrer: str, host: str | None) -> Campaign:
    """The campaign in the page's address. For the image, the referrer is that page's address, too."""
    campaign = campaign_of(path)
    return campaign_of(referrer) if campaign is NO_CAMPAIGN and host is None else campaign


@lru_cache(maxsize=2_048)
def source_of(referrer: str, site_id: str, host: str = "") -> str | None:
    """The source of a visit to `site_id`, on `host` if known. None for the same site or a referrer without a host."""
    source = host_in(referrer)
    if not source or source.removeprefix("www.") in {_bare(site_id), _bare(host)}:
        return None
    return _name(source)


def _bare(host: str) -> str:
    return host.lower().removeprefix("www.")


def visitor_of(site_id: str, user_id: str) -> int:
    """The number of a visitor with a user id."""
    return _number(blake2b(_pack((site_id, user_id)), digest_size=16))


def _unknown_visitor(salt: bytes, site_id: str, address: str, user_agent: bytes) -> int:
    return _number(blake2b(_pack((site_id, address, user_agent)), digest_size=16, key=salt))


def _number(digest: blake2b) -> int:
    return int.from_bytes(digest.digest(), "big", signed=True)


def _name(host: str) -> str:
    labels = host.split(".")
    for depth in range(_DEEPEST_SOURCE, 0, -1):
        name = _SOURCES.get(".".join(labels[-depth:]))
        if name is not None:
            return name
    match labels:
        case [*_, name, "com"] | [*_, name, "com" | "co", _] if name in _SOURCES_IN_ALL_COUNTRIES:
            return _SOURCES_IN_ALL_COUNTRIES[name]
        case [*_, name, country] if len(country) == 2 and name in _SOURCES_IN_ALL_COUNTRIES:
            return _SOURCES_IN_ALL_COUNTRIES[name]
    return host.removeprefix("www.")


def _screen(width: int | None) -> str | None:
    """The class of a screen; 0 is not a width."""
    if not width:
        return None
    return next((name for limit, name in _SCREENS if width < limit), _LARGEST_SCREEN)


@lru_cache(maxsize=1_024)
def _language(tag: str) -> str | None:
    """A language tag, up to its region, in its usual letters; None if it is not one."""
    found = _LANGUAGE.match(tag)
    if found is None:
        return None
    language, script, region = found.groups()
    return "-".join([language.lower(), *([script.title()] if script else []), *([region.upper()] if region else [])])
