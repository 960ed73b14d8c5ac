"""The address of a page, as a browser sends it in `Referer`: its host and its path."""

from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from footfall.entry import MAX_REFERRER

_WIDEST_CHARACTER: Final = 4
"""Bytes, in UTF-8."""


def text_of(header: bytes) -> str:
    """A header's text, whatever its bytes are: text that is not UTF-8 can't be stored."""
    return header[: MAX_REFERRER * _WIDEST_CHARACTER].decode(errors="replace")[:MAX_REFERRER]


@lru_cache(maxsize=2_048)
def split(referrer: str) -> tuple[str, str]:
    """The host and path of an address; the empty text for a host it has not, or none that can be read."""
    try:
        parts = urlsplit(referrer)
        host = parts.hostname
    except ValueError:
        host = None
    if not host:
        return "", "/"
    return host, parts.path or "/"


def without_query(referrer: str) -> str:
    """The address up to its query or fragment."""
    return referrer.partition("?")[0].partition("#")[0]


def host_of(header: bytes) -> str:
    """The host in a referrer, which is the site of a hit without a site id; the empty text where there is none."""
    host, _ = split(text_of(header))
    return host
