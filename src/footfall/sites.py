"""The sites in the settings: the hosts that their pages are on, and their time zones."""

import ipaddress
import re
import zoneinfo
from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from footfall.entry import MAX_SITE_ID

_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
"""Letters, digits and hyphens (RFC 1123, section 2.1), and the underscore that some inner networks use."""
_HOW_TO_WRITE_A_DOMAIN = (
    "write one as in blog.example, without scheme, port, path and *: it stands for all hosts below it, too"
)


class SiteSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What the settings say about a site.

    Attributes:
        domains: the hosts that its pages are on; each stands for all hosts below it, too. If there are none, any page
            may count for the site.
        time_zone: an IANA name, as in `Europe/Berlin`; None if the site has no time zone of its own.
    """

    domains: list[str] = []
    time_zone: str | None = None


def site_errors(sites: Mapping[str, SiteSettings]) -> Iterator[tuple[str, str]]:
    """The key of each value that is not allowed, and what is allowed there."""
    for site_id, site in sites.items():
        if not 1 <= len(site_id) <= MAX_SITE_ID or not _is_utf8(site_id):
            yield f"sites.{site_id!a}", f"a site id has 1 to {MAX_SITE_ID} characters, in UTF-8"
        for domain in site.domains:
            if canonical_host(domain) is None:
                yield f"sites.{site_id}.domains", f"{domain!r} is not a host; {_HOW_TO_WRITE_A_DOMAIN}"
        if site.time_zone is not None and not _is_time_zone(site.time_zone):
            reason = f"{site.time_zone!r} is not in this machine's time zone database; write a name as in Europe/Berlin"
            yield f"sites.{site_id}.time_zone", reason


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


def _is_time_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
