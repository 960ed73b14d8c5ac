"""Who may read reports: whoever has the token, or, where none is set, the user of this machine that runs Footfall."""

import hmac
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from footfall.problem import Problem
from footfall.status.local import Origin, is_local

_OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
_DOCUMENTATION: Final = re.compile(r"/openapi\.json|/docs(?:/.*)?", re.DOTALL)
_AUTHORIZATION: Final = re.compile(rb"bearer +(\S+) *", re.IGNORECASE)


class Refusal(NamedTuple):
    """Why a request for a report is not answered: the problem, and the headers that go with it."""

    problem: Problem
    headers: Mapping[str, str] = {}


_NO_TOKEN: Final = Refusal(
    Problem(401, "Reports need the header Authorization: Bearer TOKEN."),
    {"WWW-Authenticate": 'Bearer realm="Footfall"'},
)
_WRONG_TOKEN: Final = Refusal(Problem(401, "The token is not the one in reporting.token."), _NO_TOKEN.headers)
_NOT_LOCAL: Final = Refusal(
    Problem(
        403,
        "Without a token, reports answer only the user that runs Footfall, or root, on the same machine: at localhost, "
        "over HTTP/1.1 and through no proxy. To read them from elsewhere, set reporting.token, or connect as that user "
        "with ssh -L 8000:localhost:8000 HOST.",
    )
)


class ReportAccess:
    """Decides on each request for a report; anything that is not known to be harmless counts as one.

    Health and readiness are open to all. With a token the documentation is, too: it holds no data, and a browser that
    opens it sends no token.

    Args:
        token: `reporting.token`; None where it is not set.
    """

    def __init__(self, token: str | None) -> None:
        self._token = None if token is None else token.encode()

    def refusal(self, path: str, headers: Mapping[bytes, bytes], origin: Origin) -> Refusal | None:
        """Why a request must not be answered (401 or 403), or None.

        Args:
            path: what is asked for.
            headers: by lower-case names; of a repeated one, the values joined by commas.
            origin: where the request came from.
        """
        if path in _OPEN_PATHS:
            return None
        if self._token is None:
            return None if is_local(headers, origin) else _NOT_LOCAL
        if _DOCUMENTATION.fullmatch(path):
            return None
        sent = _AUTHORIZATION.fullmatch(headers.get(b"authorization", b""))
        if sent is None:
            return _NO_TOKEN
        return None if hmac.compare_digest(sent[1], self._token) else _WRONG_TOKEN

    def has_token(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request holds the token; if none is set, none does."""
        sent = _AUTHORIZATION.fullmatch(headers.get(b"authorization", b""))
        return self._token is not None and sent is not None and hmac.compare_digest(sent[1], self._token)
