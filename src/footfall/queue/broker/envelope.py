"""A batch as a broker's message.

Message format: the bytes `FF1`, then a MessagePack array of `source`, `sequence`, `committed_ns`, `count`, `before`,
`is_damaged` (see `Batch`), the CRC-32 of the payload (zlib's), the `context`, the payload, and `joined`. The context is
the trace context of the batch, W3C's headers by name; empty where nothing is traced. A new field is added at the end,
with a default.

The checksum shows what was damaged on the way, and the types keep numbers within what an output can store. Neither
proves who published a message: whoever may publish can write a batch in any source's name.
"""

import zlib
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from footfall.queue.base import Batch

_MAGIC = b"FF1"

_Source = Annotated[str, Meta(max_length=128)]
_Number = Annotated[int, Meta(ge=0, le=2**62)]
"""So that the sum of two fits a database's 64 bits."""
_Count = Annotated[int, Meta(ge=0, le=2**32)]


class Envelope(Struct, frozen=True, array_like=True):
    """See the module's text."""

    source: _Source
    sequence: _Number
    committed_ns: _Number
    count: _Count
    before: _Number
    is_damaged: bool
    checksum: int
    context: dict[str, str]
    payload: bytes
    joined: tuple[tuple[_Number, _Count], ...] = ()

    def batch(self) -> Batch:
        """The batch; damaged if its payload is no longer what was published."""
        is_damaged = self.is_damaged or self.checksum != zlib.crc32(self.payload)
        return Batch(
            self.source,
            self.sequence,
            self.committed_ns,
            self.count,
            self.payload,
            is_damaged,
            self.before,
            self.context,
            self.joined,
        )


_decode = msgspec.msgpack.Decoder(Envelope).decode


def encode_envelope(batch: Batch, context: dict[str, str]) -> bytes:
    return _MAGIC + msgspec.msgpack.encode(
        Envelope(
            batch.source,
            batch.sequence,
            batch.committed_ns,
            batch.count,
            batch.before,
            batch.is_damaged,
            zlib.crc32(batch.payload),
            context,
            batch.payload,
            batch.joined,
        )
    )


def decode_envelope(value: bytes) -> Envelope:
    """Read a message.

    Raises:
        ValueError: it is not one of Footfall's.
    """
    if not value.startswith(_MAGIC):
        raise ValueError("it is not a message of Footfall's")
    try:
        return _decode(value[len(_MAGIC) :])
    except msgspec.DecodeError as error:
        raise ValueError(f"it can't be read: {error}") from error
