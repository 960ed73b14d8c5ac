"""A sink that stands still while hits and events keep coming."""

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from footfall.entry import Event, encode_entries
from footfall.queue.local.file import FILE_NAME
from footfall.queue.local.store import LocalQueue
from footfall.queue.sink import SINKS
from harness import ANSWER_S, Footfall, eventually
from oracle import Oracle

MIB = 1024 * 1024
QUEUE_BYTES = 16 * MIB
CRAWL_S = 5
BATCHES = 25_000
EVENT = {"site_id": "pressed", "event_type": "page_view", "props": {"fill": "x" * 16_000}}


@pytest.fixture
def pressed(tmp_path: Path) -> Iterator[Footfall]:
    """A Footfall with a small queue."""
    instance = Footfall(tmp_path, FOOTFALL__QUEUE__MAX_BYTES=str(QUEUE_BYTES))
    yield instance.start()
    instance.kill()


@contextmanager
def standing_still(footfall: Footfall, lock: str) -> Iterator[None]:
    """The process that holds `lock` does nothing, like one that waits for a disk.

    It is stopped where it does not hold the queue, which it does for a moment when it reports.
    """
    pid = footfall.holder(lock)
    os.kill(pid, signal.SIGSTOP)
    try:
        while is_held(footfall.data_dir / FILE_NAME):
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def is_held(queue: Path) -> bool:
    """Whether nobody else could write to the queue for a second."""
    with closing(sqlite3.connect(queue, timeout=1, isolation_level=None)) as database:
        try:
            database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        return False


def metric(footfall: Footfall, name: str, sink: str) -> float:
    start = f'{name}{{sink="{sink}"}} '
    [line] = [line for line in httpx.get(footfall.url + "/metrics").text.splitlines() if line.startswith(start)]
    return float(line.removeprefix(start))


def resident_bytes(footfall: Footfall) -> int:
    """Memory of all processes of a Footfall that is not stopped, the largest first."""
    pid = footfall.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    return max(int(Path(f"/proc/{child}/statm").read_text("ascii").split()[1]) * 4_096 for child in children)


@pytest.mark.parametrize("lock", ["visit_log.lock", "database.lock"])
def test_a_sink_that_stands_still_costs_disk_up_to_the_limit_and_then_503(pressed: Footfall, lock: str) -> None:
    """What was accepted before is written when the sink goes on, and the disk goes back."""
    accepted = 0
    with standing_still(pressed, lock), httpx.Client(base_url=pressed.url, timeout=ANSWER_S) as client:
        while (answer := client.post("/event", json=EVENT)).status_code == 202:
            accepted += 1
        assert (503, "1") == (answer.status_code, answer.headers["retry-after"])
        assert 200 == client.get("/track?site_id=pressed").status_code
        queue = pressed.data_dir / FILE_NAME
        assert queue.stat().st_size <= QUEUE_BYTES + 2 * MIB
        assert queue.with_name("queue.sqlite-wal").stat().st_size <= 32 * MIB
        assert resident_bytes(pressed) < 400 * MIB
    assert accepted > QUEUE_BYTES // 32_000
    eventually(200, lambda: httpx.get(pressed.url + "/readyz").status_code)
    pressed.settle(60)
    assert accepted == pressed.stats("pressed")["total_views"]
    assert 2 == pressed.ledger()["refused"]["queue_unavailable"]
    # What stays is the margin for a rebuild, a quarter, and some free pages.
    eventually(True, lambda: queue.stat().st_size < QUEUE_BYTES // 2, timeout_s=60)
    assert 202 == pressed.post(site_id="pressed").status_code


def test_queue_that_somebody_holds_is_waited_for_and_then_503(pressed: Footfall) -> None:
    """A process may be stopped in the middle of a commit: nobody else can commit until it goes on."""
    with closing(sqlite3.connect(pressed.data_dir / FILE_NAME, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        answer = pressed.post(site_id="held")
        assert (503, "1") == (answer.status_code, answer.headers["retry-after"])
        assert 200 == httpx.get(pressed.url + "/track?site_id=held").status_code
        holder.execute("ROLLBACK")
    eventually(202, lambda: pressed.post(site_id="held").status_code)
    pressed.settle()
    ledger = pressed.ledger()
    assert (1, 1) == (ledger["received"], pressed.stats("held")["total_views"])
    assert ledger["refused"]["queue_unavailable"] >= 2


def test_lag_is_seen_and_goes_back(pressed: Footfall) -> None:
    """In batches and seconds, while a sink stands still and after."""
    with standing_still(pressed, "visit_log.lock"):
        for _ in range(3):
            pressed.post(site_id="lag")
        assert metric(pressed, "footfall_sink_lag_batches", "visit_log") >= 3
        eventually(True, lambda: metric(pressed, "footfall_sink_lag_seconds", "visit_log") > 0.2)
        eventually(0.0, lambda: metric(pressed, "footfall_sink_lag_batches", "database"))
    eventually(0.0, lambda: metric(pressed, "footfall_sink_lag_batches", "visit_log"))
    assert 0.0 == metric(pressed, "footfall_sink_lag_seconds", "visit_log")


def test_sinks_at_a_hundredth_of_their_speed_lose_nothing(pressed: Footfall) -> None:
    """However small the steps in which they get on, and wherever they are held up: all is written or was refused."""
    oracle = Oracle(pressed, filler_bytes=30_000)
    until = time.monotonic() + CRAWL_S
    with oracle.load():
        while time.monotonic() < until:
            with standing_still(pressed, "visit_log.lock"), standing_still(pressed, "database.lock"):
                time.sleep(0.2)
            time.sleep(0.002)  # what they get of it
    oracle.check()


def test_disk_goes_back_soon_after_many_small_batches(pressed: Footfall) -> None:
    """A backlog of events that came one by one is dropped as fast as it was written."""
    pressed.stop()
    with closing(LocalQueue(pressed.data_dir / FILE_NAME, sinks=SINKS, durability="memory")) as queue:
        for number in range(BATCHES):
            event = Event(time.time_ns(), "192.0.2.1", b"", "small", "click", path="/" * 400, user_id=str(number))
            queue.append(encode_entries([event]), 1)
        backlog = queue.state().bytes
        pressed.start()
        eventually(True, lambda: queue.state().bytes < backlog // 2, timeout_s=15)
    pressed.settle()
    assert BATCHES == pressed.ledger()["sinks"]["database"]["written"]
