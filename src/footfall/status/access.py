"""Decides who may read reports: whoever has the token, or, if none is set, the user that runs Footfall here.

The same may send events for visitors.
"""

import hmac
import ipaddress
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from footfall.problem import Problem
from footfall.rate_limit import RateLimiter, retry_after
from footfall.status import login, session
from footfall.status.local import Origin, is_local
from footfall.status.refusals import RefusalCounts

REQUESTS_PER_S: Final = 20
REQUESTS_BURST: Final = 200
"""How many requests of one address are answered: a page sends a dozen at once, and a person opens a few pages."""
GUESSES_PER_S: Final = 1
GUESSES_BURST: Final = 20
"""How many wrong tokens one address may send before no token of its is checked any more."""
DELAY_S: Final = 1.0
"""How long a wrong token waits for its answer."""
MAX_DELAYED: Final = 100
"""How many answers of a process may wait. More don't wait, because they would take up its memory."""
_LOGGED_EVERY_S: Final = 60
"""How often wrong tokens of one address are logged."""
_LOGGED_PER_S: Final = 1 / 6
_LOGGED_BURST: Final = 20
"""The limit for all addresses together."""
_MAX_LOGGED: Final = 1_000

_OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
_DOCUMENTATION: Final = re.compile(r"/openapi\.json|/api/v2/query/schema\.json|/docs(?:/.*)?", re.DOTALL)
_AUTHORIZATION: Final = re.compile(rb"bearer +(\S+) *", re.IGNORECASE)

_log = logging.getLogger(__name__)


class Refusal(NamedTuple):
    """Why a request is refused.

    Attributes:
        problem: the answer; its `reason` is one of `footfall.status.refusals.REASONS`.
        headers: the headers of the answer.
        delay_s: how long to wait before sending it, seconds.
        page: what a person's browser is shown in place of the problem, HTML; empty for a program.
    """

    problem: Problem
    headers: Mapping[str, str] = {}
    delay_s: float = 0.0
    page: bytes = b""


_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="Footfall"'}
"""RFC 6750, section 3."""
_NO_TOKEN: Final = Refusal(
    Problem(401, "Reports need the header Authorization: Bearer TOKEN.", reason="no_token"), _CHALLENGE
)
_NO_SESSION: Final = Refusal(_NO_TOKEN.problem, login.HEADERS, page=login.page())
_WRONG_TOKEN: Final = Refusal(
    Problem(401, "The token is not the one in reporting.token.", reason="wrong_token"), _CHALLENGE, DELAY_S
)
_NOT_LOCAL: Final = Refusal(
    Problem(
        403,
        "Without a token, reports answer only the user that runs Footfall, or root, on the same machine: at localhost, "
        "over HTTP/1.1 and through no proxy. To read them from elsewhere, set reporting.token, or connect as that user "
        "with ssh -L 8000:localhost:8000 HOST.",
        reason="not_local",
    )
)
_NOT_LOCAL_FOR_PEOPLE: Final = Refusal(_NOT_LOCAL.problem, login.HEADERS, page=login.closed_page())
_EVENT_WITHOUT_TOKEN: Final = Refusal(
    Problem(
        401,
        "An event with ip or user_agent is sent for a visitor. That needs the header Authorization: Bearer TOKEN, with "
        "the server's reporting.token. If the sender is the visitor, leave both fields out.",
        reason="no_token",
    ),
    _CHALLENGE,
)
_EVENT_NOT_LOCAL: Final = Refusal(
    Problem(
        403,
        "An event with ip or user_agent is sent for a visitor. That needs a token: set reporting.token on the server, "
        "and send it as Authorization: Bearer TOKEN. Without one, only the user that runs Footfall, or root, may send "
        "such events, on the same machine, to localhost, and from no web page. If the sender is the visitor, leave "
        "both fields out.",
        reason="not_local",
    )
)


def _peer(peer: str | None, _forwarded: bytes | None) -> str | None:
    return peer


