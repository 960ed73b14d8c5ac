"""Whose hit it is: the peer's address, or what a trusted proxy says of it."""

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

    The header is a list to which each proxy appends the address it was called from, so it is read from its end: the
    first address that is not a trusted proxy's is the visitor's, or the last one where all are trusted: a visitor of
    the inner network. What stands before it was written by the visitor and proves nothing.

    Args:
        trusted: networks whose word is taken, as in `10.0.0.0/8`.
    """

    def __init__(self, trusted: Sequence[str]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in trusted]
        self._is_trusted = lru_cache(maxsize=1_024)(self._is_in_networks)
        self._has_warned = {True: False, False: False}
        """Of a proxy in an inner network, and of one outside: there a visitor may have written the header."""

    def of(self, peer: str | None, forwarded: bytes | None) -> str | None:
        """The address, or None where a trusted proxy said something that is none."""
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
        """Who has to answer for a request: `address`, what `of` has made of the rest, or its network.

        A proxy that nobody has named as trusted would have to answer for all its visitors. So where such a peer is in
        a private network, whoever it says it was called by does. Elsewhere that proves nothing: anybody could say it.
        """
        if forwarded is not None and self._may_be_proxy(peer):
            address = parse_address(forwarded.decode("latin-1").rpartition(",")[2].strip())
        address = address or peer
        return None if address is None else sender_of(address)

    def is_unnamed_proxy(self, peer: str | None, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request seems to come from a proxy whose word is not taken, so that its visitors look like one."""
        return self._may_be_proxy(peer) and tells_of_proxy(headers)

    def _may_be_proxy(self, peer: str | None) -> bool:
        return peer is not None and not self._is_trusted(peer) and _is_private(peer)

    def _warn(self, peer: str) -> None:
        """Say once that a header is not believed: else behind a new proxy all visitors would quietly be one."""
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
