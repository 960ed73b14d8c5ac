"""What a relay or a consumer of a broker says of itself, in a small file, for the process beside it that is asked.

With the embedded queue the queue keeps this. A broker keeps no accounts, and a sink's own state is for its process
alone. Nothing depends on the file: it is written anew at the next report, and not synced.

File format: JSON, the fields of `Account`, or of `RelayAccount` for the relay; `<sink>.account` in `data_dir`.
"""

from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from footfall.durable.files import read_file, write_file

SUFFIX: Final = ".account"


class SourceAccount(Struct, frozen=True):
    """One source, as one sink sees it: entries that came, and what became of them."""

    received: int
    written: int
    skipped: dict[str, int]


class Account(Struct, frozen=True):
    """Where a sink stands.

    Attributes:
        sources: by source; all that the sink has ever dealt with.
        lag_batches: how many batches the broker has for it.
        oldest_ns: when the oldest of them that is here was committed, nanoseconds since 1970; None without one.
        trouble: what keeps it from going on, or None.
    """

    sources: dict[str, SourceAccount] = {}
    lag_batches: int = 0
    oldest_ns: int | None = None
    trouble: str | None = None


class RelayAccount(Struct, frozen=True):
    """What became of the messages of a relay, since it was started.

    Attributes:
        confirmed: how many the broker has.
        failed: how often it did not confirm one; it was published again, or will be.
    """

    confirmed: int = 0
    failed: int = 0


_Kind = TypeVar("_Kind", Account, RelayAccount)


def write_account(directory: Path, sink: str, account: Account | RelayAccount) -> None:
    """Replace what was said before.

    Raises:
        OSError: it can't be written.
    """
    path = directory / (sink + SUFFIX)
    making = path.with_suffix(".making")
    write_file(making, msgspec.json.encode(account))
    making.replace(path)


def read_account(directory: Path, sink: str, kind: type[_Kind]) -> _Kind:
    """What was said last; nothing where nothing was, or where it can't be read."""
    try:
        return msgspec.json.decode(read_file(directory / (sink + SUFFIX)), type=kind)
    except (OSError, msgspec.DecodeError):
        return kind()
