"""What the queue remembers of imported logs."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from footfall.errors import AlreadyInUseError
from footfall.queue.local.file import FILE_NAME
from footfall.queue.local.imports import DIGEST_BYTES, ImportedBatch, ImportedSite, ImportMark
from footfall.queue.local.repair import repair
from footfall.queue.local.store import LocalQueue

MAX_BYTES = 1 << 20
REMEMBERED = MAX_BYTES // 8 // DIGEST_BYTES
"""Lines, as docs/operations.md says."""

Open = Callable[[], LocalQueue]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens the queue of the test once more."""
    with ExitStack() as held:
        yield lambda: held.enter_context(
            closing(LocalQueue(tmp_path / FILE_NAME, sinks=[], durability="memory", max_bytes=MAX_BYTES))
        )


def mark(offset: int, *, number: int = 0) -> ImportMark:
    return ImportMark("log", number, offset, offset // 10, b"digest %025d" % offset)


def digests(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(DIGEST_BYTES) for number in numbers)


def batch(version: int, lines: dict[int, bytes] | None = None, *, site: str = "a", offset: int = 0) -> ImportedBatch:
    """What an import adds that has seen `version`."""
    return ImportedBatch(site, version, lines or {}, mark(offset) if offset else None)


def test_mark_and_lines_move_with_their_batch(opened: Open) -> None:
    """How far a log has come, and which lines are in, is in the same transaction as these."""
    queue = opened()
    assert ImportedSite() == queue.imported_site("a")
    queue.append(b"x", 5, imported=batch(0, {7: digests(1, 2), 8: digests(3)}, offset=50))
    queue.append(b"x", 5, imported=batch(1, {8: digests(4)}, offset=100))

    again = opened()
    assert [mark(100)] == again.import_marks("log")
    assert [] == again.import_marks("another log")
    assert (2, 4) == (again.imported_site("a").version, again.imported_site("a").lines)
    assert [digests(1, 2), digests(3, 4), b""] == [again.imported_lines("a", minute) for minute in (7, 8, 9)]
    assert [ImportedSite(), b""] == [again.imported_site("b"), again.imported_lines("b", 7)]


def test_logs_that_begin_alike_have_a_mark_each(opened: Open) -> None:
    """They are told apart by their number."""
    queue = opened()
    queue.imported_site("a")
    queue.append(b"x", 5, imported=ImportedBatch("a", 0, {}, mark(100)))
    queue.append(b"x", 5, imported=ImportedBatch("a", 1, {}, mark(70, number=1)))

    assert [mark(100), mark(70, number=1)] == queue.import_marks("log")
    queue.drop_import_marks("log")
    assert [] == queue.import_marks("log")


def test_batch_that_was_compared_before_another_import_added_lines_is_refused(opened: Open) -> None:
    """Two imports for one site at once do not count a line twice; those for two sites do not disturb each other."""
    queue = opened()
    queue.imported_site("a")
    queue.append(b"x", 5, imported=batch(0, {7: digests(1)}, offset=50))

    with pytest.raises(AlreadyInUseError, match="Another import for this site"):
        opened().append(b"x", 3, {"invalid": 1}, imported=batch(0, {7: digests(1)}, offset=30))
    state = queue.state()
    assert (5, {}, 1) == (state.received, state.refused, len(queue.read(0)))
    assert ([mark(50)], digests(1)) == (queue.import_marks("log"), queue.imported_lines("a", 7))

    opened().append(b"x", 3, imported=batch(0, {7: digests(1)}, site="b"))
    assert 8 == queue.state().received


def test_the_oldest_lines_are_forgotten(opened: Open) -> None:
    """What is remembered takes an eighth of the queue at most; which minutes are gone is known."""
    queue = opened()
    queue.imported_site("a")
    queue.append(b"x", 1, imported=batch(0, {3: digests(*range(10))}, site="small"))
    part = REMEMBERED // 4
    for version in range(6):
        queue.append(b"x", 1, imported=batch(version, {version: digests(*range(part))}))

    large, small = queue.imported_site("a"), queue.imported_site("small")
    assert (3 * part, 3) == (large.lines, large.forgotten)
    assert [0, 0, 0, part, part, part] == [len(queue.imported_lines("a", m)) // DIGEST_BYTES for m in range(6)]
    assert (10, ImportedSite().forgotten) == (small.lines, small.forgotten)


def test_a_queue_that_is_mended_remembers_what_was_imported(tmp_path: Path) -> None:
    """Else its lines would count again."""
    with closing(LocalQueue(tmp_path / "other.sqlite", sinks=[], max_bytes=MAX_BYTES)) as queue:
        queue.imported_site("a")
        for version in range(3):
            queue.append(b"x", 1, imported=batch(version, {7: digests(version), version: digests(9)}, offset=50))

    repair(tmp_path / "other.sqlite", "It is said to be damaged.")
    with closing(LocalQueue(tmp_path / "other.sqlite", sinks=[], max_bytes=MAX_BYTES)) as mended:
        assert (6, [mark(50)]) == (mended.imported_site("a").lines, mended.import_marks("log"))
        assert digests(0, 1, 2) == mended.imported_lines("a", 7)
        mended.append(b"x", 1, imported=batch(mended.imported_site("a").version, {7: digests(3)}))
