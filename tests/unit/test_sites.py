"""Which hosts a site's pages are on."""

import pytest

from footfall.sites import Domains, canonical_host


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("blog.example", "blog.example"),
        ("Blog.Example.", "blog.example"),
        ("münchen.example", "xn--mnchen-3ya.example"),
        ("localhost", "localhost"),
        ("inner_host", "inner_host"),
        ("192.0.2.1", "192.0.2.1"),
        ("[2001:DB8::1]", "2001:db8::1"),
        ("", None),
        (".", None),
        ("blog..example", None),
        ("-blog.example", None),
        ("*.blog.example", None),
        ("blog.example:80", None),
        ("https://blog.example", None),
        ("blog.example/posts", None),
        ("a" * 64 + ".example", None),
        ("blog \ud800", None),
    ],
)
def test_a_domain_is_a_host_as_browsers_send_it(written: str, host: str | None) -> None:
    """In lower case and Punycode; anything else than a host is none."""
    assert host == canonical_host(written)


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("blog.example", True),
        ("www.blog.example", True),
        ("a.b.blog.example.", True),
        ("xn--mnchen-3ya.example", True),
        ("2001:db8::1", True),
        ("example", False),
        ("evilblog.example", False),
        ("blog.example.evil.example", False),
        ("", False),
        ("." * 2_000, False),
    ],
)
def test_a_domain_stands_for_all_hosts_below_it(host: str, is_own: bool) -> None:  # noqa: FBT001 - what is expected
    """And for no other, however alike its name is."""
    assert is_own == Domains(["Blog.example", "münchen.example", "2001:db8::1"]).hold(host)


def test_any_host_is_of_a_site_without_domains() -> None:
    """Also none."""
    assert Domains([]).hold("anywhere.example")
    assert Domains([]).hold("")
