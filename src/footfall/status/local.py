"""Recognises a request that plainly comes from the user that runs Footfall, on this machine and through no proxy."""

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from footfall.status.socket_owner import socket_owner

TcpEnd = tuple[str, int]
"""One end of a TCP connection: address and port."""

_PROXY_HEADERS: Final = frozenset(
    {
        b"forwarded",
        b"via",
        b"cdn-loop",
        b"true-client-ip",
        b"client-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-original-host",
        b"x-originating-ip",
        b"x-proxyuser-ip",
        b"x-remote-addr",
        b"incap-client-ip",
        b"ali-cdn-real-ip",
    }
)
_PROXY_PREFIXES: Final = (
    b"x-forwarded-",
    b"x-original-forwarded-",
    b"x-real-",
    b"x-envoy-",
    b"x-amz-cf-",
    b"x-amzn-",
    b"x-azure-",
    b"x-arr-",
    b"x-appengine-",
    b"x-cloud-trace-",
    b"x-akamai-",
    b"akamai-",
    b"cf-",
    b"cloudfront-",
    b"fastly-",
    b"fly-",
    b"x-nf-",
    b"x-vercel-",
    b"x-sucuri-",
)
_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s:\[\]]+))(?::[0-9]*)?")


class Origin(NamedTuple):
    """Where a request came from.

    Attributes:
        version: the version of HTTP, as in `1.1`.
        peer: the client's end of the connection; None if it is not TCP.
        here: our end of the connection; None if it is not TCP.
    """

    version: str
    peer: TcpEnd | None
    here: TcpEnd | None


def is_local(
    headers: Mapping[bytes, bytes], origin: Origin, owner_of: Callable[[TcpEnd, TcpEnd], int | None] = socket_owner
) -> bool:
    """Whether the user that runs this process, or root, sends the request from this machine, with nothing in between.

    A connection over loopback does not prove that. A proxy on this machine brings in strangers, by default without any
    header that says so. And a page from anywhere can point its own name at 127.0.0.1 (DNS rebinding). So every sign of
    a proxy is refused. HTTP/1.0 is one: nginx spoke it to servers before 1.29.7, and no client does.

    One thing no request can hide: the other end of the connection must be a socket of this user or of root. Proxies run
    as users of their own. A forwarder of raw bytes that runs as this very user, or as root, is not recognised.

    Args:
        headers: by lower-case names.
        origin: where the request came from.
        owner_of: finds the user that holds a connected socket. It returns None if that is unknown, and the request
            then counts as a stranger's.
    """
    if origin.version != "1.1" or origin.peer is None or origin.here is None:
        return False
    if not ipaddress.ip_address(origin.peer[0].partition("%")[0]).is_loopback or not _is_loopback_name(headers):
        return False
    if tells_of_proxy(headers):
        return False
    return owner_of(origin.peer, origin.here) in {0, os.geteuid()}


def tells_of_proxy(headers: Mapping[bytes, bytes]) -> bool:
    """Whether any of the headers, by lower-case names, is one that proxies add."""
    return any(name in _PROXY_HEADERS or name.startswith(_PROXY_PREFIXES) for name in headers)


def _is_loopback_name(headers: Mapping[bytes, bytes]) -> bool:
    host = _HOST.fullmatch(headers.get(b"host", b"").decode("latin-1").lower())
    if host is None:
        return False
    name = (host[1] or host[2]).removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
