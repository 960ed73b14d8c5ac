"""The format of one line of the visits log."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from footfall.visit_log.line import MAX_FIELD_BYTES, VisitLine, format_line, parse_line

EXAMPLE = "2022-12-19T14:16:49.9605280Z|https://google.com|SomeUserAgent 1.2.3|192.168.1.1"
EXAMPLE_NS = int(datetime(2022, 12, 19, 14, 16, 49, tzinfo=UTC).timestamp()) * 10**9 + 960_528_000

YEAR_1_NS = -62_135_596_800 * 10**9
YEAR_10000_NS = 253_402_300_800 * 10**9

headers = st.one_of(st.binary(), st.text().map(str.encode))
times = st.integers(YEAR_1_NS, YEAR_10000_NS - 1)
addresses = st.none() | st.text(st.characters(), min_size=1)


def test_example() -> None:
    """The contract's example comes out to the letter, and is read back."""
    assert EXAMPLE == format_line(EXAMPLE_NS, b"https://google.com", b"SomeUserAgent 1.2.3", "192.168.1.1")
    assert VisitLine(EXAMPLE_NS, b"https://google.com", b"SomeUserAgent 1.2.3", "192.168.1.1") == parse_line(EXAMPLE)


@given(times, headers, headers, addresses)
@example(EXAMPLE_NS, b"", b"null", "null")
@example(EXAMPLE_NS, b"", b"", None)
@example(EXAMPLE_NS, b"a|b\r\nc\\x7c", b"\xff\xed\xa0\x80\xc2\x85\xe2\x80\xa8" * 100, "\x00\u2029\ud800")
def test_round_trip(received_ns: int, referrer: bytes, user_agent: bytes, address: str | None) -> None:
    """Whatever was sent, it is one line of four fields in UTF-8, and is read back as it was."""
    line = format_line(received_ns, referrer, user_agent, address)

    assert 4 == len(line.split("|"))
    assert [line] == line.splitlines()
    assert line == line.encode().decode()
    assert VisitLine(received_ns // 100 * 100, referrer, user_agent, address) == parse_line(line)


@pytest.mark.parametrize(
    ("sent", "written"),
    [
        (b"", "null"),
        (b"null", r"\x6eull"),
        (b"Null", "Null"),
        (b"null ", "null "),
        (b"|", r"\x7c"),
        (b"\\", r"\x5c"),
        (b"\x00\t\r\n\x1f\x7f", r"\x00\x09\x0d\x0a\x1f\x7f"),
        ("\x80\x85\x9f".encode(), r"\x80\x85\x9f"),
        ("\u2028\u2029".encode(), r"\u2028\u2029"),
        (b"\x80\xff", r"\udc80\udcff"),
        (b"caf\xe9", r"caf\udce9"),
        ("café \U0001f600".encode(), "café \U0001f600"),
    ],
)
def test_escapes(sent: bytes, written: str) -> None:
    """Each header value is written as the format says."""
    assert written == format_line(0, sent, b"", "::1").split("|")[1]
    assert written == format_line(0, b"", sent, "::1").split("|")[2]


@given(headers.filter(len), st.integers(1, 3 * MAX_FIELD_BYTES))
@example(b"\xff", 60_000)
@example(b"|", 60_000)
@example("\u2028".encode(), 60_000)
@example(b"null", 60_000)
@example("a\U0001f600".encode(), 60_000)
def test_a_field_is_bounded_with_its_escapes(pattern: bytes, size: int) -> None:
    """However long a header is and whatever it holds, its field is 8 kB at most and says how the header began."""
    sent = (pattern * (size // len(pattern) + 1))[:size]
    line = format_line(0, sent, sent, "::1")

    _, referrer, user_agent, _ = line.split("|")
    assert referrer == user_agent
    assert len(referrer.encode()) <= MAX_FIELD_BYTES
    read = parse_line(line)
    assert sent.startswith(read.referrer)
    # An escape is 6 bytes at most, so less than that may be left free at the end.
    assert sent == read.referrer or len(referrer.encode()) > MAX_FIELD_BYTES - 6


def test_address_is_escaped() -> None:
    """An address that is none can't forge a field either."""
    assert r"1970-01-01T00:00:00.0000000Z|null|null|\x7c\x0a" == format_line(0, b"", b"", "|\n")


@pytest.mark.parametrize(
    ("received_ns", "written"),
    [
        (YEAR_1_NS, "0001-01-01T00:00:00.0000000Z"),
        (-1, "1969-12-31T23:59:59.9999999Z"),
        (99, "1970-01-01T00:00:00.0000000Z"),
        (100, "1970-01-01T00:00:00.0000001Z"),
        (YEAR_10000_NS - 1, "9999-12-31T23:59:59.9999999Z"),
    ],
)
def test_times(received_ns: int, written: str) -> None:
    """Times have seven decimals, and reach from the year 1 to 9999; what is below 100 ns is cut off."""
    assert written == format_line(received_ns, b"", b"", "::1").split("|")[0]


@pytest.mark.parametrize("received_ns", [YEAR_1_NS - 1, YEAR_10000_NS, 10**40])
def test_time_out_of_range(received_ns: int) -> None:
    """A time that can't be written is refused."""
    with pytest.raises(ValueError, match="outside the years 1 to 9999"):
        format_line(received_ns, b"", b"", "::1")


def test_no_address() -> None:
    """A visit without an address has no line; one whose address is left out has."""
    assert "null" == format_line(0, b"", b"", None).split("|")[3]
    with pytest.raises(ValueError, match="without an address"):
        format_line(0, b"", b"", "")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "a line has 4 fields, this one has 1"),
        (EXAMPLE + "|", "a line has 4 fields, this one has 5"),
        (EXAMPLE.replace("Z|", "|"), "the time is not like"),
        (EXAMPLE.replace("280Z", "28Z"), "the time is not like"),
        (EXAMPLE.replace("2022", "\uff12022"), "the time is not like"),
        (EXAMPLE.replace("12-19", "02-30"), "does not exist"),
        (EXAMPLE.replace("2022", "0000"), "does not exist"),
        (EXAMPLE.replace("https://google.com", ""), "the referrer is empty"),
        (EXAMPLE.replace("google", "\\google"), "the referrer holds a backslash that is not part of an escape"),
        (EXAMPLE.replace("google", r"\xFF"), "the referrer holds a backslash that is not part of an escape"),
        (EXAMPLE.replace("google", r"\ud800"), "the referrer holds an escape that stands for no byte: '\\ud800'"),
        (EXAMPLE.replace("SomeUserAgent", "Some\tAgent"), r"the user agent holds a character that is never written"),
        (EXAMPLE.replace("192.168.1.1", ""), "the address is empty"),
        (EXAMPLE + "\n", "the address holds a character that is never written as such: '\\n'"),
    ],
)
def test_not_a_line(line: str, reason: str) -> None:
    """What is not a line of the log is refused with the reason."""
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse_line(line)
