"""`kill -9` of a part of a running Footfall, at random moments."""

import http.client
import os
import random
import signal
import time
from collections import Counter, defaultdict
from enum import StrEnum
from pathlib import Path

from msgspec import Struct, field

from footfall.visit_log.writer import LOCK_NAME
from harness import START_S, Footfall
from oracle import Figures, Oracle

_LONGEST_CALM_S = 0.4
"""Up to this between two kills; a start takes as long, so that some hit a part that is only just coming up."""
_QUEUE_BYTES = 16 * 1024 * 1024
"""Small enough for the queue to be trimmed within minutes."""


class Part(StrEnum):
    """What is killed; the value is its name in a report."""

    COLLECTOR = "collector"  # one of them
    STORAGE = "storage"
    DATABASE = "database"
    TREE = "tree"


_LOCKS = {Part.STORAGE: LOCK_NAME, Part.DATABASE: "database.lock"}
"""In the data directory; each names the process that is the part."""


class Tally(Struct):
    """What a series has done.

    Attributes:
        kills: by part.
        restarts_s: by part, seconds from a kill until all is ready again, of those kills where that was awaited.
        figures: what the oracle has found, summed up.
    """

    kills: Counter[str] = field(default_factory=Counter)
    restarts_s: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    figures: Counter[str] = field(default_factory=Counter)

    def add(self, figures: Figures) -> None:
        self.figures.update({name: getattr(figures, name) for name in figures.__struct_fields__})


def run_rounds(directory: Path, rounds: int, chance: random.Random, tally: Tally) -> None:
    """Kill the collector, one of the consumers and the whole tree, `rounds` times each, under load; then check.

    Raises:
        AssertionError: something was lost, doubled or changed, or Footfall did not come back.
    """
    workers = chance.choice([1, 2])
    footfall = Footfall(
        directory,
        FOOTFALL__QUEUE__MAX_BYTES=str(_QUEUE_BYTES),
        FOOTFALL__COLLECTOR__WORKERS=str(workers),
    )
    oracle = Oracle(footfall)
    try:
        footfall.start()
        with oracle.load():
            for _ in range(rounds):
                parts = [Part.COLLECTOR, chance.choice([Part.STORAGE, Part.DATABASE]), Part.TREE]
                chance.shuffle(parts)
                for part in parts:
                    time.sleep(chance.uniform(0.0, _LONGEST_CALM_S))  # the moment of the kill is what is tried out
                    killed_at = time.monotonic()
                    _kill(footfall, part, workers)
                    tally.kills[part] += 1
                    # Else the next kill may come while this one is being recovered from.
                    if chance.random() < 0.5:
                        _await_ready(footfall)
                        tally.restarts_s[part].append(time.monotonic() - killed_at)
            _await_ready(footfall)
        tally.add(oracle.check())
    finally:
        footfall.kill()


def _kill(footfall: Footfall, part: Part, workers: int) -> None:
    if part is Part.TREE:
        footfall.kill()
        footfall.spawn()
        return
    pid = _await_pid(footfall, part, workers)
    os.kill(pid, signal.SIGKILL)
    while pid in _children(footfall):
        time.sleep(0.001)


def _await_pid(footfall: Footfall, part: Part, workers: int) -> int:
    """The process that is the part, once it can be told: a consumer holds a lock, a collector is what holds none."""
    deadline = time.monotonic() + START_S
    while True:
        children = _children(footfall)
        consumers = {other: _holder(footfall.data_dir / lock) for other, lock in _LOCKS.items()}
        holders = set(consumers.values())
        if part in consumers and consumers[part] in children:
            return consumers[part]
        if part is Part.COLLECTOR and holders < children and len(children) == len(holders) + workers:
            return min(children - holders)
        assert footfall.process.poll() is None, footfall.output()
        assert time.monotonic() < deadline, footfall.output()
        time.sleep(0.005)


def _children(footfall: Footfall) -> set[int]:
    pid = footfall.process.pid
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()}


def _holder(lock: Path) -> int:
    """The process that a lock's file names, alive or not; 0 for none."""
    text = lock.read_text("utf-8") if lock.exists() else ""
    return int(text.split()[1]) if text.endswith("\n") else 0


def _await_ready(footfall: Footfall) -> None:
    deadline = time.monotonic() + START_S
    while not _is_ready(footfall):
        assert footfall.process.poll() is None, footfall.output()
        assert time.monotonic() < deadline, footfall.output()
        time.sleep(0.005)


def _is_ready(footfall: Footfall) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", footfall.port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
