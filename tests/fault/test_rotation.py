"""The visits log is renamed or deleted while it is written."""

import gzip
import os
import random
import signal
import subprocess
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from harness import Footfall, needs_tool
from oracle import Oracle

ROTATIONS = 10


@pytest.mark.crash
def test_each_line_is_in_one_file_however_often_the_log_is_renamed(footfall: Footfall) -> None:
    """Under load, with storage killed in between now and then."""
    chance = random.Random(5)
    oracle = Oracle(footfall)
    footfall.start()
    with oracle.load():
        for number in range(ROTATIONS):
            time.sleep(chance.uniform(0.1, 0.4))  # the moment is what is tried out
            if footfall.visits_log.exists():
                footfall.visits_log.rename(footfall.directory / f"visits.log.{number}")
            if chance.random() < 0.5:
                with suppress(ProcessLookupError):  # it is being started again since the last time
                    os.kill(footfall.holder("visit_log.lock"), signal.SIGKILL)
    oracle.check()
    assert len(list(footfall.directory.glob("visits.log.[0-9]"))) > ROTATIONS // 2


@needs_tool("logrotate", "logrotate")
def test_logrotate_loses_no_line(footfall: Footfall) -> None:
    """With the snippet of deploy/logrotate, which renames."""
    configuration = footfall.directory / "logrotate.conf"
    snippet = (Path(__file__).parents[2] / "deploy" / "logrotate").read_text("utf-8")
    owner = f"su {footfall.directory.owner()} {footfall.directory.group()}"
    configuration.write_text(
        snippet.replace("/var/log/footfall/visits.log", str(footfall.visits_log)).replace("su footfall footfall", owner)
    )
    configuration.chmod(0o644)
    footfall.directory.chmod(0o755)
    command = ["logrotate", "--force", "--state", str(footfall.directory / "state"), str(configuration)]
    oracle = Oracle(footfall)
    footfall.start()
    with oracle.load():
        for _ in range(3):
            time.sleep(0.3)  # lines for each file
            subprocess.run(command, check=True, env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"})
    for packed in footfall.directory.glob("visits.log.*.gz"):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    oracle.check()
    assert (footfall.directory / "visits.log.3").exists()


def test_after_a_deletion_lines_go_into_a_new_file(footfall: Footfall) -> None:
    """What was deleted is gone, and nothing of it comes again."""
    footfall.start()
    for _ in range(5):
        httpx.get(footfall.url + "/track", headers={"User-Agent": "before"})
    footfall.settle()
    footfall.visits_log.unlink()
    for _ in range(3):
        httpx.get(footfall.url + "/track", headers={"User-Agent": "after"})
    footfall.settle()
    assert ["after"] * 3 == [line.split("|")[2] for line in footfall.lines()]


def test_each_line_is_in_one_file_however_often_the_log_is_deleted(footfall: Footfall) -> None:
    """Under load; what a deleted file held is read through a descriptor that was opened before."""
    chance = random.Random(6)
    oracle = Oracle(footfall)
    footfall.start()
    with ExitStack() as deleted:
        files = []
        with oracle.load():
            for _ in range(ROTATIONS):
                time.sleep(chance.uniform(0.1, 0.3))  # the moment is what is tried out
                if footfall.visits_log.exists():
                    files.append(deleted.enter_context(footfall.visits_log.open("rb")))
                    footfall.visits_log.unlink()
        footfall.settle()
        for number, file in enumerate(files):
            footfall.visits_log.with_name(f"visits.log.{number}").write_bytes(file.read())
    oracle.check()
    assert len(files) > ROTATIONS // 2
