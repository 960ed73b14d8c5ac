"""The bytes of an answer."""

from footfall.collector.message import Response
from raw_http import parse_answers

DATE = b"date: Wed, 12 Nov 2025 09:30:00 GMT\r\n"


def test_response_is_framed_by_its_length() -> None:
    """Status line, headers in lower case, the date, a blank line, the body."""
    wire = Response(200, b"body", "text/plain", {"cache-control": "no-store"}).wire(DATE, False, False)

    assert (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 4\r\ncache-control: no-store\r\n"
        + DATE
        + b"\r\nbody"
    ) == wire


def test_response_that_closes_says_so() -> None:
    """The client need not find out by sending another request in vain."""
    [answer] = parse_answers(Response(200, b"body").wire(DATE, False, True))

    assert ("close", b"body") == (answer.headers["connection"], answer.body)


def test_response_to_head_has_the_length_and_no_body() -> None:
    """RFC 9110, section 9.3.2."""
    [answer] = parse_answers(Response(200, b"body").wire(DATE, True, False), head_only=True)

    assert ("4", b"") == (answer.headers["content-length"], answer.body)


def test_response_without_content_has_no_length() -> None:
    """RFC 9110, section 8.6: a 204 must not tell one."""
    [answer] = parse_answers(Response(204).wire(DATE, False, False))

    assert "content-length" not in answer.headers


def test_response_that_is_sent_again_has_the_date_of_then() -> None:
    """What is kept of an answer is not older than its date line."""
    response = Response(200, b"body")
    later = DATE.replace(b"09:30:00", b"09:30:01")

    assert [DATE in response.wire(DATE, False, False), later in response.wire(later, False, False)] == [True, True]
    assert response.wire(DATE, False, False) == response.wire(DATE, False, False)
