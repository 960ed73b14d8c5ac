"""The address of a page, as a browser sends it in `Referer`: its text, and its host."""

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
def host_in(address: str) -> str:
    """The host of an address, in lower case; the empty text where it has none, or none that can be read."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def without_query(referrer: str) -> str:
    """The address up to its query or fragment."""
    return referrer.partition("?")[0].partition("#")[0]


def host_of(header: bytes) -> str:
    """The host in a referrer, which is the site of a hit without a site id; the empty text where there is none."""
    return host_in(text_of(header))
