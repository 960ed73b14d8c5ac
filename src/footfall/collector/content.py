"""Bodies that are compressed: `Content-Encoding`, RFC 9110, section 8.4."""

import zlib
from typing import Final

from footfall.problem import Problem

REASON: Final = "content_encoding"
"""The reason under which the ledger counts a body that can't be decoded."""

_GZIP = 16 + zlib.MAX_WBITS
"""zlib's number for the gzip format alone, RFC 1952."""


def decode(body: bytes, coding: bytes, limit: int) -> bytes:
    """Decode a body.

    A small body may be decoded to a huge one, so decoding stops at `limit`.

    Args:
        body: the body as it was sent.
        coding: the value of `Content-Encoding`.
        limit: how many bytes the decoded body may have.

    Raises:
        Problem: 415 if the coding is not gzip, 400 if the body is not what the coding says, 413 if it exceeds `limit`.
    """
    coding = coding.strip().lower()
    if coding in {b"", b"identity"}:
        return body
    if coding not in {b"gzip", b"x-gzip"}:
        raise Problem(415, "Content-Encoding may only be gzip.", reason=REASON)
    decoder = zlib.decompressobj(_GZIP)
    try:
        decoded = decoder.decompress(body, limit + 1)
    except zlib.error as error:
        raise Problem(400, f"The body is not gzip, as Content-Encoding says: {error}.", reason=REASON) from None
    if len(decoded) > limit:
        raise Problem(413, f"The body is longer than {limit} bytes when it is decoded.")
    if not decoder.eof:
        raise Problem(400, "The body is cut off: its gzip data has no end.", reason=REASON)
    if decoder.unused_data:  # no client sends a second member, and thousands of empty ones would cost much time
        raise Problem(400, "Something follows the end of the body's gzip data.", reason=REASON)
    return decoded
