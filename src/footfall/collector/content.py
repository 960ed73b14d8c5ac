"""Bodies that are compressed: `Content-Encoding`, RFC 9110, section 8.4."""

import zlib
from typing import Final

from footfall.problem import Problem

REASON: Final = "content_encoding"
"""What the ledger counts a body as that can't be decoded."""

_GZIP = 16 + zlib.MAX_WBITS
"""For zlib: a gzip member, RFC 1952, and nothing else."""


def decode(body: bytes, coding: bytes, limit: int) -> bytes:
    """The body as it was before it was compressed.

    A body that is small as it is sent may be large when it is decoded, so no more than `limit` bytes are made of it.

    Args:
        body: as it was sent.
        coding: what `Content-Encoding` says.
        limit: how long the body may be.

    Raises:
        Problem: 415 when it is not gzip, 400 when it says so and is not, 413 when it is longer than `limit`.
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
    if decoder.unused_data:  # more members would cost more than their bytes, and no client sends them
        raise Problem(400, "Something follows the end of the body's gzip data.", reason=REASON)
    return decoded
