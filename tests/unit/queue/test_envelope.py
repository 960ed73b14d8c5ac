"""A batch as a broker's message."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from footfall.entry import Entry, Event, Hit, decode_entries, drop_entries, encode_entries, join_entries
from footfall.queue.base import Batch
from footfall.queue.broker.envelope import decode_envelope, encode_envelope

NUMBERS = st.integers(0, 2**62)
COUNTS = st.integers(0, 2**32)
BATCHES = st.builds(
    Batch,
    source=st.text(max_size=20),
    sequence=NUMBERS,
    committed_ns=NUMBERS,
    count=COUNTS,
    payload=st.binary(),
    is_damaged=st.booleans(),
    before=NUMBERS,
    joined=st.lists(st.tuples(NUMBERS, COUNTS)).map(tuple),
)
ENTRIES: st.SearchStrategy[Entry] = st.builds(Hit, NUMBERS, st.none(), st.binary(), st.binary()) | st.builds(
    Event, NUMBERS, st.none(), st.binary(), st.text(), st.text()
)


@given(BATCHES, st.dictionaries(st.text(), st.text()))
def test_a_batch_travels_whole(batch: Batch, context: dict[str, str]) -> None:
    """What a relay publishes is what a consumer gets."""
    envelope = decode_envelope(encode_envelope(batch, context))

    assert structs.replace(batch, context=context) == envelope.batch()


def test_a_payload_that_has_changed_makes_a_damaged_batch() -> None:
    """Its place and its count are still known."""
    message = encode_envelope(Batch("a", 7, 1, 3, b"payload"), {})

    assert (
        Batch("a", 7, 1, 3, b"pbyload", is_damaged=True)
        == decode_envelope(message.replace(b"payload", b"pbyload")).batch()
    )


@given(st.binary())
def test_other_messages_are_refused(value: bytes) -> None:
    """Anybody may publish to a topic; what is not Footfall's is known by its beginning."""
    with pytest.raises(ValueError, match="not a message of Footfall's"):
        decode_envelope(b"\0" + value)


@given(st.binary(max_size=40))
def test_what_only_begins_well_is_refused(value: bytes) -> None:
    """Bytes that begin like a message and are none."""
    with pytest.raises(ValueError, match="can't be read"):
        decode_envelope(b"FF1\x90" + value)


@pytest.mark.parametrize(
    "change",
    [
        {"source": "a" * 129},
        {"sequence": 2**63 - 1},
        {"sequence": -1},
        {"count": 2**33},
        {"count": -1},
        {"before": 2**64 - 1},
        {"committed_ns": -1},
        {"joined": ((7, -3),)},
    ],
    ids=str,
)
def test_numbers_that_no_output_can_store_are_refused(change: dict[str, Any]) -> None:
    """Whoever may publish to a topic could stop an output for good with one such message."""
    batch = structs.replace(Batch("a", 7, 1, 3, b"payload"), **change)

    with pytest.raises(ValueError, match="can't be read"):
        decode_envelope(encode_envelope(batch, {}))


@given(st.lists(st.lists(ENTRIES, max_size=40), min_size=1, max_size=5))
def test_joined_payloads_hold_the_entries_of_all(parts: list[list[Entry]]) -> None:
    """In their order, and none decoded on the way."""
    joined = join_entries([encode_entries(part) for part in parts])

    assert [entry for part in parts for entry in part] == decode_entries(joined)


@given(st.lists(ENTRIES, max_size=40), st.integers(0, 40))
def test_payload_without_its_first_entries(entries: list[Entry], count: int) -> None:
    """The others are as they were."""
    assert entries[count:] == decode_entries(drop_entries(encode_entries(entries), count))


@pytest.mark.parametrize("count", [0, 15, 16, 65_535, 65_536])
def test_payloads_of_any_length_are_joined(count: int) -> None:
    """MessagePack has a head of its own for short, middling and long arrays."""
    part: list[Entry] = [Hit(1, None, b"", b"")] * count

    assert 2 * count == len(decode_entries(join_entries([encode_entries(part)] * 2)))
