"""Whose hit it is: the peer's address, or what a trusted proxy says of it."""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ClientAddress:
    """Resolves a peer and its `X-Forwarded-For` to the visitor's address.

    The header is a list to which each proxy appends the address it was called from, so it is read from its end: the
    first address that is not a trusted proxy's is the visitor's, or the last one where all are trusted: a visitor of
    the inner network. What stands before it was written by the visitor and proves nothing.

    Args:
        trusted: networks whose word is taken, as in `10.0.0.0/8`.
    """

    def __init__(self, trusted: Sequence[str]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in trusted]
        self._is_trusted = lru_cache(maxsize=1_024)(self._is_in_networks)

    def of(self, peer: str | None, forwarded: bytes | None) -> str | None:
        """The address, or None where a trusted proxy said something that is none."""
        if peer is None or forwarded is None or not self._networks or not self._is_trusted(peer):
            return peer
        for part in reversed(forwarded.decode("latin-1").split(",")):
            address = parse_address(part.strip())
            if address is None:
                return None
            if not self._is_trusted(address):
                break
        return address

    def _is_in_networks(self, text: str) -> bool:
        address = ipaddress.ip_address(text.partition("%")[0])
        return any(address in network for network in self._networks)


def parse_address(text: str) -> str | None:
    """The canonical form of an address, with a port or without; None when it is none.

    An IPv4 address mapped into IPv6 (`::ffff:192.0.2.1`, as a dual-stack listener sees it) is given as IPv4.
    """
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    if "%" in text:  # a zone, which means something on one machine only, and may be any text
        return None
    try:
        address: _Address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)
