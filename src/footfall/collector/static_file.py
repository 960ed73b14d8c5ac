"""A file that the collector serves from memory, to everybody and to pages of any site."""

import gzip
import hashlib
from typing import Final

from footfall.collector.message import NOSNIFF, Request, Response
from footfall.collector.route import ANY_ORIGIN
from footfall.problem import Problem

_NOT_ALLOWED = Response.of(Problem(405, "This path takes GET, HEAD."), {**ANY_ORIGIN, "allow": "GET, HEAD"})
_BEST: Final = 9


class StaticFile:
    """A file, with all its answers ready.

    Browsers keep it for a while and then ask whether it has changed (`ETag`, RFC 9110, section 8.8.3). The tag is weak
    because it stands for the file as it is and for the compressed one.

    Attributes:
        path: where it is served.

    Args:
        path: where to serve it.
        body: its bytes.
        content_type: what they are.
        max_age_s: how long a browser need not ask.
    """

    def __init__(self, path: bytes, body: bytes, content_type: str, *, max_age_s: int) -> None:
        self.path = path
        tag = f'W/"{hashlib.sha256(body).hexdigest()[:16]}"'
        self._tag = tag.encode()
        headers = {
            **ANY_ORIGIN,
            **NOSNIFF,
            "cross-origin-resource-policy": "cross-origin",
            "cache-control": f"public, max-age={max_age_s}",
            "etag": tag,
            "vary": "accept-encoding",
        }
        self._whole = Response(200, body, content_type, headers)
        compressed = gzip.compress(body, _BEST, mtime=0)
        self._compressed = Response(200, compressed, content_type, {**headers, "content-encoding": "gzip"})
        self._unchanged = Response(304, headers=headers)

    def answer(self, request: Request) -> Response:
        if request.method not in {b"GET", b"HEAD"}:
            return _NOT_ALLOWED
        if self._tag in request.headers.get(b"if-none-match", b""):
            return self._unchanged
        return self._compressed if _takes_gzip(request.headers.get(b"accept-encoding", b"")) else self._whole


def _takes_gzip(accepted: bytes) -> bool:
    """Whether a client takes gzip, which it may name with a weight (RFC 9110, section 12.5.3)."""
    for coding in accepted.lower().split(b","):
        name, _, weight = coding.partition(b";")
        if name.strip() == b"gzip":
            return weight.replace(b" ", b"").rstrip(b"0.") != b"q="
    return False
