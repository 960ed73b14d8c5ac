"""Whose hit it is: peers, proxies that are believed, and headers that prove nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from footfall.collector.address import ClientAddress, parse_address

PROXY = "10.0.0.1"
OTHER_PROXY = "10.9.9.9"
STRANGER = "198.51.100.7"
VISITOR = "203.0.113.5"

behind_proxies = ClientAddress(["10.0.0.0/8", "fd00::/8"])


@pytest.mark.parametrize("forwarded", [None, b"", VISITOR.encode(), b"junk", b"\xff\x00"])
@pytest.mark.parametrize("peer", [PROXY, STRANGER, "::1", None])
def test_nobody_is_believed_by_default(peer: str | None, forwarded: bytes | None) -> None:
    """Without trusted proxies the peer is the visitor, whatever the header says."""
    assert peer == ClientAddress([]).of(peer, forwarded)


def test_proxy_that_is_not_trusted_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """With the setting that is missing. A stranger who writes the header does not keep that from being said."""
    addresses = ClientAddress([])
    for peer in (VISITOR, VISITOR, "127.0.0.1", "10.0.0.1", "fe80::1%eth0"):
        assert peer == addresses.of(peer, b"198.51.100.7")
    assert "8.8.8.8" == addresses.of("8.8.8.8", b"198.51.100.7")
    addresses.of("::1", None)

    told = [record.getMessage() for record in caplog.records]
    assert 2 == len(told)
    assert "FOOTFALL__COLLECTOR__TRUSTED_PROXIES=203.0.113.5" in told[0]
    assert "8.8.8.8 sends X-Forwarded-For" in told[1]


@pytest.mark.parametrize("forwarded", [VISITOR.encode(), b"10.0.0.2", b"junk", b""])
def test_stranger_is_not_believed(forwarded: bytes) -> None:
    """A visitor who writes the header is still the peer."""
    assert STRANGER == behind_proxies.of(STRANGER, forwarded)


@pytest.mark.parametrize("peer", [PROXY, "10.255.255.255", "fd00::1"])
def test_trusted_proxy_is_believed(peer: str) -> None:
    """The address a trusted proxy was called from is the visitor's."""
    assert VISITOR == behind_proxies.of(peer, VISITOR.encode())


@pytest.mark.parametrize("peer", ["11.0.0.1", "9.255.255.255", "fe00::1", "::ffff:10.0.0.1"])
def test_peer_outside_the_networks_is_a_stranger(peer: str) -> None:
    """Networks end where they end; families are not mixed."""
    assert peer == behind_proxies.of(peer, VISITOR.encode())


def test_trusted_proxy_without_the_header_is_the_visitor() -> None:
    """A request that the proxy's own machine made has no other address."""
    assert PROXY == behind_proxies.of(PROXY, None)


@pytest.mark.parametrize(
    "forwarded",
    [
        b"203.0.113.5, 10.9.9.9",
        b"203.0.113.5,10.9.9.9,10.0.0.2",
        b"203.0.113.5 ,\t10.9.9.9",
        b"6.6.6.6, 203.0.113.5, 10.9.9.9",
        b"10.0.0.3, 203.0.113.5",
        b"junk, 203.0.113.5",
        b"\xff\x00|, 203.0.113.5",
        b", 203.0.113.5",
    ],
)
def test_chain_is_read_from_its_end(forwarded: bytes) -> None:
    """The last address that is not a proxy's counts; what stands before it was written by the visitor."""
    assert VISITOR == behind_proxies.of(PROXY, forwarded)


def test_untrusted_proxy_ends_the_chain() -> None:
    """A proxy that is not trusted can't say whom it was called by."""
    assert STRANGER == behind_proxies.of(PROXY, f"{VISITOR}, {STRANGER}, {OTHER_PROXY}".encode())


@pytest.mark.parametrize("forwarded", [b"10.1.2.3", b"10.1.2.3, 10.9.9.9"])
def test_visitor_inside_the_trusted_networks_is_told_from_the_proxies(forwarded: bytes) -> None:
    """Where all of the chain is trusted, the far end of it is the visitor: a colleague in the same network."""
    assert "10.1.2.3" == behind_proxies.of(PROXY, forwarded)


