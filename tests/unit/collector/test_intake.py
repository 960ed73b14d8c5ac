"""Back-pressure and fairness of the intake, with a disk that does what the test says."""

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
import uvloop

from footfall.collector import intake as module
from footfall.collector.intake import MAX_WAITING_BYTES, Intake, Outcome
from footfall.entry import Event, Hit, decode_entries
from footfall.errors import QueueFullError
from footfall.queue.local.imports import ImportedBatch
from footfall.queue.local.store import LocalQueue

KIB = 1024
MIB = 1024 * KIB
FLOODER, OTHER, PROXY = "192.0.2.1", "192.0.2.2", "10.0.0.1"


class Disk(LocalQueue):
    """A queue whose commits end when the test lets them.

    Attributes:
        works: set while they do.
        is_busy: set when one does not.
    """

    def __init__(self, path: Path, *, max_bytes: int = 1 << 30) -> None:
        super().__init__(path, sinks=("visit_log",), durability="memory", max_bytes=max_bytes)
        self.works = threading.Event()
        self.works.set()
        self.is_busy = threading.Event()

    def append(
        self,
        payload: bytes,
        count: int,
        refused: Mapping[str, int] | None = None,
        imported: ImportedBatch | None = None,
    ) -> int:
        if not self.works.is_set():
            self.is_busy.set()
            assert self.works.wait(30)
        return super().append(payload, count, refused, imported)


class Desk:
    """An intake, and what became of what it was given.

    Attributes:
        disk: where it commits to.
        intake: itself.
        outcomes: of each entry, by its number, in the order in which they were told; `taken` where a hit need not wait.
    """

    def __init__(self, disk: Disk, intake: Intake) -> None:
        self.disk = disk
        self.intake = intake
        self.outcomes: dict[int, Outcome | Literal["taken"]] = {}

    def hit(self, number: int, sender: str | None = OTHER, size: int = 100) -> None:
        hit = Hit(number, "192.0.2.9", b"x" * size, b"")
        if self.intake.is_behind:
            self.intake.add_hit(hit, size, sender, partial(self.outcomes.__setitem__, number))
        else:
            self.outcomes[number] = "taken" if self.intake.add_hit(hit, size, sender) else Outcome.REFUSED

    def event(self, number: int, sender: str | None = OTHER) -> None:
        event = Event(number, None, b"", "site", "click")
        self.intake.add_events([event], 100, sender, partial(self.outcomes.__setitem__, number))

    async def stop_disk(self) -> None:
        """Have a commit under way that does not end, and the intake behind."""
        self.disk.works.clear()
        self.hit(-1)
        await asyncio.to_thread(self.disk.is_busy.wait, 30)
        await self.until(lambda: self.waits(-2))

    def waits(self, number: int) -> bool:
        """Whether a hit that is given now has to wait."""
        self.outcomes.pop(number, None)
        self.hit(number)
        return number not in self.outcomes

    async def commit(self, sender: str) -> None:
        """Have all committed that was taken so far."""
        self.outcomes.pop(0, None)
        self.event(0, sender)
        await self.until(lambda: 0 in self.outcomes)

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110 - what is waited for knows of no event
            await asyncio.sleep(0.002)


def run(path: Path, main: Callable[[Desk], Awaitable[None]], *, max_bytes: int = 1 << 30) -> Counter[str]:
    """Run a test; what was refused, by reason. What was recorded stays in the file."""

    async def with_intake() -> None:
        disk = Disk(path / "queue.sqlite", max_bytes=max_bytes)
        desk = Desk(disk, Intake(disk, on_failed=_fail))
        async with asyncio.timeout(60):
            await main(desk)
            disk.works.set()
            await desk.intake.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(with_intake())
    with closing(LocalQueue(path / "queue.sqlite", sinks=())) as queue:
        return Counter(queue.state().refused)


def recorded(path: Path) -> list[int]:
    """The numbers of the entries that are in the queue, in order."""
    with closing(LocalQueue(path / "queue.sqlite", sinks=())) as queue:
        batches = queue.read(0, max_bytes=1 << 30)
    return [entry.received_ns for batch in batches for entry in decode_entries(batch.payload)]


def _fail(error: Exception) -> None:
    raise error


