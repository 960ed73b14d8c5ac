"""What a line leaves out of a hit."""

import pytest

from footfall.visit_log.line import format_line, parse_line
from footfall.visit_log.redaction import Addresses, Queries, line_format, truncated

PAGE = b"https://shop.example/reset"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.77", "203.0.113.0"),
        ("203.0.113.0", "203.0.113.0"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
        ("::1", "::"),
        ("fe80::1%eth0", "fe80::"),
        ("host.example", None),
        ("203.0.113", None),
    ],
)
def test_a_truncated_address_is_its_network(address: str, network: str | None) -> None:
    """A name, which an imported log may have instead, has no part that could be told of anybody."""
    assert network == truncated(address)


@pytest.mark.parametrize(
    ("addresses", "queries", "referrer", "address"),
    [
        ("whole", "keep", PAGE + b"?token=1#top", "203.0.113.77"),
        ("whole", "strip", PAGE, "203.0.113.77"),
        ("truncated", "keep", PAGE + b"?token=1#top", "203.0.113.0"),
        ("none", "strip", PAGE, None),
    ],
)
def test_a_line_holds_what_it_was_told_to(
    addresses: Addresses, queries: Queries, referrer: bytes, address: str | None
) -> None:
    """Time and user agent stay in any case, and it is read back as any other line."""
    line = line_format(addresses, queries)(1_500, PAGE + b"?token=1#top", b"curl/8.0", "203.0.113.77")

    visit = parse_line(line)
    assert (1_500, referrer, b"curl/8.0", address) == (
        visit.received_ns,
        visit.referrer,
        visit.user_agent,
        visit.address,
    )


def test_nothing_is_left_out_unless_that_was_asked_for() -> None:
    """By default a line is made without any further step."""
    assert format_line is line_format("whole", "keep")
