"""Who may read reports: whoever has the token, or, where none is set, whoever sits at this machine."""

import hmac
import ipaddress
import re
from collections.abc import Mapping
from typing import Final

from footfall.problem import Problem

CHALLENGE: Final = 'Bearer realm="Footfall"'
"""What `WWW-Authenticate` holds in a 401, RFC 6750."""

_OPEN_PATHS = {"/healthz", "/readyz", "/docs", "/openapi.json"}
_OPEN_PREFIX = "/docs/"

_PROXY_HEADERS = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via")
_AUTHORIZATION = re.compile(rb"bearer +(\S+) *", re.IGNORECASE)
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s:\[\]]+))(?::[0-9]*)?")


class ReportAccess:
    """Decides on each request for a report; anything that is not known to be harmless counts as one.

    Health, readiness and the documentation hold no data and are open to all. Without a token the listener is on a
    loopback address, but that alone does not tell who asks: a page from anywhere can point its own name at 127.0.0.1
    (DNS rebinding), and a proxy on this machine brings in strangers. So then the `Host` must be a loopback name,
    and no header may tell of a proxy.

    Args:
        token: `reporting.token`; None where it is not set.
        on_loopback: whether the listener is reached from this machine only; if not, nothing is open without a token.
    """

    def __init__(self, token: str | None, *, on_loopback: bool = True) -> None:
        self._token = None if token is None else token.encode()
        self._on_loopback = on_loopback

    def refusal(self, path: str, headers: Mapping[bytes, bytes]) -> Problem | None:
        """Why a request must not be answered (401 or 403), or None. `headers` has lower-case names."""
        if path in _OPEN_PATHS or path.startswith(_OPEN_PREFIX):
            return None
        if self._token is None:
            return None if self._on_loopback and _is_local(headers) else _not_local()
        sent = _AUTHORIZATION.fullmatch(headers.get(b"authorization", b""))
        if sent is None:
            return Problem(401, "Reports need the header Authorization: Bearer TOKEN.")
        if not hmac.compare_digest(sent[1], self._token):
            return Problem(401, "The token is not the one in reporting.token.")
        return None


def _not_local() -> Problem:
    return Problem(
        403,
        "Without a token reports answer only to this machine, by a name such as localhost and not through a proxy. "
        "Set reporting.token to read them from elsewhere.",
    )


def _is_local(headers: Mapping[bytes, bytes]) -> bool:
    if any(name in headers for name in _PROXY_HEADERS):
        return False
    host = _HOST.fullmatch(headers.get(b"host", b"").decode("latin-1").lower())
    if host is None:
        return False
    name = (host[1] or host[2]).removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
