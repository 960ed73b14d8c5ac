"""Which lines of a visits log are of hits that the queue still holds."""

from collections.abc import Iterator
from contextlib import closing
from itertools import product
from typing import get_args

import pytest

from footfall.commands.rebuild.logs import LoggedHits, hit_of
from footfall.entry import Hit
from footfall.visit_log.line import format_line
from footfall.visit_log.redaction import LINE_FORMATS, Addresses, Queries, line_format

PAGE = b"https://shop.example/reset?token=1"


@pytest.fixture
def logged() -> Iterator[LoggedHits]:
    with closing(LoggedHits()) as hits:
        yield hits


def visit(address: str = "203.0.113.77", referrer: bytes = PAGE, *, second: int = 1) -> Hit:
    return Hit(second * 10**9 + 123, address, referrer, b"curl/8.0")


def line_of(hit: Hit, addresses: Addresses = "whole", queries: Queries = "keep") -> bytes:
    assert hit.address is not None
    text = line_format(addresses, queries)(hit.received_ns, hit.referrer, hit.user_agent, hit.address)
    return f"{text}\n".encode()


def take(logged: LoggedHits, line: bytes) -> bool:
    told = hit_of(line, {})
    assert told is not None
    return logged.take(line, told)


@pytest.mark.parametrize(("addresses", "queries"), list(product(get_args(Addresses), get_args(Queries))))
@pytest.mark.parametrize("hit", [visit(), visit("2001:db8:1:2::3", b""), visit("host.example")])
def test_a_hit_is_found_once_whatever_its_line_left_out(
    logged: LoggedHits, hit: Hit, addresses: Addresses, queries: Queries
) -> None:
    """The settings may have been any when it was written."""
    logged.add([visit(second=2), hit])

    assert take(logged, line_of(hit, addresses, queries))
    assert not take(logged, line_of(hit, addresses, queries))
    assert not any(take(logged, f"{form(1, b'', b'', '::1')}\n".encode()) for form in LINE_FORMATS)


@pytest.mark.parametrize(
    "other",
    [
        visit("203.0.113.78"),
        visit("203.0.114.77"),
        visit(referrer=b"https://shop.example/other?token=1"),
        visit(referrer=b"https://shop.example/reset?token=2"),
        visit(second=3),
    ],
)
def test_a_line_of_another_hit_is_left(logged: LoggedHits, other: Hit) -> None:
    """Its address, its time or its page tells, and with a whole address the query does."""
    logged.add([visit()])

    assert not take(logged, line_of(other))
    assert take(logged, line_of(visit()))


def test_the_line_itself_comes_before_one_that_may_be_its(logged: LoggedHits) -> None:
    """Of hits of one moment, those whose lines left nothing out are not taken for each other."""
    hits = [visit("203.0.113.1"), visit("203.0.113.0"), visit("203.0.113.2")]
    logged.add(hits)

    assert take(logged, line_of(hits[1]))
    assert take(logged, line_of(hits[2], "truncated"))
    assert take(logged, line_of(hits[0], "truncated"))
    assert not take(logged, line_of(hits[0], "truncated"))


def test_as_many_are_found_as_there_were(logged: LoggedHits) -> None:
    """An imported log may have the same line several times."""
    logged.add([visit(), visit(), visit()])
    line = f"{format_line(visit().received_ns, PAGE, b'curl/8.0', '203.0.113.77')}\n".encode()

    assert [True, True, True, False] == [take(logged, line) for _ in range(4)]
