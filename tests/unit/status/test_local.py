import os

import pytest

from footfall.status.local import Origin, TcpEnd, is_local

HERE = ("127.0.0.1", 8000)
PEER = ("127.0.0.1", 50_000)
LOCAL = {b"host": b"localhost:8000", b"user-agent": b"curl/8.0", b"accept": b"*/*"}


def local(
    headers: dict[bytes, bytes] = LOCAL,
    *,
    version: str = "1.1",
    peer: TcpEnd | None = PEER,
    owner: int | None = os.geteuid(),
) -> bool:
    return is_local(headers, Origin(version, peer, HERE), lambda *_: owner)


@pytest.mark.parametrize("owner", [os.geteuid(), 0])
@pytest.mark.parametrize("peer", [PEER, ("127.8.9.1", 1), ("::1", 50_000)])
def test_own_user_and_root_are_local(peer: TcpEnd, owner: int) -> None:
    """Root can read the database anyway, and comes through ssh."""
    assert local(peer=peer, owner=owner)


@pytest.mark.parametrize("owner", [os.geteuid() + 1, 65_534, None])
def test_any_other_user_is_not(owner: int | None) -> None:
    """Another user of the machine, a proxy's among them, and one that can't be told."""
    assert not local(owner=owner)


def test_both_ends_are_asked_for() -> None:
    """The socket that is looked up is the client's, and its connection is the one to here."""
    asked = []

    def owner_of(holder: TcpEnd, other: TcpEnd) -> int:
        asked.append((holder, other))
        return os.geteuid()

    assert is_local(LOCAL, Origin("1.1", PEER, HERE), owner_of)
    assert [(PEER, HERE)] == asked


@pytest.mark.parametrize("peer", [None, ("192.0.2.1", 50_000), ("::ffff:127.0.0.1", 50_000), ("fe80::1%lo", 50_000)])
def test_no_other_address_is_local(peer: TcpEnd | None) -> None:
    """The connection itself must come over loopback."""
    assert not local(peer=peer)


@pytest.mark.parametrize("version", ["1.0", "0.9", "2", ""])
def test_no_other_version_is_local(version: str) -> None:
    """HTTP/1.0 is what nginx spoke to servers until 1.29.7."""
    assert not local(version=version)


@pytest.mark.parametrize(
    "host",
    [
        b"localhost",
        b"LOCALHOST:8000",
        b"localhost.:8000",
        b"stats.localhost:1",
        b"127.0.0.1",
        b"127.8.9.1:8000",
        b"[::1]",
        b"[::1]:8000",
    ],
)
def test_names_of_this_machine_are_local(host: bytes) -> None:
    """Every name that only ever means this machine is taken, with any port."""
    assert local({b"host": host})


@pytest.mark.parametrize(
    "host",
    [
        None,
        b"",
        b"example.com",
        b"localhost.example.com",
        b"notlocalhost",
        b"127.0.0.1.example.com",
        b"127.0.0.1, example.com",
        b"192.0.2.1:8000",
        b"0.0.0.0:8000",
        b"[::]:8000",
        b"[2001:db8::1]",
        b"::1",
        b"localhost:8000:9000",
        b"localhost:http",
        b"[localhost]",
        b"2130706433",
        b"\xff\x00",
    ],
)
def test_a_foreign_name_is_not(host: bytes | None) -> None:
    """A page that pointed its own name at this machine (DNS rebinding) reads nothing."""
    assert not local({} if host is None else {b"host": host})


@pytest.mark.parametrize(
    "name",
    [
        b"forwarded",
        b"via",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-forwarded-anything",
        b"x-real-ip",
        b"x-client-ip",
        b"x-envoy-external-address",
        b"x-original-forwarded-for",
        b"x-amzn-trace-id",
        b"x-amz-cf-id",
        b"x-azure-clientip",
        b"x-vercel-id",
        b"true-client-ip",
        b"cdn-loop",
        b"cf-connecting-ip",
        b"cf-ray",
        b"cloudfront-viewer-address",
        b"fastly-client-ip",
        b"fly-client-ip",
        b"akamai-origin-hop",
    ],
)
def test_what_came_through_a_proxy_is_not(name: bytes) -> None:
    """Any header by which a proxy or CDN tells of itself is enough, whatever it holds."""
    assert not local({**LOCAL, name: b"127.0.0.1"})
