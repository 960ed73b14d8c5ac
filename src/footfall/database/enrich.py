"""Makes a row of a hit or an event: its site, page and visitor, where the visitor came from, and with what device.

Nothing here reads or writes anything. So a new version with better rules can make the database again from old batches.

- **Time**: the one given, as it was sent. Without one, the second in which the entry was received, and no more: the
  visits log has the time to 100 ns, so a precise one would lead from each row to an address.
- **Site**: the one given; for a hit without one, the host of its referrer, which is the page that shows the image.
- **Path**: the page (`footfall.database.page`) that the given path names. Without one: for a hit, the referrer's page;
  for any other page view, `/`; for an event of another type, the empty text, because it may belong to no page.
- **Campaign**: what the query of the page's address says (`utm_source` and its like). `source` or `ref` stand in for a
  missing `utm_source`. Of an advertising click id, it is kept which one it is.
- **Visitor**: a number of 128 bits. With a user id, it is a hash of site and user id, and lasts as long as the id does.
  Without one, it is a hash of site, address and user agent, keyed with a secret salt of the UTC day. A visitor's
  numbers on two sites have nothing in common, nor, without a user id, those on two days.
- **Country, region, city**: of the address, if a database of places is given. Nothing else uses the address.
- **Referrer**: as it was sent, up to its query, because a query may hold reset tokens and mail addresses.
- **Source** (`footfall.database.source`): the one that the campaign names; else the name of the site that led here, or
  its host without `www.`. A visit without a referrer, or from the same site, has none. The image has only the first:
  the referrer that a browser sends with it is the page that shows it, never the page before.
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
from typing import Any, Final, cast

import msgspec

from footfall.database.agent import agent_of, is_library
from footfall.database.geo import NOWHERE, FindPlace, nowhere
from footfall.database.page import NO_ADDRESS, NO_CAMPAIGN, Address, Campaign, read_address
from footfall.database.schema import NAMES, Row
from footfall.database.source import source_named, source_of
from footfall.entry import (
    MAX_HOST,
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


def enrich(
    entry: Entry,
    salts: Mapping[int, bytes],
    settings: DatabaseSettings = DatabaseSettings(),
    find_place: FindPlace = nowhere,
) -> Row | Skip:
    """The row of `entry`, or why it has none.

    Args:
        entry: as it came out of the queue.
        salts: the secret of each UTC day, by days since 1970; each has `SALT_BYTES`.
        settings: say what is kept of a path and of a referrer.
        find_place: tells where an address is.
    """
    occurred_us = entry.received_ns // 1_000_000_000 * 1_000_000
    user_id = entry.user_id
    props: str | None = None
    told: tuple[int | None, int | None, bool | None] = _NOTHING_TOLD
    screen = language = None
    reports = not isinstance(entry, Hit)
    if isinstance(entry, Hit):
        event_type = PAGE_VIEW
        site_id, path, referrer = _shown_on(entry.site_id, entry.path, entry.referrer)
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
        host = entry.host or ""
        if entry.occurred_us is not None:
            occurred_us = entry.occurred_us
        if entry.props:
            props = msgspec.json.encode(entry.props).decode()
        told = entry.scroll_depth, entry.engaged_ms, entry.interactive
        screen = _screen(entry.screen_width)
        language = _language(entry.language) if entry.language else None
    page, referrer_kept, source, campaign, hostname, click_id = _way(
        site_id, path, referrer, host, settings.path_queries == "keep", settings.referrer_queries == "keep"
    )
    utm_source, utm_medium, utm_campaign, utm_term, utm_content = campaign
    user_agent = entry.user_agent[:MAX_USER_AGENT_BYTES]
    if user_id:
        visitor = visitor_of(site_id, user_id)
    else:
        visitor = _unknown_visitor(salts[occurred_us // _DAY_US], site_id, entry.address or "", user_agent)
    browser, browser_version, os, os_version, device, bot, agent_text = agent_of(user_agent, reports=reports)
    country, region, city = find_place(entry.address) if entry.address else NOWHERE
    scroll_depth, engaged_ms, interactive = told
    # Without a star in it, this is made in one step.
    return (
        _EPOCH + timedelta(0, 0, occurred_us),
        site_id,
        event_type,
        page,
        visitor,
        user_id or None,
        referrer_kept,
        source,
        browser,
        os,
        device,
        props,
        utm_source,
        utm_medium,
        utm_campaign,
        utm_term,
        utm_content,
        hostname,
        browser_version,
        os_version,
        bot,
        screen,
        language,
        country,
        region,
        city,
        agent_text,
        click_id,
        scroll_depth,
        engaged_ms,
        interactive,
    )


def enrich_again(row: Row, settings: DatabaseSettings = DatabaseSettings()) -> Row:
    """A row by the present rules, from what is kept of its entry; its site, page, visitor, campaign and place stay.

    A row without a source stays without one, unless its campaign names one: its referrer may be the page itself.
    Whether a row with an HTTP library's user agent was an event or a hit is not kept, so it is a bot or none as before.
    """
    values: dict[str, Any] = dict(zip(NAMES, row, strict=True))
    if values["user_agent"]:
        agent = agent_of(values["user_agent"].encode())
        kept = {"device", "bot"} if is_library(values["user_agent"]) else set()
        values |= {name: value for name, value in agent._asdict().items() if name in values and name not in kept}
    if values["utm_source"]:
        values["source"] = source_named(values["utm_source"])
    elif values["referrer"] and values["source"]:
        values["source"] = source_of(values["referrer"], values["site_id"], values["hostname"] or "")
    if values["referrer"] and not settings.keeps_queries:
        values["referrer"] = without_query(values["referrer"]) or None
    return cast(Row, tuple(values.values()))


@lru_cache(maxsize=2_048)
def _shown_on(site_id: str | None, path: str | None, header: bytes) -> tuple[str, str, str]:
    """Site, path and referrer of a hit. What it does not name comes from the page that shows the image."""
    referrer = text_of(header)
    host = "" if site_id and path else host_in(referrer)
    return site_id or host, path or (referrer if host else "/"), referrer


@lru_cache(maxsize=4_096)
def _way(
    site_id: str,
    path: str,
    referrer: str,
    host: str | None,
    keeps_query: bool,  # noqa: FBT001 - a cache takes arguments by their place faster
    keeps_referrer_query: bool,  # noqa: FBT001
) -> tuple[str, str | None, str | None, Campaign, str | None, str | None]:
    """How a visitor came to a page: the page, the referrer as it is kept, source, campaign, host name and click id."""
    page = read_address(path, keep_query=keeps_query) if path else NO_ADDRESS
    if host is None and path != referrer:
        page = _on_page(page, referrer)
    hostname = host or page.host
    source = _source(page.campaign, referrer, site_id, None if host is None else hostname)
    kept = referrer if keeps_referrer_query else without_query(referrer)
    return page.path, kept or None, source, page.campaign, hostname[:MAX_HOST] or None, page.click_id


def _on_page(page: Address, referrer: str) -> Address:
    """What the path of the image tells, and the referrer beside it, which is the address of the page."""
    shown_on = read_address(referrer, keep_query=False)
    campaign = shown_on.campaign if page.campaign is NO_CAMPAIGN else page.campaign
    return Address(page.path, campaign, page.click_id or shown_on.click_id, page.host or shown_on.host)


def _source(campaign: Campaign, referrer: str, site_id: str, host: str | None) -> str | None:
    """The source that a link names, else the referrer's. The image's referrer is the page itself."""
    if campaign[0]:
        return source_named(campaign[0])
    return None if host is None or not referrer else source_of(referrer, site_id, host)


def visitor_of(site_id: str, user_id: str) -> int:
    """The number of a visitor with a user id."""
    return _number(blake2b(_pack((site_id, user_id)), digest_size=16))


def _unknown_visitor(salt: bytes, site_id: str, address: str, user_agent: bytes) -> int:
    return _number(blake2b(_pack((site_id, address, user_agent)), digest_size=16, key=salt))


def _number(digest: blake2b) -> int:
    return int.from_bytes(digest.digest(), "big", signed=True)


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
