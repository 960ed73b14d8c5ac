"""The files that pages load: style, script and icon. The address of each has a hash of its content in it.

So a browser keeps them for good, and a new version is another address.
"""

from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

FOLDER: Final = "/assets/"
MEDIA_TYPES: Final = {
    "icon.svg": "image/svg+xml",
    "pages.css": "text/css; charset=utf-8",
    "pages.js": "text/javascript; charset=utf-8",
    "theme.js": "text/javascript; charset=utf-8",
}
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Nothing from any other address, and nothing that stands in the page itself."""


@cache
def content_of(name: str) -> bytes:
    """A file of `MEDIA_TYPES`."""
    return (files("footfall.web.pages") / "static" / name).read_bytes()


@cache
def address_of(name: str) -> str:
    """Where a browser finds it."""
    stem, _, suffix = name.rpartition(".")
    return f"{FOLDER}{stem}.{sha256(content_of(name)).hexdigest()[:12]}.{suffix}"
