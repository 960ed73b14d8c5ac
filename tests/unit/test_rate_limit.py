"""Token buckets by address, with a clock of the test's own."""

import pytest

from footfall.rate_limit import RateLimiter, retry_after, sender_of


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_an_address_has_its_burst_and_then_its_rate() -> None:
    """Five at once, then one every half second, and never more than five saved up."""
    clock = Clock()
    limiter = RateLimiter(2.0, burst=5, clock=clock)
    assert [0.0] * 5 == [limiter.take("192.0.2.1") for _ in range(5)]
    assert pytest.approx(0.5) == limiter.take("192.0.2.1")
    clock.now += 0.5
    assert 0.0 == limiter.take("192.0.2.1")
    assert limiter.take("192.0.2.1") > 0
    clock.now += 3_600
    assert 5 == sum(limiter.take("192.0.2.1") == 0 for _ in range(100))


def test_addresses_do_not_share_a_bucket() -> None:
    """One that is refused takes nothing from another."""
    limiter = RateLimiter(1.0, burst=1, clock=Clock())
    assert 0.0 == limiter.take("192.0.2.1")
    assert limiter.take("192.0.2.1") > 0
    assert 0.0 == limiter.take("192.0.2.2")


def test_ipv6_addresses_of_one_subscriber_share_a_bucket() -> None:
    """A /64 network is one sender; the next network is another."""
    limiter = RateLimiter(1.0, burst=1, clock=Clock())
    assert 0.0 == limiter.take("2001:db8::1")
    assert limiter.take("2001:db8::ffff:1") > 0
    assert 0.0 == limiter.take("2001:db8:0:1::1")
    assert "2001:db8::/64" == sender_of("2001:db8::1")


def test_a_request_that_costs_more_than_there_is_leaves_a_debt() -> None:
    """It is taken, since no wait would make it smaller, and the next has to wait for all of it."""
    clock = Clock()
    limiter = RateLimiter(1.0, burst=10, clock=clock)
    assert 0.0 == limiter.take("192.0.2.1", 100)
    assert pytest.approx(91.0) == limiter.take("192.0.2.1")
    clock.now += 91
    assert 0.0 == limiter.take("192.0.2.1")


def test_what_is_refused_costs_nothing() -> None:
    """Whoever goes on asking does not have to wait the longer for it."""
    clock = Clock()
    limiter = RateLimiter(1.0, burst=1, clock=clock)
    limiter.take("192.0.2.1")
    assert [1.0] * 50 == [limiter.take("192.0.2.1") for _ in range(50)]
    clock.now += 1
    assert 0.0 == limiter.take("192.0.2.1")


def test_the_table_is_bounded_and_forgets_who_asked_least_recently() -> None:
    """A stranger with many addresses fills it, and one that keeps asking stays refused."""
    limiter = RateLimiter(0.001, burst=1, max_addresses=100, clock=Clock())
    limiter.take("192.0.2.1")
    for number in range(1_000):
        limiter.take(f"198.51.100.{number}")
        assert limiter.take("192.0.2.1") > 0
    assert 100 == len(limiter)


def test_a_request_without_an_address_is_not_limited() -> None:
    """There is nobody to hold to account, as on a Unix socket."""
    limiter = RateLimiter(1.0, burst=1, clock=Clock())
    assert [0.0] * 9 == [limiter.take(None) for _ in range(9)]


def test_retry_after_is_in_whole_seconds() -> None:
    """Rounded up, and never 0, which would mean at once."""
    assert ["1", "1", "2", "61"] == [retry_after(wait_s) for wait_s in (0.01, 1.0, 1.2, 60.5)]
