"""Compressed bodies: what is decoded, and what is said of the rest."""

import gzip
import zlib

import pytest

from footfall.collector.content import decode
from footfall.problem import Problem

TEXT = b'{"site_id": "a", "event_type": "click"}'
LIMIT = 10_000


def refusal(body: bytes, coding: bytes = b"gzip") -> Problem:
    with pytest.raises(Problem) as caught:
        decode(body, coding, LIMIT)
    return caught.value


@pytest.mark.parametrize("coding", [b"gzip", b"x-gzip", b" GZip "])
@pytest.mark.parametrize("text", [b"", TEXT, TEXT.ljust(LIMIT)], ids=["empty", "short", "as long as it may be"])
def test_gzip_is_decoded(text: bytes, coding: bytes) -> None:
    """By both of its names, up to the limit itself."""
    assert text == decode(gzip.compress(text), coding, LIMIT)


@pytest.mark.parametrize("coding", [b"", b"identity"])
def test_a_body_that_is_not_coded_is_itself(coding: bytes) -> None:
    """Nothing is decoded that is not said to be encoded."""
    body = gzip.compress(TEXT, mtime=0)
    assert body == decode(body, coding, LIMIT)


@pytest.mark.parametrize("coding", [b"br", b"deflate", b"zstd", b"gzip, gzip", b"gzip;q=1", b"gzipped"])
def test_another_coding_is_refused(coding: bytes) -> None:
    """415 says which one is taken."""
    problem = refusal(gzip.compress(TEXT, mtime=0), coding)
    assert (415, "content_encoding", True) == (problem.status, problem.reason, "gzip" in problem.detail)


@pytest.mark.parametrize("length", [LIMIT + 1, 1_000 * LIMIT], ids=["one more", "a bomb"])
def test_a_body_is_as_long_as_it_is_when_decoded(length: int) -> None:
    """413, however small it was when it was sent."""
    assert 413 == refusal(gzip.compress(b" " * length)).status


def test_a_bomb_is_not_decoded_further_than_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than one byte too many is ever made of it."""
    made: list[int] = []

    class Counting:
        def __init__(self, wbits: int) -> None:
            self._decoder = zlib.decompressobj(wbits)

        def decompress(self, data: bytes, max_length: int) -> bytes:
            decoded = self._decoder.decompress(data, max_length)
            made.append(len(decoded))
            return decoded

    class Zlib:
        error = zlib.error
        decompressobj = Counting

    bomb = gzip.compress(b" " * 10_000_000)
    monkeypatch.setattr("footfall.collector.content.zlib", Zlib)
    assert 413 == refusal(bomb).status
    assert [LIMIT + 1] == made


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "cut off"),
        (TEXT, "not gzip"),
        (zlib.compress(TEXT), "not gzip"),
        (gzip.compress(TEXT, mtime=0)[:-9], "cut off"),
        (gzip.compress(TEXT, mtime=0)[:5], "cut off"),
        (gzip.compress(TEXT, mtime=0)[:-8] + b"\0" * 8, "not gzip"),
        (gzip.compress(TEXT, mtime=0) + b"more", "follows the end"),
        (gzip.compress(TEXT, mtime=0) * 2, "follows the end"),
    ],
    ids=["nothing", "text", "zlib", "cut", "only a head", "wrong checksum", "more after it", "two members"],
)
def test_what_is_no_gzip_is_explained(body: bytes, says: str) -> None:
    """400, counted as a coding that is wrong."""
    problem = refusal(body)
    assert (400, "content_encoding") == (problem.status, problem.reason)
    assert says in problem.detail
