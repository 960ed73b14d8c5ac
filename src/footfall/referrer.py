"""The `Referer` header: its text, its host, and the part before the query."""

from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from footfall.entry import MAX_REFERRER

_WIDEST_CHARACTER: Final = 4
"""Bytes, in UTF-8."""


def text_of(header: bytes) -> str:
    """The text of a header. Bytes that are not UTF-8 are replaced, because databases can't store them."""
    return header[: MAX_REFERRER * _WIDEST_CHARACTER].decode(errors="replace")[:MAX_REFERRER]


@lru_cache(maxsize=2_048)
def host_in(address: str) -> str:
    """The host of an address, in lower case; empty if there is none, or none that can be read."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def without_query(referrer: str) -> str:
    """The part of an address before its query or fragment."""
    return referrer.partition("?")[0].partition("#")[0]


def host_of(header: bytes) -> str:
    """The host in a header; empty if there is none. It is the site of a hit without a site id."""
    return host_in(text_of(header))
