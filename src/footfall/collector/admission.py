"""Rules for what is recorded: of which sites, from which pages, how old, and whether visitors may object."""

import logging
from collections.abc import Callable, Mapping
from typing import Final

from footfall.entry import Entry, Event
from footfall.problem import FieldError, Problem
from footfall.referrer import host_of
from footfall.settings import Settings
from footfall.sites import Domains

UNKNOWN_SITE: Final = "unknown_site"
FOREIGN_ORIGIN: Final = "foreign_origin"
PRIVACY_SIGNAL: Final = "privacy_signal"
TOO_OLD: Final = "too_old"

_NOT_ACCEPTED: Final = "The event was not accepted."
_HOUR_NS: Final = 3_600 * 1_000_000_000

_log = logging.getLogger(__name__)

Headers = Mapping[bytes, bytes]
"""The headers of a request, by lower-case names."""


def admission_of(settings: Settings, is_trusted: Callable[[Headers, str | None], bool]) -> "Admission | None":
    """The rules that the settings ask for; None if they ask for none, so that a request costs nothing more."""
    collector = settings.collector
    if collector.only_known_sites and not settings.sites:
        _log.warning("refusing every hit and event: collector.only_known_sites is on, and no sites are listed")
    if collector.only_known_sites or collector.honour_privacy_signals or collector.max_age_hours is not None:
        return Admission(settings, is_trusted)
    return None


class Admission:
    """Checks hits and events. A refusal is a `Problem`: its text says why, and the ledger counts its `reason`.

    `Origin` and `Referer` name the page that a request comes from. A request with neither is accepted: servers, apps
    and pages with `no-referrer` send none. So the rule keeps out copies of the snippet on other people's pages. It does
    not stop somebody who writes requests by hand, because they can send any header.

    Args:
        settings: say which rules apply.
        is_trusted: whether a request with these headers, from this address, may have an old timestamp.
    """

    def __init__(self, settings: Settings, is_trusted: Callable[[Headers, str | None], bool]) -> None:
        collector = settings.collector
        self._honours_signals = collector.honour_privacy_signals
        self._max_age_hours = collector.max_age_hours
        self._sites: dict[str, Domains] | None = None
        if collector.only_known_sites:
            self._sites = {site_id: Domains(site.domains) for site_id, site in settings.sites.items()}
        self._is_trusted = is_trusted

    def check_visitor(self, headers: Headers) -> None:
        """Refuse a visitor who asks not to be counted, if the settings honour that; raises `Problem`.

        The signals are those of https://w3c.github.io/gpc/ and https://www.w3.org/TR/tracking-dnt/.
        """
        if self._honours_signals and (headers.get(b"sec-gpc") == b"1" or headers.get(b"dnt", b"").startswith(b"1")):
            raise Problem(
                403,
                "Nothing was recorded: the request asks not to be counted (Global Privacy Control or Do Not Track), "
                "and this server honours that (collector.honour_privacy_signals).",
                reason=PRIVACY_SIGNAL,
            )

    def check(self, headers: Headers, entry: Entry) -> None:
        """Check one entry of a request that has passed `check_visitor`; raises `Problem`."""
        if self._sites is not None:
            site_id = entry.site_id if isinstance(entry, Event) else entry.site_id or host_of(entry.referrer)
            self._check_site(headers, site_id)
        if isinstance(entry, Event):
            self._check_age(headers, entry)

    def _check_age(self, headers: Headers, event: Event) -> None:
        if self._max_age_hours is not None and event.occurred_us is not None:
            age_ns = event.received_ns - event.occurred_us * 1_000
            if age_ns > self._max_age_hours * _HOUR_NS and not self._is_trusted(headers, event.address):
                detail = (
                    f"is more than {self._max_age_hours} hours ago (collector.max_age_hours); an older one needs the "
                    "server's reporting.token, as in Authorization: Bearer TOKEN"
                )
                raise Problem(422, _NOT_ACCEPTED, [FieldError("timestamp", detail)], reason=TOO_OLD)

    def _check_site(self, headers: Headers, site_id: str) -> None:
        assert self._sites is not None
        domains = self._sites.get(site_id)
        if domains is None:
            detail = f"{site_id!r} is not a site that this server knows; its owner can add it to the setting sites"
            raise Problem(422, _NOT_ACCEPTED, [FieldError("site_id", detail)], reason=UNKNOWN_SITE)
        for name in (b"origin", b"referer"):
            page = headers.get(name, b"")
            if page not in _NO_PAGE and not domains.hold(host_of(page)):
                raise Problem(
                    403,
                    f"A page of {host_of(page) or 'no host'!r} ({name.decode()}) does not count for the site "
                    f"{site_id!r}. The server's owner can add the host to sites.{site_id}.domains.",
                    reason=FOREIGN_ORIGIN,
                )


_NO_PAGE: Final = {b"", b"null", b"about:blank"}
"""What browsers send when they don't tell the page's address (Fetch standard; RFC 9110, section 10.1.3)."""
