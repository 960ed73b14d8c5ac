"""Hits and events: the bytes they travel as."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from footfall.entry import Entry, Event, Hit, decode_entries, encode_entries

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()
times_ns = st.integers(0, 2**63 - 1)
hits = st.builds(
    Hit,
    received_ns=times_ns,
    address=st.none() | st.ip_addresses().map(str),
    referrer=st.binary(),
    user_agent=st.binary(),
    site_id=st.none() | st.text(),
    path=st.none() | st.text(),
    user_id=st.none() | st.text(),
    host=st.none() | st.text(),
)
events = st.builds(
    Event,
    received_ns=times_ns,
    address=st.none() | st.ip_addresses().map(str),
    user_agent=st.binary(),
    site_id=st.text(min_size=1, max_size=128),
    event_type=st.text(min_size=1, max_size=64),
    path=st.none() | st.text(),
    user_id=st.none() | st.text(),
    occurred_us=st.none() | st.integers(-(2**63), 2**63 - 1),
    referrer=st.none() | st.text(),
    props=st.none() | st.dictionaries(st.text(), scalars, max_size=30),
    event_id=st.none() | st.text(),
    host=st.none() | st.text(),
)


@settings(deadline=None)
@given(st.lists(hits | events))
def test_entries_survive_their_bytes(entries: list[Entry]) -> None:
    """A batch decodes to exactly what was encoded, header bytes of any kind included."""
    assert entries == decode_entries(encode_entries(entries))


def test_batch_format_is_the_documented_one() -> None:
    """Files of the queue outlive versions of the code, so the bytes are pinned here."""
    hit = Hit(1, "192.0.2.1", b"\xff", b"|", "a", "/p", "u", "b.example")
    event = Event(
        2, None, b"", "a", "page_view", "/p", "u", -3, "r", {"k": 1.5}, "id", "b.example", 1920, "de", 80, 1_500, False
    )

    assert [
        ["h", 1, "192.0.2.1", b"\xff", b"|", "a", "/p", "u", "b.example"],
        [
            "e",
            2,
            None,
            b"",
            "a",
            "page_view",
            "/p",
            "u",
            -3,
            "r",
            {"k": 1.5},
            "id",
            "b.example",
            1920,
            "de",
            80,
            1_500,
            False,
        ],
    ] == msgspec.msgpack.decode(encode_entries([hit, event]))


def test_batch_of_an_older_version_is_read() -> None:
    """Fields that came later take their defaults."""
    payload = msgspec.msgpack.encode([["h", 1, None, b"r", b"u"], ["e", 2, None, b"u", "a", "click"]])

    assert [Hit(1, None, b"r", b"u"), Event(2, None, b"u", "a", "click")] == decode_entries(payload)


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x91\x91\xa1x", b"\x91\x91\xa1h", b"\x80", b"\x90\x90"])
def test_payload_of_something_else_is_refused(payload: bytes) -> None:
    """Bytes that no batch has are never taken for one."""
    with pytest.raises(msgspec.DecodeError):
        decode_entries(payload)
