"""The state of a visits log: what stops it, and what becomes of a damaged one. See also tests/fault/test_damage.py."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from footfall.durable.lock import is_held
from footfall.errors import AlreadyInUseError, DamagedFileError
from footfall.queue.base import Progress, SinkReport
from footfall.visit_log.state import FILE_NAME as STATE_NAME
from footfall.visit_log.writer import LOCK_NAME, VisitLog
from visit_batches import batch, hit, line


def test_log_whose_state_is_gone_is_refused_where_no_queue_can_tell(path: Path, state_dir: Path) -> None:
    """A broker gives all it keeps again, to a storage that knows of nothing."""
    with closing(VisitLog(path, state_dir, is_told=False)) as log:
        log.write([batch(1, hit("one"))])
    with closing(VisitLog(path, state_dir, is_told=False)) as log:
        log.write([batch(2, hit("two"))])
    (state_dir / STATE_NAME).unlink()

    with pytest.raises(DamagedFileError, match="All that the broker keeps would be written again"):
        VisitLog(path, state_dir, is_told=False)
    assert line("one") + line("two") == path.read_bytes()
    path.rename(state_dir / "moved")
    with closing(VisitLog(path, state_dir, is_told=False)) as log:
        assert {} == log.progress()


def test_full_state(path: Path, state_dir: Path) -> None:
    """When the intent can't be recorded, nothing is appended, and a later call goes on."""
    with closing(VisitLog(path, state_dir)) as log, closing(sqlite3.connect(state_dir / STATE_NAME)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OSError, match="can't be written now: database is locked"):
            log.write([batch(1, hit("one"))])
        assert b"" == path.read_bytes()

        other.execute("ROLLBACK")
        log.write([batch(1, hit("one"))])
        assert {"a": Progress(1, 1, 1)} == log.progress()
    assert line("one") == path.read_bytes()


def test_second_writer_of_the_state(path: Path, state_dir: Path) -> None:
    """Two logs can't share a state; what was opened for the second is closed again."""
    other = path.with_name("other.log")
    with closing(VisitLog(path, state_dir)):
        assert is_held(state_dir / LOCK_NAME)
        with pytest.raises(AlreadyInUseError, match=r"the visits log's state .* is already held by process"):
            VisitLog(other, state_dir)

    assert not is_held(state_dir / LOCK_NAME)
    with closing(VisitLog(other, state_dir)):
        assert is_held(other)


def test_log_among_the_state(state_dir: Path) -> None:
    """The log may lie in the state directory, under any name."""
    with closing(VisitLog(state_dir / "visit_log", state_dir)) as log:
        log.write([batch(1, hit("one"))])

    assert line("one") == (state_dir / "visit_log").read_bytes()


def test_damaged_state(path: Path, state_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A state that is none is set aside, and the log of Footfall tells where."""
    (state_dir / STATE_NAME).write_bytes(b"not SQLite" * 100)

    with closing(VisitLog(path, state_dir)) as log:
        assert {} == log.progress()
    [aside] = state_dir.glob(f"{STATE_NAME}.damaged-*")
    assert b"not SQLite" * 100 == aside.read_bytes()
    assert str(aside) in caplog.text


def test_newer_state(path: Path, state_dir: Path) -> None:
    """A state of a later format is refused."""
    with closing(sqlite3.connect(state_dir / STATE_NAME)) as db:
        db.execute("PRAGMA user_version = 2")

    with pytest.raises(DamagedFileError, match="has format 2; this Footfall reads format 1"):
        VisitLog(path, state_dir)


def test_a_start_after_a_stop_without_a_hit_is_no_alarm(
    path: Path, state_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """There was nothing to note yet; a state that was lost is told."""
    reports: list[SinkReport | None] = [None]
    for _ in range(3):
        with closing(VisitLog(path, state_dir)) as log:
            log.resume("a", reports[-1], lambda _: [])
            reports.append(SinkReport(0, 0, 0, {}, log.mark(), None))
    assert [] == caplog.messages

    with closing(VisitLog(path, state_dir)) as log:
        log.write([batch(1, hit("one"))])
        report = SinkReport(1, 1, 1, {}, log.mark(), None)
    (state_dir / STATE_NAME).unlink()
    with closing(VisitLog(path, state_dir)) as log:
        log.resume("a", report, lambda _: [])
    assert ["is new, or older than the log" in message for message in caplog.messages] == [True]
