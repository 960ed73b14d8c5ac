from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from footfall.commands.access_log import (
    COMBINED,
    COMMON,
    HOST_COMBINED,
    HOST_COMMON,
    LogFormat,
    LogLine,
    MalformedLineError,
    parse_line,
    recognise,
)

APACHE = (
    rb'192.0.2.17 - - [17/May/2015:10:05:03 +0000] "GET /talks/2013/images/kibana.png?v=2 HTTP/1.1" 200 203023 '
    rb'"http://blog.example/talks/2013/" "Mozilla/5.0 (Macintosh; \"Intel\" Mac OS X 10_9_1) C:\\tools"'
)
NGINX = (
    rb'2001:db8::7 - alice [01/Feb/2024:23:59:59 -0730] "POST /form HTTP/2.0" 302 0 "-" "caf\xC3\xA9 \x22bot\x22" '
    rb'rt=0.004 "shop.example"'
)


def line(
    *,
    address: bytes = b"192.0.2.1",
    time: bytes = b"17/May/2015:10:05:03 +0000",
    request: bytes = b"GET / HTTP/1.1",
    answer: bytes = b"200 5",
    referrer: bytes = b"-",
    user_agent: bytes = b"-",
) -> bytes:
    return b'%s - - [%s] "%s" %s "%s" "%s"' % (address, time, request, answer, referrer, user_agent)


def apache_escaped(value: bytes) -> bytes:
    """As `ap_escape_logitem` of Apache does it."""
    short = {8: b"\\b", 9: b"\\t", 10: b"\\n", 11: b"\\v", 13: b"\\r", 34: b'\\"', 92: b"\\\\"}
    return b"".join(short.get(byte, b"%c" % byte if 32 <= byte < 127 else b"\\x%02x" % byte) for byte in value)


def nginx_escaped(value: bytes) -> bytes:
    """As `ngx_http_log_escape` of nginx does it."""
    return b"".join(b"\\x%02X" % byte if byte < 32 or byte > 126 or byte in b'"\\' else b"%c" % byte for byte in value)


def nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000


def test_a_line_of_apache_is_read_whole() -> None:
    """Every field of a line comes out, unescaped."""
    expected = LogLine(
        address="192.0.2.17",
        time_ns=nanoseconds(datetime(2015, 5, 17, 10, 5, 3, tzinfo=UTC)),
        method="GET",
        target=b"/talks/2013/images/kibana.png?v=2",
        protocol="HTTP/1.1",
        status=200,
        size=203023,
        referrer=b"http://blog.example/talks/2013/",
        user_agent=b'Mozilla/5.0 (Macintosh; "Intel" Mac OS X 10_9_1) C:\\tools',
        text=APACHE[:-1],
    )
    assert expected == parse_line(APACHE)


def test_a_line_of_nginx_is_read_whole() -> None:
    """An IPv6 address, a user's name, hexadecimal escapes and extra fields are all understood."""
    expected = LogLine(
        address="2001:db8::7",
        time_ns=nanoseconds(datetime(2024, 2, 2, 7, 29, 59, tzinfo=UTC)),
        method="POST",
        target=b"/form",
        protocol="HTTP/2.0",
        status=302,
        size=0,
        referrer=b"",
        user_agent='café "bot"'.encode(),
        text=NGINX[: NGINX.index(b'" rt=')],
    )
    assert expected == parse_line(NGINX)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_line_end_is_no_part_of_the_line(end: bytes) -> None:
    """With or without its end, a line is the same."""
    assert parse_line(APACHE) == parse_line(APACHE + end)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (b"203.0.113.9", "203.0.113.9"),
        (b"::1", "::1"),
        (b"::ffff:192.0.2.1", "::ffff:192.0.2.1"),
        (b"fe80::1%eth0", "fe80::1%eth0"),
        (b"crawl-66.bots.example", "crawl-66.bots.example"),
        (b"-", None),
        (b"unix:", None),
    ],
)
def test_addresses(written: bytes, expected: str | None) -> None:
    """An address stays as it was written; a client that has none has None."""
    assert expected == parse_line(line(address=written)).address


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (b"01/Jan/1970:00:00:00 +0000", datetime(1970, 1, 1, tzinfo=UTC)),
        (b"29/Feb/2024:00:00:00 +0100", datetime(2024, 2, 28, 23, tzinfo=UTC)),
        (b"31/Dec/2023:20:15:00 -0545", datetime(2024, 1, 1, 2, tzinfo=UTC)),
        (b"30/Jun/2015:23:59:60 +0000", datetime(2015, 7, 1, tzinfo=UTC)),
    ],
)
def test_times_are_told_in_utc(written: bytes, expected: datetime) -> None:
    """The offset is taken off, and a leap second is the first of the next minute."""
    assert nanoseconds(expected) == parse_line(line(time=written)).time_ns


