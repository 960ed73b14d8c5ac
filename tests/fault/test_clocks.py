"""Clocks that are set while Footfall runs."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from footfall.queue.local.file import FILE_NAME
from footfall.queue.local.store import LocalQueue
from footfall.queue.sink import SINKS
from harness import Footfall, needs_tool
from oracle import Oracle

pytestmark = needs_tool("faketime", "faketime")

JUMPS = ["+10d", "+0", "-10d", "+0"]


def _library() -> str:
    """Where Debian's package has the library: the command itself tells."""
    listed = subprocess.run(
        [str(shutil.which("faketime")), "now", "sh", "-c", "echo $LD_PRELOAD"],
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.strip()


class SetClock:
    """The clock of a Footfall, set by how far it is off."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set("+0")

    def set(self, offset: str) -> None:
        self._file.write_text(f"{offset}\n", "ascii")


@pytest.fixture
def clock(tmp_path: Path) -> SetClock:
    return SetClock(tmp_path / "clock")


@pytest.fixture
def footfall(tmp_path: Path, clock: SetClock) -> Iterator[Footfall]:
    """A Footfall whose clock is `clock`; no process sees the true one, and time itself passes as it does."""
    assert clock is not None
    instance = Footfall(
        tmp_path,
        LD_PRELOAD=_library(),
        FAKETIME_TIMESTAMP_FILE=str(tmp_path / "clock"),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    yield instance
    instance.kill()


def test_jumps_lose_and_double_nothing(footfall: Footfall, clock: SetClock) -> None:
    """Ten days forward and back under load, with a restart while the clock is wrong."""
    oracle = Oracle(footfall)
    footfall.start()
    with oracle.load():
        for jump in JUMPS:
            clock.set(jump)
            time.sleep(0.5)  # some load at each time
            if jump == "-10d":
                footfall.kill()
                footfall.start()
    oracle.check()
    queue = LocalQueue(footfall.data_dir / FILE_NAME, sinks=SINKS)
    batches = queue.read(0, max_bytes=1 << 30)
    queue.close()
    assert sorted(batch.sequence for batch in batches) == [batch.sequence for batch in batches]
    # They were committed within seconds, though the clock says otherwise.
    times_ns = [batch.committed_ns for batch in batches]
    assert max(times_ns) - min(times_ns) > 5 * 86_400 * 1_000_000_000


def test_a_visitor_stays_one_visitor_of_the_day(footfall: Footfall, clock: SetClock) -> None:
    """The salt of today is not forgotten by a clock that is ten days ahead for a moment."""
    footfall.start()
    for jump in ["+0", "+10d", "+0"]:
        clock.set(jump)
        httpx.get(footfall.url + "/track?site_id=salted", headers={"User-Agent": "the same"})
        footfall.settle()
        time.sleep(1.5)  # the sink looks for what is to be forgotten about once a second
    today = datetime.now(UTC).date().isoformat()
    stats = footfall.stats("salted", date=today)
    assert (2, 1) == (stats["total_views"], stats["unique_users"])
