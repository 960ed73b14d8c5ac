"""What a line of the visits log leaves out: the address, whole or in part, and the query of the referrer.

Such a line still has four fields. An address that is left out whole is `null`.
"""

import ipaddress
from collections.abc import Callable
from functools import lru_cache
from typing import Final, Literal, get_args

from footfall.visit_log.line import format_line

Addresses = Literal["whole", "truncated", "none"]
Queries = Literal["keep", "strip"]

LineFormat = Callable[[int, bytes, bytes, str], str]
"""As `format_line`."""

_KEPT_BITS: Final = {4: 24, 6: 48}
"""What a truncated address keeps, by version: enough for a region, too little for a household."""


def line_format(addresses: Addresses, queries: Queries) -> LineFormat:
    """What writes the lines of hits, with these settings."""
    if addresses == "whole" and queries == "keep":
        return format_line

    def format_redacted(received_ns: int, referrer: bytes, user_agent: bytes, address: str) -> str:
        kept = address if addresses == "whole" else truncated(address) if addresses == "truncated" else None
        if queries == "strip":
            referrer = without_query(referrer)
        return format_line(received_ns, referrer, user_agent, kept)

    return format_redacted


LINE_FORMATS: Final = [
    line_format(addresses, queries) for addresses in get_args(Addresses) for queries in get_args(Queries)
]
"""Every way in which a line may have been written."""


def without_query(referrer: bytes) -> bytes:
    """The part of a referrer before its query or fragment."""
    return referrer.partition(b"?")[0].partition(b"#")[0]


@lru_cache(maxsize=8_192)
def truncated(address: str) -> str | None:
    """The network of an address: 24 bits of IPv4, 48 of IPv6. None for a host name: no part of it is safe to keep."""
    try:
        whole = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return str(ipaddress.ip_network((whole, _KEPT_BITS[whole.version]), strict=False).network_address)
