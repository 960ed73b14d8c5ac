"""Hits and events: what they are, and the bytes they travel as.

A *hit* is a request for the image, recorded as it came; a line of an imported access log is one, too. An *event*
is what a page or a program has told of itself; the protocol that it came in has checked it field by field. Both are
kept raw: what they mean (which site, which visitor, which browser) is `enrich`'s matter, so that better rules can be
applied to old batches.

Batch format: a MessagePack array of arrays; the first element of each is `"h"` (hit) or `"e"` (event), the rest
are the fields in the order they stand here. A new field is added at the end, with a default, so that any version
reads what an older one wrote.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Scalar = Integer | float | str | bool | None

MAX_SITE_ID = 128
MAX_EVENT_TYPE = 64
MAX_PATH = 2_048
MAX_USER_ID = 128
MAX_REFERRER = 2_048
MAX_PROPS = 30
MAX_PROP_NAME = 128
MAX_PROP_TEXT = 65_536
MAX_EVENT_ID = 64
MAX_HOST = 253
"""Characters of a host's name, RFC 1035, section 2.3.4."""
MAX_LANGUAGE = 35
"""What RFC 5646 (section 4.4.1) has an implementation take at least."""
MAX_SCREEN_WIDTH = 65_535
MAX_ENGAGED_MS = 30 * 24 * 60 * 60 * 1_000
MAX_HEADER_BYTES = 8_192
"""What is kept of a hit's `Referer` and of its `User-Agent`, as much as nginx takes of a header by default."""
MAX_USER_AGENT_BYTES = 512
"""What is looked at of a user agent: real ones are shorter, and what a parser does must not be a stranger's choice."""

PAGE_VIEW = "page_view"
"""The `event_type` that counts as a view; every hit is one."""


class Hit(Struct, frozen=True, array_like=True, tag="h", gc=False):
    """One request for the image, or one line of an imported log.

    Header values are the bytes that were sent, up to `MAX_HEADER_BYTES`: no encoding is promised by HTTP, and the
    visits log gives back exactly what came. `site_id`, `path` and `user_id` are what the query said, or None.

    `host` is the host of the page that was viewed, for a line of an imported log: there the referrer is the page that
    led to it. It is empty where the log does not tell. For the image it is None: there the referrer is the page itself.
    """

    received_ns: int
    address: str | None
    referrer: bytes
    user_agent: bytes
    site_id: str | None = None
    path: str | None = None
    user_id: str | None = None
    host: str | None = None


class Event(Struct, frozen=True, array_like=True, tag="e"):
    """One accepted `POST /event`.

    Of the user agent it has what is looked at: each of the many in one request has its own, which could else be 64 KiB.
    `occurred_us` is the client's timestamp, microseconds since 1970, or None where it sent none. `host` is that of the
    page that sent it, as its browser says; None where it does not. `screen_width` is in CSS pixels, `scroll_depth` in
    percent. An event that is not `interactive` ends no bounce.
    """

    received_ns: int
    address: str | None
    user_agent: bytes
    site_id: str
    event_type: str
    path: str | None = None
    user_id: str | None = None
    occurred_us: int | None = None
    referrer: str | None = None
    props: dict[str, Scalar] | None = None
    event_id: str | None = None
    host: str | None = None
    screen_width: int | None = None
    language: str | None = None
    scroll_depth: int | None = None
    engaged_ms: int | None = None
    interactive: bool | None = None


Entry = Hit | Event
"""What a batch is made of."""

_encoder = msgspec.msgpack.Encoder()
_decode_entries = msgspec.msgpack.Decoder(list[Entry]).decode
_decode_raws = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


def encode_entries(entries: Sequence[Entry]) -> bytes:
    return _encoder.encode(entries)


def decode_entries(payload: bytes) -> list[Entry]:
    """Read a batch's payload.

    Raises:
        msgspec.DecodeError: it is not what `encode_entries` wrote.
    """
    return _decode_entries(payload)


def join_entries(payloads: Sequence[bytes]) -> bytes:
    """One payload with the entries of several that `encode_entries` wrote; none is decoded."""
    count = 0
    bodies = []
    for payload in payloads:
        # The head of a MessagePack array: its length in the first byte, or in two or four bytes after it.
        head = {0xDC: 3, 0xDD: 5}.get(payload[0], 1)
        count += payload[0] & 0x0F if head == 1 else int.from_bytes(payload[1:head])
        bodies.append(payload[head:])
    return b"".join([b"\xdd", count.to_bytes(4), *bodies])


def drop_entries(payload: bytes, count: int) -> bytes:
    """A payload without its first entries; none is decoded.

    Raises:
        msgspec.DecodeError: it is not what `encode_entries` wrote.
    """
    return _encoder.encode(_decode_raws(payload)[count:])
