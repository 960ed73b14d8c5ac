"""Who may read reports: whoever has the token, or, where none is set, the user of this machine that runs Footfall."""

import hmac
import ipaddress
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from footfall.problem import Problem
from footfall.rate_limit import RateLimiter, retry_after
from footfall.status.local import Origin, is_local
from footfall.status.refusals import RefusalCounts

REQUESTS_PER_S: Final = 20
REQUESTS_BURST: Final = 200
"""For one address; a page asks a dozen questions at once, and a person opens a few pages."""
GUESSES_PER_S: Final = 1
GUESSES_BURST: Final = 20
"""Wrong tokens of one address, before a token of it is not looked at any more."""
DELAY_S: Final = 1.0
"""Before a wrong token is answered."""
MAX_DELAYED: Final = 100
"""Answers of a process that wait so long; beyond it they don't wait, or they would hold its memory."""
_LOGGED_EVERY_S: Final = 60
"""For one address."""
_LOGGED_PER_S: Final = 1 / 6
_LOGGED_BURST: Final = 20
"""For all of them together."""
_MAX_LOGGED: Final = 1_000

_OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
_DOCUMENTATION: Final = re.compile(r"/openapi\.json|/docs(?:/.*)?", re.DOTALL)
_AUTHORIZATION: Final = re.compile(rb"bearer +(\S+) *", re.IGNORECASE)

_log = logging.getLogger(__name__)


class Refusal(NamedTuple):
    """Why a request for a report is not answered.

    Attributes:
        problem: what to say; its `reason` is one of `footfall.status.refusals.REASONS`.
        headers: what goes with it.
        delay_s: how long to wait before saying it.
    """

    problem: Problem
    headers: Mapping[str, str] = {}
    delay_s: float = 0.0


_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="Footfall"'}
"""RFC 6750, section 3."""
_NO_TOKEN: Final = Refusal(
    Problem(401, "Reports need the header Authorization: Bearer TOKEN.", reason="no_token"), _CHALLENGE
)
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


def _peer(peer: str | None, _forwarded: bytes | None) -> str | None:
    return peer


class ReportAccess:
    """Decides on each request for a report; anything that is not known to be harmless counts as one.

    Health and readiness are open to all. With a token the documentation is, too: it holds no data, and a browser that
    opens it sends no token. All methods are for one thread.

    Limits are by address, and those of private networks have none: behind a proxy that `collector.trusted_proxies` does
    not name, all the world has such an address, and one stranger could keep out everybody else.

    Args:
        token: `reporting.token`; None where it is not set.
        address_of: whose request it is, by the peer's address and `X-Forwarded-For`.
        refusals: where what is refused is counted.
        writer: the number of this process among those that count there.
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
            path: what is asked for.
            headers: by lower-case names; of a repeated one, the values joined by commas.
            origin: where the request came from.
        """
        refusal = self._refusal(path, headers, origin)
        if refusal is not None:
            assert refusal.problem.reason is not None
            self.refusals.count(refusal.problem.reason, self._writer)
        return refusal

    def has_token(self, headers: Mapping[bytes, bytes], address: str | None) -> bool:
        """Whether a request of `address` holds the token; if none is set, none does. Wrong ones are limited as ever."""
        return self._token is not None and self._check_token(self._token, headers, address) is None

    def _refusal(self, path: str, headers: Mapping[bytes, bytes], origin: Origin) -> Refusal | None:
        if path in _OPEN_PATHS:
            return None
        if self._token is None:
            return None if is_local(headers, origin) else _NOT_LOCAL
        if _DOCUMENTATION.fullmatch(path):
            return None
        address = self._address_of(origin.peer and origin.peer[0], headers.get(b"x-forwarded-for"))
        wait_s = self._requests.take(_limited(address))
        if wait_s:
            return _too_many("Too many reports are asked for from this address.", wait_s)
        return self._check_token(self._token, headers, address)

    def _check_token(self, token: bytes, headers: Mapping[bytes, bytes], address: str | None) -> Refusal | None:
        sent = _AUTHORIZATION.fullmatch(headers.get(b"authorization", b""))
        if sent is None:
            return _NO_TOKEN
        wait_s = self._guesses.take(_limited(address), cost=0)
        if wait_s:
            return _too_many("Too many wrong tokens came from this address.", wait_s)
        if hmac.compare_digest(sent[1], token):
            return None
        self._guesses.take(_limited(address))
        if not self._logged.take(address or "") and not self._logged_together.take(""):
            _log.warning("a wrong token for reports came from %s", address)
        return _WRONG_TOKEN


def _limited(address: str | None) -> str | None:
    """Whose limit counts for an address; None if none does."""
    return None if address is None or ipaddress.ip_address(address.partition("%")[0]).is_private else address


def _too_many(detail: str, wait_s: float) -> Refusal:
    return Refusal(Problem(429, detail, reason="rate_limited"), {"Retry-After": retry_after(wait_s)})
