"""A checksum of values, which tells whether they are still those that were written: SQLite checks none of its pages."""

import zlib

import msgspec


def checksum_of(*values: object) -> int:
    """The CRC-32 of the values, as MessagePack."""
    return zlib.crc32(msgspec.msgpack.encode(values))
