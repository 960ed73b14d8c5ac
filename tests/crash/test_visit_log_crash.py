"""The visits log after crashes: each line once, in order, nothing rewritten."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import pytest

from footfall.entry import Hit, encode_entries
from footfall.queue.base import Batch, Progress
from footfall.visit_log.line import parse_line
from footfall.visit_log.writer import VisitLog

SOURCE = "a"
ROUNDS = 25
LONGEST_LIFE_S = 0.05
ADDRESS = "192.0.2.1"


def numbers(sequence: int) -> range:
    """The hits of a batch; most batches are small, some take many pages of the file."""
    size = 5_000 if sequence % 10 == 0 else 1 + sequence % 7
    return range(size)


def numbered(sequence: int) -> Batch:
    hits = [Hit(0, ADDRESS, b"", f"{sequence}:{number}".encode()) for number in numbers(sequence)]
    return Batch(SOURCE, sequence, 0, len(hits), encode_entries(hits))


def write_until_killed(path: Path, state_dir: Path) -> None:
    """What the child does: go on from where the state says, and say when it has begun."""
    log = VisitLog(path, state_dir)
    reached = log.progress().get(SOURCE, Progress()).sequence
    print("ready", flush=True)  # noqa: T201 - the parent waits for it
    for sequence in count(reached + 1, 2):
        log.write([numbered(sequence), numbered(sequence + 1)])


@contextmanager
def killed_writer(path: Path, state_dir: Path) -> Iterator[None]:
    """Run a child on the log, the body at a random moment of its life; end it at another by SIGKILL."""
    with subprocess.Popen([sys.executable, __file__, path, state_dir], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            time.sleep(random.uniform(0, LONGEST_LIFE_S))
            yield
            time.sleep(random.uniform(0, LONGEST_LIFE_S))
        finally:
            child.kill()


def assert_each_once(files: list[Path], state_dir: Path) -> None:
    """Reopen the newest file, and find in all of them each hit up to the position once, in order."""
    with closing(VisitLog(files[-1], state_dir)) as log:
        progress = log.progress()[SOURCE]
    lines = b"".join(path.read_bytes() for path in files).decode().removesuffix("\n").split("\n")

    expected = [f"{sequence}:{number}" for sequence in range(1, progress.sequence + 1) for number in numbers(sequence)]
    assert expected == [parse_line(line).user_agent.decode() for line in lines]
    assert len(expected) == progress.written
    assert {} == progress.skipped


@pytest.mark.crash
def test_killed(tmp_path: Path) -> None:
    """However often the writer is killed, each line is there once, in order, and the file only ever grew."""
    path = tmp_path / "visits.log"
    content = b""
    for _ in range(ROUNDS):
        with killed_writer(path, tmp_path):
            pass
        before, content = content, path.read_bytes()
        assert content.startswith(before)
    assert_each_once([path], tmp_path)
    assert path.read_bytes().startswith(content)


@pytest.mark.crash
def test_killed_while_rotated(tmp_path: Path) -> None:
    """The same with a log that is renamed while the writer runs, and once it was killed."""
    path = tmp_path / "visits.log"
    rotated: list[Path] = []

    def rotate() -> None:
        if path.exists():
            rotated.append(path.rename(tmp_path / f"visits.log.{len(rotated)}"))

    for _ in range(ROUNDS):
        with killed_writer(path, tmp_path):
            rotate()
        rotate()
    assert_each_once([*rotated, path], tmp_path)


if __name__ == "__main__":
    write_until_killed(Path(sys.argv[1]), Path(sys.argv[2]))