class ReportAccess:
    """Decides on each request for a report. Any request that is not known to be harmless counts as one.

    Health and readiness are open to all. If a token is set, the documentation is open, too: it holds no data, and a
    browser that opens it sends no token. Only one thread may call the methods.

    Each address has its own limits, but addresses of private networks have none. Behind a proxy that
    `collector.trusted_proxies` does not name, all requests have such an address, so one stranger could keep out
    everybody else.

    Args:
        token: `reporting.token`; None if it is not set.
        address_of: finds the client's address from the peer's address and `X-Forwarded-For`.
        refusals: counts what is refused.
        writer: the number of this process among those that count in `refusals`.
        clock: seconds, never going back.
    """

    def __init__(
        self,
        token: str | None,
        *,
        address_of: Callable[[str | None, bytes | None], str | None] = _peer,
        refusals: RefusalCounts | None = None,
        writer: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token = None if token is None else token.encode()
        self._address_of = address_of
        self.refusals = refusals or RefusalCounts()
        self._writer = writer
        self._requests = RateLimiter(REQUESTS_PER_S, burst=REQUESTS_BURST, clock=clock)
        self._guesses = RateLimiter(GUESSES_PER_S, burst=GUESSES_BURST, clock=clock)
        self._logged = RateLimiter(1 / _LOGGED_EVERY_S, burst=1, max_addresses=_MAX_LOGGED, clock=clock)
        self._logged_together = RateLimiter(_LOGGED_PER_S, burst=_LOGGED_BURST, clock=clock)

    def refusal(self, path: str, headers: Mapping[bytes, bytes], origin: Origin) -> Refusal | None:
        """Why a request must not be answered (401, 403 or 429), or None. A refusal is counted.

        Args:
            path: the path of the request.
            headers: by lower-case names; the values of a repeated one are joined by commas.
            origin: where the request came from.
        """
        refusal = self._refusal(path, headers, origin)
        if refusal is not None:
            assert refusal.problem.reason is not None
            self.refusals.count(refusal.problem.reason, self._writer)
        return refusal

    def has_token(self, headers: Mapping[bytes, bytes], address: str | None) -> bool:
        """Whether a request of `address` has the token; never if none is set. Wrong tokens count for the limit."""
        return self._token is not None and self._check_token(self._token, headers, address) is None

    def refusal_of_sender(
        self, headers: Mapping[bytes, bytes], address: str | None, origin: Callable[[], Origin]
    ) -> Refusal | None:
        """Why a request of `address` must not speak for visitors (401, 403 or 429), or None.

        It is not counted here. Wrong tokens count for the limit. If no token is set, a page in the browser of the user
        that runs Footfall has no say, because it may be anybody's page.

        Args:
            headers: as above.
            address: the client's.
            origin: says where the request came from; it is asked only if no token is set.
        """
        if self._token is None:
            is_of_page = b"origin" in headers or b"sec-fetch-mode" in headers
            return None if not is_of_page and is_local(headers, origin()) else _EVENT_NOT_LOCAL
        refusal = self._check_token(self._token, headers, address)
        return _EVENT_WITHOUT_TOKEN if refusal is _NO_TOKEN else refusal

    def _refusal(self, path: str, headers: Mapping[bytes, bytes], origin: Origin) -> Refusal | None:
        if path in _OPEN_PATHS:
            return None
        if self._token is None:
            refusal = _NOT_LOCAL_FOR_PEOPLE if _is_browser(headers) else _NOT_LOCAL
            return None if is_local(headers, origin) else refusal
        if _DOCUMENTATION.fullmatch(path):
            return None
        address = self._address_of(_address(origin), headers.get(b"x-forwarded-for"))
        if path == login.PATH:
            # Each try of a token costs one guess, whether it is the right one or not.
            wait_s = self._guesses.take(_limited(address))
            return _too_many("Too many tokens were tried from this address.", wait_s) if wait_s else None
        wait_s = self._requests.take(_limited(address))
        if wait_s:
            return _too_many("Too many reports are asked for from this address.", wait_s)
        return self._check_token(self._token, headers, address)

    def _check_token(self, token: bytes, headers: Mapping[bytes, bytes], address: str | None) -> Refusal | None:
        sent = _AUTHORIZATION.fullmatch(headers.get(b"authorization", b""))
        if sent is None:
            if session.is_in(headers.get(b"cookie", b""), token):
                return None
            return _NO_SESSION if _is_browser(headers) else _NO_TOKEN
        wait_s = self._guesses.take(_limited(address), cost=0)
        if wait_s:
            return _too_many("Too many wrong tokens came from this address.", wait_s)
        if hmac.compare_digest(sent[1], token):
            return None
        self._guesses.take(_limited(address))
        if not self._logged.take(address or "") and not self._logged_together.take(""):
            _log.warning("a wrong token for reports came from %s", address)
        return _WRONG_TOKEN


def _is_browser(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a person asks, who reads a page rather than a problem."""
    return b"text/html" in headers.get(b"accept", b"")


def _address(origin: Origin) -> str | None:
    """The peer's address. A listener on `::` is told IPv4 addresses as IPv6 ones, all of one network."""
    if origin.peer is None:
        return None
    address = ipaddress.ip_address(origin.peer[0].partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _limited(address: str | None) -> str | None:
    """The address to limit, or None for an address without limits."""
    return None if address is None or ipaddress.ip_address(address.partition("%")[0]).is_private else address


def _too_many(detail: str, wait_s: float) -> Refusal:
    return Refusal(Problem(429, detail, reason="rate_limited"), {"Retry-After": retry_after(wait_s)})