def test_an_image_is_served_at_once_while_the_queue_keeps_up(tmp_path: Path) -> None:
    """Before its hit is committed."""

    async def main(desk: Desk) -> None:
        desk.hit(1)
        assert {1: "taken"} == desk.outcomes

    assert {} == run(tmp_path, main)
    assert [1] == recorded(tmp_path)


def test_a_hit_does_not_wait_as_long_as_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal may be counted late. A hit that comes after it is committed all the same."""
    monkeypatch.setattr(module, "REFUSED_WAIT_S", 3_600.0)

    async def main(desk: Desk) -> None:
        desk.intake.refuse("prefetch")
        desk.hit(1)
        await desk.until(lambda: recorded(tmp_path) == [1])

    assert {"prefetch": 1} == run(tmp_path, main)


def test_a_commit_counts_though_the_room_left_can_not_be_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on disk is not reported as refused, or its client would send it again."""

    async def main(desk: Desk) -> None:
        def fail() -> float:
            raise QueueFullError("of the test")

        monkeypatch.setattr(desk.disk, "free_share", fail)
        desk.event(1)
        await desk.until(lambda: 1 in desk.outcomes)
        assert {1: Outcome.COMMITTED} == desk.outcomes

    assert {} == run(tmp_path, main)
    assert [1] == recorded(tmp_path)


def test_an_image_waits_for_its_commit_when_the_queue_is_behind(tmp_path: Path) -> None:
    """As an event does; in the end all are recorded in the order in which they came."""

    async def main(desk: Desk) -> None:
        await desk.stop_disk()
        desk.hit(1)
        desk.event(2)
        desk.hit(3)
        await asyncio.sleep(0)
        assert not desk.outcomes.keys() & {1, 2, 3}
        desk.disk.works.set()
        await desk.until(lambda: 3 in desk.outcomes)
        assert {Outcome.COMMITTED} == {desk.outcomes[number] for number in (1, 2, 3)}

    assert {} == run(tmp_path, main)
    assert [1, 2, 3] == recorded(tmp_path)[-3:]


def test_a_sender_may_have_half_waiting_and_others_find_room(tmp_path: Path) -> None:
    """Two have a third each. All have room again when a commit has taken what waited."""

    async def main(desk: Desk) -> None:
        await desk.stop_disk()
        taken: Counter[str] = Counter()
        for sender in (FLOODER, OTHER):
            while desk.intake.has_room(sender):
                taken[sender] += 1
                desk.hit(1_000 * taken[sender], sender, 99 * KIB)
        assert taken[FLOODER] * 100 * KIB == pytest.approx(MAX_WAITING_BYTES / 2, abs=100 * KIB)
        assert taken[OTHER] * 100 * KIB == pytest.approx(MAX_WAITING_BYTES / 4, abs=100 * KIB)
        assert desk.intake.has_room("192.0.2.3")
        has_room = asyncio.Event()
        desk.intake.when_room(has_room.set)
        desk.disk.works.set()
        await has_room.wait()
        assert desk.intake.has_room(FLOODER)

    assert {} == run(tmp_path, main)


def test_many_senders_never_have_more_waiting_than_is_allowed(tmp_path: Path) -> None:
    """However many there are, each is given less, and memory stays bounded."""

    async def main(desk: Desk) -> None:
        await desk.stop_disk()
        waiting = 0
        for number in range(1_000):
            sender = f"192.0.2.{number}"
            while desk.intake.has_room(sender):
                desk.hit(number, sender, 9 * KIB)
                waiting += 10 * KIB
        assert waiting <= MAX_WAITING_BYTES + 10 * KIB

    assert {} == run(tmp_path, main)


def test_a_flood_through_a_proxy_is_refused_where_it_can_not_be_left_unread(tmp_path: Path) -> None:
    """The proxy's connections carry others, too: those are taken, and the one is counted."""

    async def main(desk: Desk) -> None:
        await desk.stop_disk()
        number = 0
        while Outcome.REFUSED not in desk.outcomes.values():
            assert desk.intake.has_room(PROXY)
            number += 1
            desk.hit(number, FLOODER, 99 * KIB)
        desk.event(100_000, FLOODER)
        assert Outcome.REFUSED is desk.outcomes[100_000]
        assert number * 100 * KIB < MAX_WAITING_BYTES * 3 / 4
        desk.hit(100_001, OTHER)
        assert 100_001 not in desk.outcomes

    assert {"flooding": 2} == run(tmp_path, main)
    assert 100_001 in recorded(tmp_path)