def test_months_have_english_names() -> None:
    """Each of the twelve names is known, whatever the locale."""
    names = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
    times = [parse_line(line(time=b"09/%s/2020:00:00:00 +0000" % name)).time_ns for name in names]
    assert [nanoseconds(datetime(2020, month, 9, tzinfo=UTC)) for month in range(1, 13)] == times


@pytest.mark.parametrize(
    "written",
    [
        b"30/Feb/2015:10:05:03 +0000",
        b"17/Mai/2015:10:05:03 +0000",
        b"17/May/1969:10:05:03 +0000",
        b"17/May/2262:10:05:03 +0000",
        b"17/May/2015:24:05:03 +0000",
        b"17/May/2015:10:60:03 +0000",
        b"17/May/2015:10:05:61 +0000",
        b"17/May/2015:10:05:03 +2400",
    ],
)
def test_a_time_that_never_was_is_malformed(written: bytes) -> None:
    """A date or time that no clock shows is not guessed at."""
    with pytest.raises(MalformedLineError, match=r"^no such time$"):
        parse_line(line(time=written))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/", "/"),
        (b"/a/b.html?c=/d?e#f", "/a/b.html"),
        (b"/a#b", "/a"),
        (b"/?page=2", "/"),
        (b"//double", "//double"),
        (b"/caf%C3%A9%20x", "/caf%C3%A9%20x"),
        (b"/a b", "/a b"),
        ("/café".encode(), "/café"),
        (rb"/caf\xC3\xA9", "/café"),
        (rb"/caf\xe9", "/caf\N{REPLACEMENT CHARACTER}"),
        (b"http://shop.example/cart?x=1", "/cart"),
        (b"HTTPS://shop.example:8443", "/"),
        (b"http://shop.example?x=/y", "/"),
        (b"/go/http://other.example/x", "/go/http://other.example/x"),
        (b"*", "*"),
    ],
)
def test_paths(target: bytes, expected: str) -> None:
    """The path is the target without query, fragment, scheme and host, and not decoded."""
    assert expected == parse_line(line(request=b"GET %s HTTP/1.1" % target)).path


@pytest.mark.parametrize("request_line", [b"GET /old", b"GET /old HTTP/1.0"])
def test_http_09_names_no_protocol(request_line: bytes) -> None:
    """A request without a protocol is one of HTTP/0.9."""
    parsed = parse_line(line(request=request_line))
    assert (b"/old", "HTTP/1.0" if b"HTTP" in request_line else None) == (parsed.target, parsed.protocol)


@pytest.mark.parametrize(
    "request_line",
    [
        b"",
        b"-",
        b"GET",
        b"GET ",
        b"GET HTTP/1.1",
        b"GET  HTTP/1.1",
        rb"\x16\x03\x01\x02\x00\x01\x00\x01\xFC",
        rb"\x16\x03 / HTTP/1.1",
        b"SSH-2.0-OpenSSH_9.6",
        b"t3 12.2.1",
        rb"\n",
    ],
)
def test_a_request_field_without_a_request_is_malformed(request_line: bytes) -> None:
    """What timed out or was no HTTP at all is not a view of anything."""
    with pytest.raises(MalformedLineError, match=r"^no request$"):
        parse_line(line(request=request_line, answer=b"408 0"))


@pytest.mark.parametrize(("written", "expected"), [(b"0", 0), (b"-", None), (b"9" * 19, 10**19 - 1)])
def test_sizes(written: bytes, expected: int | None) -> None:
    """A size is a number of bytes, or unknown."""
    assert expected == parse_line(line(answer=b"200 " + written)).size


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (b"", "blank"),
        (b" \t\r\n", "blank"),
        (b"\xff\xfe", "no address"),
        (b"shop.example:443 192.0.2.1 - - ", "no address"),
        (b"192.0.2.1 - - ", "no time"),
        (b"192.0.2.1 - - [2015-05-17T10:05:03Z] ", "no time"),
        (b"192.0.2.1 - - [17/May/2015:10:05:03 +0000] GET", "no request"),
        (b'192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET /', "no closing quote of the request"),
        (b'192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET /" - 5', "no status"),
        (b'192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET /" 200 x', "no size"),
        (b'192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET /" 200 %s "-" "-"' % (b"9" * 5_000), "no size"),
        (b'192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET /" 200 5', "no referrer"),
        (b'192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET /" 200 5 "htt', "no closing quote of the referrer"),
        (b'192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET /" 200 5 "-"', "no user agent"),
        (rb'192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET /" 200 5 "-" "Bot\"', "no closing quote of the user agent"),
        (b'192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET /" 200 5 "-" "a"b"', "no space after the user agent"),
    ],
)
def test_a_malformed_line_says_what_is_missing(written: bytes, reason: str) -> None:
    """The first thing that is not as it should be is named."""
    with pytest.raises(MalformedLineError) as raised:
        parse_line(written)
    assert reason == raised.value.reason


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=len(APACHE) - 1))
def test_a_torn_line_is_malformed(length: int) -> None:
    """Wherever a line is cut off, its rest is not taken for a whole one."""
    with pytest.raises(MalformedLineError):
        parse_line(APACHE[:length])