@pytest.mark.parametrize(
    "forwarded", [b"", b" ", b",", b"unknown", b"_hidden", b"junk", b"203.0.113.5, junk", b"203.0.113.5,", b"1.2.3.4.5"]
)
def test_junk_from_a_trusted_proxy_is_no_address(forwarded: bytes) -> None:
    """The proxy's own address would be wrong, and so would one from before the junk."""
    assert None is behind_proxies.of(PROXY, forwarded)


def test_one_trusted_address_needs_no_prefix() -> None:
    """A network of one may be written as an address."""
    assert VISITOR == ClientAddress(["10.0.0.1"]).of("10.0.0.1", VISITOR.encode())
    assert "10.0.0.2" == ClientAddress(["10.0.0.1"]).of("10.0.0.2", VISITOR.encode())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:8080", "192.0.2.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("[::1]:8080", "::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:c000:201]:80", "192.0.2.1"),
        ("", None),
        ("unknown", None),
        ("example.com", None),
        ("192.0.2", None),
        ("192.0.2.256", None),
        ("192.0.2.01", None),
        ("192.0.2.1/32", None),
        ("192.0.2.1|forged", None),
        ("192.0.2.1\n", None),
        ("fe80::1", "fe80::1"),
        ("[192.0.2.1", "192.0.2.1"),
        ("3221225985", None),
        (":::", None),
        ("[]", None),
    ],
)
def test_address_is_read_in_every_usual_form(text: str, expected: str | None) -> None:
    """With a port or without, in brackets or not; one address has one form; a name or a number is none."""
    assert expected == parse_address(text)


@pytest.mark.parametrize("zone", ["eth0", "a|b", "a\nforged"], ids=ascii)
def test_zone_of_an_address_is_not_kept(zone: str) -> None:
    """A zone (RFC 4007) is free text that means something on one machine only, so it can't be told as an address."""
    assert parse_address(f"fe80::1%{zone}") in {"fe80::1", None}


@settings(deadline=None)
@given(st.text(st.sampled_from("0123456789abcdefABCDEF.:[]% |\n")) | st.text() | st.ip_addresses().map(str))
def test_address_is_canonical_or_none(text: str) -> None:
    """What comes out is made of an address's own characters and is read as itself: one visitor is not two."""
    address = parse_address(text)

    if address is not None:
        assert address == parse_address(address)
        assert set() == set(address) - set("0123456789abcdef.:")


@settings(deadline=None)
@given(st.binary(), st.sampled_from([PROXY, STRANGER, "fd00::1"]))
def test_no_header_breaks_the_request(forwarded: bytes, peer: str) -> None:
    """Whatever the header holds, the answer is an address or None."""
    address = behind_proxies.of(peer, forwarded)

    assert address is None or address == parse_address(address)


PLAIN = ClientAddress([])


@pytest.mark.parametrize(
    ("peer", "forwarded", "sender"),
    [
        ("127.0.0.1", b"192.0.2.1, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", b"2001:db8::9", "2001:db8::/64"),
        ("10.0.0.1", b"not an address", "10.0.0.1"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("8.8.8.8", b"203.0.113.9", "8.8.8.8"),
        ("2a00::1", None, "2a00::/64"),
        (None, None, None),
    ],
)
def test_visitors_behind_a_proxy_that_is_not_named_answer_each_for_themselves(
    peer: str | None, forwarded: bytes | None, sender: str | None
) -> None:
    """Only in a private network: on the internet the header would let anybody be as many as they like."""
    address = PLAIN.of(peer, forwarded)

    assert sender == PLAIN.sender(peer, address, forwarded)
    assert address == peer


def test_a_trusted_proxy_says_who_answers() -> None:
    """The visitor that it was called by."""
    address = behind_proxies.of(PROXY, b"203.0.113.9")

    assert "203.0.113.9" == behind_proxies.sender(PROXY, address, b"203.0.113.9")
    assert not behind_proxies.is_unnamed_proxy(PROXY, {b"x-forwarded-for": b"203.0.113.9"})


@pytest.mark.parametrize("name", [b"x-forwarded-for", b"via", b"forwarded", b"x-real-ip"])
def test_a_proxy_is_known_by_its_headers(name: bytes) -> None:
    """On loopback or in a private network, where nobody has named it as trusted."""
    assert PLAIN.is_unnamed_proxy("127.0.0.1", {name: b"x"})
    assert not PLAIN.is_unnamed_proxy("8.8.8.8", {name: b"x"})
    assert not PLAIN.is_unnamed_proxy("127.0.0.1", {b"host": b"x"})
