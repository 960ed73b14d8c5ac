"""The sites in the settings: the hosts that their pages are on, their time zones, goals and funnels."""

import ipaddress
import re
import zoneinfo
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Final

from msgspec import Meta, Struct

from footfall.entry import MAX_EVENT_TYPE, MAX_PROPS, MAX_SITE_ID

MAX_PAGE: Final = 400
"""Characters of the page of a goal."""
MIN_STEPS: Final = 2
MAX_STEPS: Final = 20
"""Of a funnel."""

_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
"""Letters, digits and hyphens (RFC 1123, section 2.1), and the underscore that some inner networks use."""
_HOW_TO_WRITE_A_DOMAIN = (
    "write one as in blog.example, without scheme, port, path and *: it stands for all hosts below it, too"
)


_Name = Annotated[str, Meta(min_length=1, max_length=128)]


class GoalSettings(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Something that a site wants its visitors to do: view a page, or cause an event.

    Attributes:
        name: as reports show it.
        page: the path of the page, in which `*` stands for any characters; instead of `event`.
        event: the event's type; instead of `page`.
        props: what the event must have besides: values, as texts, by name.
    """

    name: _Name
    page: Annotated[str, Meta(min_length=1, max_length=MAX_PAGE)] | None = None
    event: Annotated[str, Meta(min_length=1, max_length=MAX_EVENT_TYPE)] | None = None
    props: Annotated[dict[str, str], Meta(max_length=MAX_PROPS)] = {}


class FunnelSettings(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Goals that visitors reach one after the other.

    Attributes:
        name: as reports show it.
        steps: the names of goals, in their order.
    """

    name: _Name
    steps: list[str]


class SiteSettings(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the settings say about a site.

    Attributes:
        name: what people call it; None for its id.
        group: what it is listed under, together with others; None for nothing.
        domains: the hosts that its pages are on; each stands for all hosts below it, too. If there are none, any page
            may count for the site.
        time_zone: an IANA name, as in `Europe/Berlin`; None if the site has no time zone of its own.
        goals: what reports can count as a goal.
        funnels: what reports can follow step by step.
    """

    name: _Name | None = None
    group: _Name | None = None
    domains: list[str] = []
    time_zone: str | None = None
    goals: list[GoalSettings] = []
    funnels: list[FunnelSettings] = []


def site_errors(sites: Mapping[str, SiteSettings]) -> Iterator[tuple[str, str]]:
    """The key of each value that is not allowed, and what is allowed there."""
    for site_id, site in sites.items():
        if not 1 <= len(site_id) <= MAX_SITE_ID or not _is_utf8(site_id):
            yield f"sites.{site_id!a}", f"a site id has 1 to {MAX_SITE_ID} characters, in UTF-8"
        for domain in site.domains:
            if canonical_host(domain) is None:
                yield f"sites.{site_id}.domains", f"{domain!r} is not a host; {_HOW_TO_WRITE_A_DOMAIN}"
        if site.time_zone is not None and not is_time_zone(site.time_zone):
            yield f"sites.{site_id}.time_zone", no_time_zone(site.time_zone)
        yield from _goal_errors(f"sites.{site_id}", site)


def is_time_zone(name: str) -> bool:
    """Whether this machine knows a time zone of that name."""
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def no_time_zone(name: str) -> str:
    """Why a name is refused that is not that of a time zone."""
    return f"{name!r} is not in this machine's time zone database; write a name as in Europe/Berlin"


def canonical_host(text: str) -> str | None:
    """A host as browsers send it: lower case, Punycode, no dot at the end. None if the text is not a host."""
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        pass
    try:
        host = text.lower().removesuffix(".").encode("idna").decode()
    except UnicodeError:
        return None
    return host if _HOST.fullmatch(host) else None


class Domains:
    """The hosts of one site's pages.

    Args:
        domains: as in `SiteSettings`.
    """

    def __init__(self, domains: Iterable[str]) -> None:
        self._hosts = {canonical_host(domain) for domain in domains}

    def hold(self, host: str) -> bool:
        """Whether a page on `host` (as browsers send it, in lower case) is the site's; without domains, any page is."""
        if not self._hosts:
            return True
        rest = host.removesuffix(".")
        while rest:
            if rest in self._hosts:
                return True
            rest = rest.partition(".")[2]
        return False


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _goal_errors(key: str, site: SiteSettings) -> Iterator[tuple[str, str]]:
    for index, goal in enumerate(site.goals):
        if (goal.page is None) == (goal.event is None):
            yield f"{key}.goals[{index}]", f"{goal.name!r} needs either page or event, and not both"
        if goal.page is not None and not goal.page.startswith(("/", "*")):
            yield f"{key}.goals[{index}].page", f"{goal.page!r} must begin with / or *: it is a path, as in /blog/*"
        if goal.props and goal.event is None:
            yield f"{key}.goals[{index}].props", "goes with event"
        if "" in goal.props:
            yield f"{key}.goals[{index}].props", "each needs a name"
    yield from _repeated(f"{key}.goals", [goal.name for goal in site.goals])
    known = {goal.name for goal in site.goals}
    for index, funnel in enumerate(site.funnels):
        if not MIN_STEPS <= len(funnel.steps) <= MAX_STEPS:
            yield f"{key}.funnels[{index}].steps", f"{funnel.name!r} needs {MIN_STEPS} to {MAX_STEPS} steps"
        for step in funnel.steps:
            if step not in known:
                there = ", ".join(sorted(known)) or "none"
                yield (
                    f"{key}.funnels[{index}].steps",
                    f"{step!r} is none of the site's goals: {there}",
                )
    yield from _repeated(f"{key}.funnels", [funnel.name for funnel in site.funnels])


def _repeated(key: str, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name, count in Counter(names).items():
        if count > 1:
            yield key, f"the name {name!r} is given {count} times; each needs its own"