@pytest.mark.parametrize("escaped", [apache_escaped, nginx_escaped])
@settings(deadline=None)
@given(referrer=st.binary(), user_agent=st.binary(), query=st.binary())
@example(referrer=rb"\x41", user_agent=b'\\"', query=b'" 200 5 "-" "-"')
def test_escaping_is_undone(
    escaped: Callable[[bytes], bytes], referrer: bytes, user_agent: bytes, query: bytes
) -> None:
    """Whatever bytes a client sent, they come back, and none of them ends a field."""
    parsed = parse_line(
        line(
            request=b"GET /?%s HTTP/1.1" % escaped(query),
            referrer=escaped(referrer),
            user_agent=escaped(user_agent),
        )
    )
    expected = [b"/?" + query, *(b"" if value == b"-" else value for value in (referrer, user_agent))]
    assert expected == [parsed.target, parsed.referrer, parsed.user_agent]


COMMON_LINE = b'192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 512'


@pytest.mark.parametrize(
    ("written", "expected", "host"),
    [
        (APACHE, COMBINED, ""),
        (NGINX, COMBINED, ""),
        (COMMON_LINE, COMMON, ""),
        (COMMON_LINE + b" 0.003", COMMON, ""),
        (b"www.Shop.example " + APACHE, HOST_COMBINED, "www.shop.example"),
        (b"shop.example:80 " + APACHE, HOST_COMBINED, "shop.example"),
        (b"[2001:db8::1]:8443 " + NGINX, HOST_COMBINED, "2001:db8::1"),
        (b"shop.example:443 crawl-66.bots.example" + APACHE[10:], HOST_COMBINED, "shop.example"),
        (b"localhost " + COMMON_LINE, HOST_COMMON, "localhost"),
        (b"shop.example:80 " + COMMON_LINE, HOST_COMMON, "shop.example"),
        (line(address=b"crawl-66.bots.example"), COMBINED, ""),
        (line().replace(b" - - ", b" - Jane Doe "), COMBINED, ""),
    ],
)
def test_a_format_is_recognised(written: bytes, expected: LogFormat, host: str) -> None:
    """Combined or Common, with the virtual host in front, its port, or neither; address and host are told apart."""
    assert expected is recognise([b"torn", written + b"\n", written + b"\r\n"])
    parsed = parse_line(written, expected)
    assert host == parsed.host
    assert parsed.address in {"192.0.2.1", "192.0.2.17", "2001:db8::7", "crawl-66.bots.example"}
    assert (COMMON_LINE in written) == (not parsed.user_agent and written.count(b'"') == 2)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b"\n", b"hello\n"],
        [b'{"ts": 1}'],
        [b"2015-05-17 10:05:03 W3SVC1 192.0.2.1 GET / - 80"],
        [COMMON_LINE[:-1].rstrip(b"0123456789")],
        [APACHE[:-3]],
    ],
)
def test_other_formats_are_not_guessed_at(lines: list[bytes]) -> None:
    """JSON, W3C's format of IIS, and lines that are torn."""
    assert recognise(lines) is None


def test_the_format_is_that_of_most_lines() -> None:
    """A log may have been written by another format for its first lines."""
    assert HOST_COMBINED is recognise([COMMON_LINE, b"a.example " + APACHE, b"a.example:80 " + APACHE])


@pytest.mark.parametrize("log_format", [COMMON, HOST_COMMON])
def test_a_line_is_known_without_the_end_that_may_be_cut_off(log_format: LogFormat) -> None:
    """Of a log that is being written, the last size may be there in part."""
    whole = (b"a.example " if log_format.has_host else b"") + COMMON_LINE
    assert parse_line(whole, log_format).text == parse_line(whole[:-1], log_format).text


def test_an_unknown_escape_stays() -> None:
    """A backslash that neither server would have written is left alone."""
    expected = rb"\d\x4"
    assert expected == parse_line(line(user_agent=rb"\d\x4")).user_agent


@settings(deadline=None)
@given(st.binary() | st.lists(st.sampled_from([*APACHE.split(b" "), b'"', b"[", b"]", b"\\"])).map(b" ".join))
def test_anything_else_is_malformed(written: bytes) -> None:
    """Bytes are a line or malformed; nothing else comes of them."""
    try:
        parsed = parse_line(written)
    except MalformedLineError:
        return
    assert parsed.path
