"""Hits, their batches and their lines, for tests of the visits log."""

from contextlib import closing
from pathlib import Path

import pytest

from footfall.entry import Entry, Hit, encode_entries
from footfall.queue.base import Batch
from footfall.visit_log.writer import VisitLog
from full_disk import largest_file

OLD_LINE = b"2001-09-09T01:46:40.0000000Z|null|from before|192.0.2.1\n"
OLD_LINES = OLD_LINE * 2_000
"""More than the state takes, so that a limit on the size of files is met by the log first."""


def hit(text: str) -> Hit:
    return Hit(0, "::1", b"", text.encode())


def line(text: str) -> bytes:
    return f"1970-01-01T00:00:00.0000000Z|null|{text}|::1\n".encode()


def batch(sequence: int, *entries: Entry, source: str = "a") -> Batch:
    return Batch(source, sequence, 0, len(entries), encode_entries(entries))


def leave_unfinished(path: Path, state_dir: Path, *, written: int) -> None:
    """Leave the log as a crash would after `written` bytes of the lines one, two and three (batches 1 and 2)."""
    path.write_bytes(OLD_LINES)
    with closing(VisitLog(path, state_dir)) as log, largest_file(len(OLD_LINES) + written):
        with pytest.raises(OSError, match="File too large"):
            log.write([batch(1, hit("one"), hit("two")), batch(2, hit("three"))])
        assert {} == log.progress()
    assert len(OLD_LINES) + written == path.stat().st_size


THREE_LINES = line("one") + line("two") + line("three")
