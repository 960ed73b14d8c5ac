"""What is taken at all."""

import msgspec
import pytest

from footfall.collector.admission import Admission, admission_of
from footfall.entry import Entry, Event, Hit
from footfall.problem import Problem
from footfall.settings import CollectorSettings, Settings
from footfall.sites import SiteSettings

NOW_US = 1_790_000_000_000_000
HOUR_US = 3_600 * 1_000_000
SITES = {"my-blog": SiteSettings(domains=["blog.example"])}


def admission(*, is_trusted: bool = False, **settings: object) -> Admission:
    collector = msgspec.convert(settings, CollectorSettings)
    found = admission_of(Settings(collector=collector, sites=SITES), lambda *_: is_trusted)
    assert found is not None
    return found


def event(*, site_id: str = "my-blog", age_us: int | None = None) -> Event:
    occurred_us = None if age_us is None else NOW_US - age_us
    return Event(NOW_US * 1_000, "192.0.2.1", b"", site_id, "page_view", occurred_us=occurred_us)


def reason_against(rules: Admission, headers: dict[bytes, bytes], entry: Entry) -> str | None:
    try:
        rules.check_visitor(headers)
        rules.check(headers, entry)
    except Problem as problem:
        return problem.reason
    return None


def test_without_rules_nothing_is_looked_at() -> None:
    """Sites alone are no rule, so a request costs nothing more than before."""
    assert admission_of(Settings(sites=SITES), lambda *_: False) is None


@pytest.mark.parametrize(
    ("age_us", "is_trusted", "reason"),
    [
        (None, False, None),
        (24 * HOUR_US, False, None),
        (24 * HOUR_US + 1, False, "too_old"),
        (24 * HOUR_US + 1, True, None),
        (-24 * HOUR_US, False, None),
        (NOW_US + 62_135_596_800_000_000, False, "too_old"),
    ],
)
def test_an_event_is_as_old_as_its_timestamp(age_us: int | None, is_trusted: bool, reason: str | None) -> None:  # noqa: FBT001
    """The year 1 included; who is trusted may name any time."""
    rules = admission(max_age_hours=24, is_trusted=is_trusted)
    assert reason == reason_against(rules, {}, event(age_us=age_us))


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, None),
        ({b"origin": b"https://blog.example"}, None),
        ({b"origin": b"null", b"referer": b"about:blank"}, None),
        ({b"origin": b"https://evil.example"}, "foreign_origin"),
        ({b"origin": b"https://blog.example", b"referer": b"https://evil.example/"}, "foreign_origin"),
        ({b"referer": b"\xff"}, "foreign_origin"),
        ({b"referer": b"https://" + b"a" * 60_000 + b".blog.example/"}, "foreign_origin"),
    ],
)
def test_each_header_that_names_a_page_names_one_of_the_site(headers: dict[bytes, bytes], reason: str | None) -> None:
    """A hit is held to the same; what no header names is taken."""
    rules = admission(only_known_sites=True)
    assert reason == reason_against(rules, headers, event())
    hit = Hit(NOW_US * 1_000, None, headers.get(b"referer", b""), b"", "my-blog")
    assert reason == reason_against(rules, headers, hit)


def test_a_rule_that_refuses_everything_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever turns it on before they list a site finds out why nothing is counted."""
    rules = admission_of(Settings(collector=CollectorSettings(only_known_sites=True)), lambda *_: False)
    assert rules is not None
    assert "unknown_site" == reason_against(rules, {}, event())
    assert "no sites are listed" in caplog.text


@pytest.mark.parametrize("site_id", ["", "My-Blog", "blog.example"])
def test_a_site_is_known_by_its_id(site_id: str) -> None:
    """Neither by another spelling nor by its domain."""
    assert "unknown_site" == reason_against(admission(only_known_sites=True), {}, event(site_id=site_id))


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({b"sec-gpc": b"1"}, "privacy_signal"),
        ({b"dnt": b"1"}, "privacy_signal"),
        ({b"dnt": b"1, 0"}, "privacy_signal"),
        ({b"sec-gpc": b"0", b"dnt": b"0"}, None),
        ({b"sec-gpc": b"true", b"dnt": b"null"}, None),
        ({b"sec-gpc": b"", b"dnt": b""}, None),
    ],
)
def test_a_signal_is_what_its_standard_says(headers: dict[bytes, bytes], reason: str | None) -> None:
    """Anything else is none."""
    assert reason == reason_against(admission(honour_privacy_signals=True), headers, event(site_id="anything"))
