"""The account that a relay, or a consumer of a broker, writes to a small file.

The process that answers `/ledger` and `/metrics` reads it. The embedded queue keeps the accounts itself. A broker keeps
none, and only a sink's own process may read the sink's state. Nothing depends on the file: it is not synced, and the
next report replaces it.

File format: JSON, the fields of `Account`, or of `RelayAccount` for the relay; `<sink>.account` in `data_dir`.
"""

from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from footfall.durable.files import read_file, write_file

SUFFIX: Final = ".account"


class SourceAccount(Struct, frozen=True):
    """One source as one sink sees it: how many entries came, and what became of them."""

    received: int
    written: int
    skipped: dict[str, int]


class Account(Struct, frozen=True):
    """The account of a sink.

    Attributes:
        sources: by source, everything that the sink has ever dealt with.
        lag_batches: how many batches the broker still has for the sink.
        oldest_ns: when the oldest of them that has arrived here was committed, nanoseconds since 1970, or None.
        trouble: why the sink can't write now, or None.
        removed: entries that were written and are no longer in the output, by reason.
    """

    sources: dict[str, SourceAccount] = {}
    lag_batches: int = 0
    oldest_ns: int | None = None
    trouble: str | None = None
    removed: dict[str, int] = {}


class RelayAccount(Struct, frozen=True):
    """What became of a relay's messages since it was started.

    Attributes:
        confirmed: how many messages the broker has confirmed.
        failed: how often it did not confirm one. Such a message is published again.
    """

    confirmed: int = 0
    failed: int = 0


_Kind = TypeVar("_Kind", Account, RelayAccount)


def write_account(directory: Path, sink: str, account: Account | RelayAccount) -> None:
    """Write an account in place of the last one.

    Raises:
        OSError: the file can't be written.
    """
    path = directory / (sink + SUFFIX)
    making = path.with_suffix(".making")
    write_file(making, msgspec.json.encode(account))
    making.replace(path)


def read_account(directory: Path, sink: str, kind: type[_Kind]) -> _Kind:
    """The last account that was written; an empty one if there is none or it can't be read."""
    try:
        return msgspec.json.decode(read_file(directory / (sink + SUFFIX)), type=kind)
    except (OSError, msgspec.DecodeError):
        return kind()
