"""Which lines of a visits log are of hits that the database has."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import product
from pathlib import Path
from typing import get_args

import pytest

from footfall.commands.rebuild.known_hits import KnownHits
from footfall.commands.rebuild.logs import hit_of
from footfall.database.duckdb.file import open_database
from footfall.database.duckdb.writer import DuckdbSink
from footfall.entry import Entry, Event, Hit, encode_entries
from footfall.queue.base import Batch
from footfall.visit_log.redaction import Addresses, Queries, line_format

PAGE = b"https://shop.example/reset?token=1"

Know = Callable[..., KnownHits]


@pytest.fixture
def know(tmp_path: Path) -> Iterator[Know]:
    """Makes a database of entries, and knows its hits."""
    with ExitStack() as held:

        def known(*entries: Entry, statement: str = "SELECT 1") -> KnownHits:
            database = held.enter_context(closing(open_database(tmp_path / "footfall.duckdb")))
            with closing(DuckdbSink(database)) as sink:
                sink.write([Batch("a", 1, 0, len(entries), encode_entries(entries))])
            database.execute(statement)
            hits = held.enter_context(closing(KnownHits()))
            hits.add(database)
            return hits

        yield known


def visit(address: str = "203.0.113.77", referrer: bytes = PAGE, *, second: int = 1, agent: bytes = b"curl/8.0") -> Hit:
    return Hit(second * 10**9 + 123, address, referrer, agent, site_id="shop")


def take(hits: KnownHits, hit: Hit, addresses: Addresses = "whole", queries: Queries = "keep") -> bool:
    """Whether the line that a hit makes is known."""
    assert hit.address is not None
    text = line_format(addresses, queries)(hit.received_ns, hit.referrer, hit.user_agent, hit.address)
    told = hit_of(f"{text}\n".encode(), {})
    assert told is not None
    return hits.take(told)


@pytest.mark.parametrize(("addresses", "queries"), list(product(get_args(Addresses), get_args(Queries))))
@pytest.mark.parametrize(
    "hit", [visit(), visit("2001:db8:1:2::3", b""), visit(agent=b"", referrer=b"https://shop.example/\xff\xc3|?\xff")]
)
def test_a_hit_is_found_once_whatever_its_line_left_out(
    know: Know, hit: Hit, addresses: Addresses, queries: Queries
) -> None:
    """The settings may have been any when it was written."""
    hits = know(visit(second=2), hit)

    assert take(hits, hit, addresses, queries)
    assert not take(hits, hit, addresses, queries)


@pytest.mark.parametrize(
    "other", [visit(referrer=b"https://shop.example/other?token=1"), visit(second=3), visit(agent=b"curl/8.1")]
)
def test_a_line_of_another_hit_is_left(know: Know, other: Hit) -> None:
    """Its time, its page or its user agent tells."""
    hits = know(visit())

    assert not take(hits, other)
    assert take(hits, visit())


def test_as_many_are_found_as_there_were(know: Know) -> None:
    """Of hits that differ in what the database has not, and of an imported line that is there several times."""
    hits = know(visit("203.0.113.1"), visit("203.0.113.2"), visit("203.0.113.2"))

    assert [True, True, True, False] == [take(hits, visit(f"203.0.113.{number}")) for number in range(4)]


def test_rows_without_a_user_agent_are_known_by_the_rest(know: Know) -> None:
    """It was not kept in former versions."""
    hits = know(visit(), visit(), statement="UPDATE events SET user_agent = NULL")

    assert [True, True, False] == [take(hits, visit(agent=b"any")) for _ in range(3)]


def test_events_of_other_types_are_no_hits(know: Know) -> None:
    """A hit is a page view."""
    hits = know(Event(visit().received_ns, None, b"curl/8.0", "shop", "signup", referrer=PAGE.decode()))

    assert not take(hits, visit())
