"""Finds the visitor's address: the peer's own, or the one that a trusted proxy names."""

import ipaddress
import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache

from footfall.rate_limit import sender_of
from footfall.status.local import tells_of_proxy

_log = logging.getLogger(__name__)

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ClientAddress:
    """Resolves a peer and its `X-Forwarded-For` to the visitor's address.

    The header is a list, to which each proxy appends the address that called it. So it is read from its end. The first
    address that is not a trusted proxy's is the visitor's. If all are trusted, the visitor is in the inner network, and
    the address is the leftmost. The visitor may have written whatever stands before the address, so it proves nothing.

    Args:
        trusted: networks of proxies that are believed, as in `10.0.0.0/8`.
    """

    def __init__(self, trusted: Sequence[str]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in trusted]
        self._is_trusted = lru_cache(maxsize=1_024)(self._is_in_networks)
        self._has_warned = {True: False, False: False}
        """By whether the peer is in a private network. From outside, a visitor may have written the header."""

    def of(self, peer: str | None, forwarded: bytes | None) -> str | None:
        """The visitor's address, or None if a trusted proxy sent something that is not an address."""
        if peer is None or forwarded is None:
            return peer
        if not self._is_trusted(peer):
            self._warn(peer)
            return peer
        for part in reversed(forwarded.decode("latin-1").split(",")):
            address = parse_address(part.strip())
            if address is None:
                return None
            if not self._is_trusted(address):
                break
        return address

    def sender(self, peer: str | None, address: str | None, forwarded: bytes | None) -> str | None:
        """Whose share a request takes: that of `address`, as `of` returned it, or of its network.

        A proxy that is not listed as trusted would share one limit among all its visitors. So if such a peer is in a
        private network, the request counts for the address that it names as its caller. From any other network, that
        address proves nothing, because anybody can write it.
        """
        if forwarded is not None and self._may_be_proxy(peer):
            address = parse_address(forwarded.decode("latin-1").rpartition(",")[2].strip())
        address = address or peer
        return None if address is None else sender_of(address)

    def is_unnamed_proxy(self, peer: str | None, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request seems to come from a proxy that is not trusted, so that all its visitors look like one."""
        return self._may_be_proxy(peer) and tells_of_proxy(headers)

    def _may_be_proxy(self, peer: str | None) -> bool:
        return peer is not None and not self._is_trusted(peer) and _is_private(peer)

    def _warn(self, peer: str) -> None:
        """Warn once that the header is not believed. Otherwise a new proxy would silently make all visitors one."""
        is_inner = _is_private(peer)
        if self._has_warned[is_inner]:
            return
        self._has_warned[is_inner] = True
        _log.warning(
            "%s sends X-Forwarded-For and is not in collector.trusted_proxies, so all visitors that come through it "
            "count under its address. If it is your proxy, set FOOTFALL__COLLECTOR__TRUSTED_PROXIES=%s. If not, "
            "somebody has written the header by hand, and there is nothing to do",
            peer,
            peer,
        )

    def _is_in_networks(self, text: str) -> bool:
        address = ipaddress.ip_address(text.partition("%")[0])
        return any(address in network for network in self._networks)


@lru_cache(maxsize=1_024)
def _is_private(text: str) -> bool:
    return ipaddress.ip_address(text).is_private


def parse_address(text: str) -> str | None:
    """The canonical form of an address that may have a port; None if the text is not an address.

    An IPv4 address mapped into IPv6 (`::ffff:192.0.2.1`, as a dual-stack listener sees it) is given as IPv4.
    """
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    if "%" in text:  # a zone has a meaning on one machine only, and may be any text
        return None
    try:
        address: _Address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)