def test_after_a_while_nobody_waits_any_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came meanwhile is refused, and counted; an event that is being committed is told what became of it."""
    monkeypatch.setattr(module, "GIVE_UP_S", 0.05)

    async def main(desk: Desk) -> None:
        desk.disk.works.clear()
        desk.event(1)
        await asyncio.to_thread(desk.disk.is_busy.wait, 30)
        await desk.until(lambda: desk.waits(-1))
        desk.event(2)
        await desk.until(lambda: desk.intake.trouble is not None)
        await desk.until(lambda: 2 in desk.outcomes)
        assert {-1: Outcome.REFUSED, 2: Outcome.REFUSED} == {number: desk.outcomes[number] for number in (-1, 2)}
        assert 1 not in desk.outcomes
        desk.hit(3)
        assert Outcome.REFUSED is desk.outcomes[3]
        desk.disk.works.set()
        await desk.until(lambda: desk.intake.trouble is None)
        assert Outcome.COMMITTED is desk.outcomes[1]
        desk.hit(4)
        assert "taken" == desk.outcomes[4]

    refused = run(tmp_path, main)
    assert [1, 4] == sorted(set(recorded(tmp_path)) & {1, 2, 3, 4})
    assert 3 <= refused["queue_unavailable"]


def test_an_image_does_not_wait_for_two_slow_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time begins when it comes. So it is served before its own commit, which has begun later, is given up."""
    monkeypatch.setattr(module, "GIVE_UP_S", 1.0)
    given_up: list[bool] = []

    async def main(desk: Desk) -> None:
        loop = asyncio.get_running_loop()
        await desk.stop_disk()
        desk.intake.add_hit(
            Hit(1, None, b"", b""), 100, OTHER, lambda _: given_up.append(desk.intake.trouble is not None)
        )
        come = loop.time()
        await desk.until(lambda: loop.time() > come + 0.1)
        desk.disk.works.set()  # the first commit ends, and the one with the hit does not
        desk.disk.works.clear()
        desk.disk.is_busy.clear()
        await asyncio.to_thread(desk.disk.is_busy.wait, 30)
        await desk.until(lambda: bool(given_up))

    run(tmp_path, main)
    assert [False] == given_up
    assert 1 in recorded(tmp_path)


@pytest.mark.parametrize("flooders", [1, 3])
def test_the_last_of_the_disk_is_kept_for_those_who_do_not_flood(tmp_path: Path, flooders: int) -> None:
    """However long a flood lasts, it fills no more than a part of the queue, and what others send is recorded."""

    async def main(desk: Desk) -> None:
        number = sent = 0
        while number < 3 * 128:
            number += 1
            desk.hit(number, f"198.51.100.{number % flooders}", MIB)
            if number % 8 == 0:
                sent += 1
                desk.hit(-sent, OTHER)
            await desk.commit(OTHER)
        assert Outcome.REFUSED is desk.outcomes[number]
        assert not [number for number in range(1, sent + 1) if desk.outcomes[-number] is Outcome.REFUSED]
        assert 48 == sent

    refused = run(tmp_path, main, max_bytes=128 * MIB)
    assert {"flooding"} == refused.keys()
    taken = recorded(tmp_path)
    assert set(range(-48, 0)) <= set(taken)
    assert 3 * 128 == refused["flooding"] + sum(number > 0 for number in taken)
    assert refused["flooding"] > 2 * 128


def test_one_sender_alone_may_fill_the_queue(tmp_path: Path) -> None:
    """There is nobody to keep room for: it is full before anything is refused."""

    async def main(desk: Desk) -> None:
        number = 0
        while desk.intake.trouble is None:
            number += 1
            desk.hit(number, FLOODER, MIB)
            await desk.commit(FLOODER)
        assert number > 25

    assert {"queue_unavailable"} == run(tmp_path, main, max_bytes=32 * MIB).keys()
