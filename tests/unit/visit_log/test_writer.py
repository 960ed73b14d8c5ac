"""The writer of the visits log: lines, positions, and writes that were cut short."""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from footfall.entry import Event, Hit
from footfall.errors import DamagedFileError
from footfall.queue.base import Batch, Progress
from footfall.queue.sink import VISIT_LOG, Sink
from footfall.visit_log.writer import VisitLog
from full_disk import largest_file
from visit_batches import OLD_LINES, THREE_LINES, batch, hit, leave_unfinished, line


def test_example(path: Path, state_dir: Path) -> None:
    """The contract's example line comes out to the letter."""
    received_ns = int(datetime(2022, 12, 19, 14, 16, 49, tzinfo=UTC).timestamp()) * 10**9 + 960_528_000
    with closing(VisitLog(path, state_dir)) as log:
        log.write([batch(1, Hit(received_ns, "192.168.1.1", b"https://google.com", b"SomeUserAgent 1.2.3"))])

    assert b"2022-12-19T14:16:49.9605280Z|https://google.com|SomeUserAgent 1.2.3|192.168.1.1\n" == path.read_bytes()


def test_is_a_sink(path: Path, state_dir: Path) -> None:
    """It has the name it is known by, and has written nothing at first."""
    sink: Sink = VisitLog(path, state_dir)
    with closing(sink):
        assert VISIT_LOG == sink.name
        assert {} == sink.progress()


def test_skipped(path: Path, state_dir: Path) -> None:
    """Events and hits without an address are counted, not written."""
    event = Event(0, "::1", b"", "site", "page_view")
    with closing(VisitLog(path, state_dir)) as log:
        log.write([batch(3, event, hit("one"), Hit(0, None, b"", b""), Hit(0, "", b"", b""), event, event)])
        log.write([batch(4, event)])

        assert {"a": Progress(4, 4, 1, {"event": 4, "no_address": 2})} == log.progress()
    assert line("one") == path.read_bytes()


def test_position_survives(path: Path, state_dir: Path) -> None:
    """A new object on the same state goes on where the last one was."""
    with closing(VisitLog(path, state_dir)) as log:
        log.write([batch(1, hit("one")), batch(7, hit("two"), hit("three"))])

    with closing(VisitLog(path, state_dir)) as log:
        assert {"a": Progress(7, 7, 3)} == log.progress()
        log.write([batch(8, hit("four"))])
        assert {"a": Progress(8, 8, 4)} == log.progress()
    assert THREE_LINES + line("four") == path.read_bytes()


def test_redelivered(path: Path, state_dir: Path) -> None:
    """A batch that was written is passed over, in one call, in a later one and after a new start."""
    one, two, three = (batch(sequence, hit(text)) for sequence, text in enumerate(("one", "two", "three"), 1))
    with closing(VisitLog(path, state_dir)) as log:
        log.write([one, one, two, one])
        log.write([one, two])
    with closing(VisitLog(path, state_dir)) as log:
        log.write([one, two, three])
        assert {"a": Progress(3, 3, 3)} == log.progress()
        log.write([])

    assert THREE_LINES == path.read_bytes()


def test_sources(path: Path, state_dir: Path) -> None:
    """Each source has its own position, however they interleave."""
    with closing(VisitLog(path, state_dir)) as log:
        log.write([batch(5, hit("one"), source="a"), batch(2, hit("two"), source="b"), batch(6, source="a")])
        log.write([batch(2, hit("two"), source="b"), batch(1, hit("three"), source="c")])

        assert {"a": Progress(6, 6, 1), "b": Progress(2, 2, 1), "c": Progress(1, 1, 1)} == log.progress()
    assert THREE_LINES == path.read_bytes()


def test_larger_than_an_intent(path: Path, state_dir: Path) -> None:
    """A call of many megabytes is written in steps; when one fails, the position is that of the last whole one."""
    text = "x" * 8_000
    batches = [batch(sequence, *[hit(text)] * 125) for sequence in range(1, 11)]
    with closing(VisitLog(path, state_dir)) as log:
        with largest_file(7_000_000), pytest.raises(OSError, match="File too large"):
            log.write(batches)
        assert {"a": Progress(5, 5, 5 * 125)} == log.progress()

        log.write(batches)
        assert {"a": Progress(10, 10, 10 * 125)} == log.progress()
    assert line(text) * 10 * 125 == path.read_bytes()


def test_unreadable_batch(path: Path, state_dir: Path) -> None:
    """A batch that is not what a queue holds stops the log, nothing of the call written."""
    with closing(VisitLog(path, state_dir)) as log:
        with pytest.raises(DamagedFileError, match="batch 2 of queue a can't be read"):
            log.write([batch(1, hit("one")), Batch("a", 2, 0, 1, b"?")])
        assert {} == log.progress()
    assert b"" == path.read_bytes()


@pytest.mark.parametrize("written", range(len(THREE_LINES)))
def test_every_length_of_an_append(path: Path, state_dir: Path, written: int) -> None:
    """Wherever within an append a crash struck, the next start appends just the rest, and the position moves."""
    leave_unfinished(path, state_dir, written=written)

    with closing(VisitLog(path, state_dir)) as log:
        assert {"a": Progress(2, 2, 3)} == log.progress()
    assert OLD_LINES + THREE_LINES == path.read_bytes()


def test_goes_on_after_a_failure(path: Path, state_dir: Path) -> None:
    """After a failed write the same object ends the line and goes on, each line there once."""
    path.write_bytes(OLD_LINES)
    batches = [batch(1, hit("one"), hit("two")), batch(2, hit("three"))]
    with closing(VisitLog(path, state_dir)) as log:
        with largest_file(len(OLD_LINES) + len(line("one")) + 5), pytest.raises(OSError, match="File too large"):
            log.write(batches)
        assert {} == log.progress()
        assert OLD_LINES + line("one") + line("two")[:5] == path.read_bytes()

        log.write([*batches, batch(3, hit("four"))])
        assert {"a": Progress(3, 3, 4)} == log.progress()
    assert OLD_LINES + THREE_LINES + line("four") == path.read_bytes()


@pytest.mark.parametrize("written", [0, 5, len(line("one")), len(THREE_LINES) - 1])
def test_starts_with_a_full_disk(path: Path, state_dir: Path, written: int) -> None:
    """When what a crash left can't be finished at the start, the next write does."""
    leave_unfinished(path, state_dir, written=written)

    with largest_file(len(OLD_LINES) + written):
        log = VisitLog(path, state_dir)
    with closing(log):
        assert {} == log.progress()
        log.write([])
        assert {"a": Progress(2, 2, 3)} == log.progress()
    assert OLD_LINES + THREE_LINES == path.read_bytes()
