"""Disks that are full, fail or can't be written: refused, never lost; and it works again by itself."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from harness import Footfall, eventually, needs_tool
from oracle import Oracle

MIB = 1024 * 1024
DISK_BYTES = 48 * MIB
SYNCS = "fsync,fdatasync"
WRITES = "write,pwrite64"


@contextmanager
def small_disk(directory: Path, options: str = "") -> Iterator[None]:
    """A file system of its own in a directory, of `DISK_BYTES`."""
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"mode=750,size={DISK_BYTES}{options}", "tmpfs", str(directory)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        reason = f"needs to be root, to mount a small disk: {mounted.stderr.strip()}"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@contextmanager
def full(directory: Path) -> Iterator[None]:
    """No byte is left on a disk."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (MIB, 4_096, 1):
            try:
                while file.write(b"\1" * size) == size:
                    pass
            except OSError:
                continue
    try:
        yield
    finally:
        filler.unlink()


def start(footfall: Footfall) -> None:
    """Start it and wait until all of its processes work: one that can't, the first time, ends them all."""
    footfall.start()
    eventually(True, lambda: "Ctrl-C stops it" in footfall.output())


def status(footfall: Footfall, path: str) -> int:
    return httpx.get(footfall.url + path, timeout=10).status_code


def test_collector_refuses_on_a_full_disk_and_goes_on_after(footfall: Footfall) -> None:
    """503 for events, the image for hits; when there is room again all works without a new start."""
    with small_disk(footfall.data_dir):
        oracle = Oracle(footfall)
        start(footfall)
        with oracle.load():
            time.sleep(0.3)
            with full(footfall.data_dir):
                eventually(True, lambda: bool(oracle.refused))
                assert 200 == status(footfall, "/track")
                assert 200 == status(footfall, "/healthz")
                time.sleep(1.5)  # so that all parts try again, and fail again
                assert 503 == status(footfall, "/readyz")
            eventually(200, lambda: status(footfall, "/readyz"), 20)
            time.sleep(0.3)
        oracle.check()


def test_processes_that_die_on_a_full_disk_come_back(footfall: Footfall) -> None:
    """They try again until there is room, each for itself, and nothing of what was acknowledged is lost."""
    with small_disk(footfall.data_dir):
        oracle = Oracle(footfall)
        start(footfall)
        with oracle.load():
            time.sleep(0.3)
            with full(footfall.data_dir):
                eventually(True, lambda: bool(oracle.refused))
                for pid in children(footfall):
                    os.kill(pid, signal.SIGKILL)
                time.sleep(1.0)  # so that they are started again, and fail
            eventually(True, lambda: is_ready(footfall), 30)
        oracle.check()


def test_full_disk_of_the_visits_log_stops_that_alone(tmp_path: Path) -> None:
    """Hits are taken meanwhile and reported; they are in the log once there is room."""
    disk, data_dir = tmp_path / "disk", tmp_path / "data"
    footfall = Footfall(disk, FOOTFALL__DATA_DIR=str(data_dir))
    footfall.data_dir = data_dir
    with small_disk(disk):
        oracle = Oracle(footfall)
        try:
            start(footfall)
            with oracle.load():
                with full(disk):
                    eventually(503, lambda: status(footfall, "/readyz"))
                    received = footfall.ledger()["received"]
                    eventually(True, lambda: footfall.ledger()["sinks"]["database"]["written"] > received)
                    assert set() == oracle.refused
                eventually(200, lambda: status(footfall, "/readyz"))
            oracle.check()
        finally:
            footfall.kill()


def test_start_without_room_says_so(footfall: Footfall) -> None:
    """No queue can be made."""
    with small_disk(footfall.data_dir), full(footfall.data_dir):
        ended = footfall.command("serve")
    assert 1 == ended.returncode
    assert "the queue can't be opened" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_directory_that_is_read_only_is_refused_at_the_start(footfall: Footfall) -> None:
    """With its setting's name."""
    with small_disk(footfall.data_dir, ",ro"):
        ended = footfall.command("serve")
    assert 1 == ended.returncode
    assert f"data_dir: {footfall.data_dir} can't be written: Permission denied" in ended.stderr


def children(footfall: Footfall) -> set[int]:
    pid = footfall.process.pid
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()}


def is_ready(footfall: Footfall) -> bool:
    try:
        return status(footfall, "/readyz") == httpx.codes.OK
    except httpx.HTTPError:
        return False


def collector(footfall: Footfall) -> int:
    [pid] = children(footfall) - {storage(footfall), database(footfall)}
    return pid


def storage(footfall: Footfall) -> int:
    return footfall.holder("visit_log.lock")


def database(footfall: Footfall) -> int:
    return footfall.holder("database.lock")


@contextmanager
def failing(footfall: Footfall, pid: int, calls: str, error: str) -> Iterator[None]:
    """Those system calls of a process fail for its files, after the first few."""
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(pid), "-e", f"trace={calls}"]
    for path in [footfall.visits_log, footfall.data_dir / "footfall.duckdb.wal", *footfall.data_dir.iterdir()]:
        command += ["-P", str(path)]
    tracer = subprocess.Popen([*command, "-e", f"inject={calls}:error={error}:when=3+"])
    try:
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(10)


@needs_tool("strace", "strace")
@pytest.mark.crash
@pytest.mark.parametrize(
    ("process", "calls", "error"),
    [
        (collector, SYNCS, "EIO"),
        (storage, SYNCS, "EIO"),
        (database, SYNCS, "EIO"),
        (collector, WRITES, "ENOSPC"),
        (storage, WRITES, "ENOSPC"),
        (database, WRITES, "ENOSPC"),
        (collector, WRITES, "EROFS"),  # what a file system that the kernel makes read-only answers
    ],
)
def test_process_whose_disk_fails_loses_and_doubles_nothing(
    footfall: Footfall, process: Callable[[Footfall], int], calls: str, error: str
) -> None:
    """It refuses, or stops with an error and is started again; when the disk works again, all works."""
    oracle = Oracle(footfall)
    start(footfall)
    with oracle.load():
        with failing(footfall, process(footfall), calls, error):
            eventually(True, lambda: " ERROR " in footfall.output(), 30)
            time.sleep(1.0)  # so that it meets the error in all that it does
        eventually(True, lambda: is_ready(footfall), 30)
    oracle.check()
    assert "Traceback" not in footfall.output()
