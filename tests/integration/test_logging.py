"""What the log says of starts and stops, and of a clock that is wrong."""

import json
import time
from contextlib import closing

import pytest

from footfall import __version__
from footfall.processes.data_dir import prepare
from footfall.queue.local.file import FILE_NAME
from footfall.queue.local.store import LocalQueue
from footfall.settings import Settings
from harness import Footfall, eventually


def test_start_and_stop_are_logged_and_a_quiet_life_raises_no_alarm(footfall: Footfall) -> None:
    """Version, roles, address and data_dir are in the log; a start after a stop with no hit between has no warning."""
    for _ in range(2):
        footfall.start()
        assert 0 == footfall.stop()

    lines = [line for line in footfall.output().splitlines() if " footfall: " in line]
    started = (
        f"INFO footfall: Footfall {__version__} started: collector, storage, processor, reporting on {footfall.url}"
    )
    assert [f"{started}, data in {footfall.data_dir}"] * 2 == [line[24:] for line in lines if "started" in line]
    assert 2 == sum(f"Footfall {__version__} stopped" in line for line in lines)
    assert "WARNING" not in footfall.output()


def test_the_log_can_be_read_by_programs(footfall: Footfall) -> None:
    """With `--log-format json` each line is an object, whichever process it comes from."""
    process = footfall.spawn("run", "storage", "--log-format", "json")
    eventually(True, lambda: " started: storage" in footfall.output())
    second = footfall.command("run", "storage", "--log-format", "json")
    lines = [json.loads(line) for line in second.stderr.splitlines()]
    assert ("ERROR", "storage", True) in [
        (line["level"], line["process"], "held by process" in line["message"]) for line in lines
    ]
    process.terminate()
    assert 0 == process.wait(20)


@pytest.mark.parametrize(("ahead_s", "is_told"), [(0, False), (30, False), (3_600, True)])
def test_a_clock_behind_the_queue_is_told(
    tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture, ahead_s: int, *, is_told: bool
) -> None:
    """A machine that lost its time gives all hits a wrong one, and nobody would notice."""
    data_dir = tmp_path_factory.mktemp("data")
    data_dir.chmod(0o700)
    with closing(LocalQueue(data_dir / FILE_NAME, sinks=[], clock=lambda: time.time_ns() + ahead_s * 10**9)) as queue:
        queue.append(b"x", 1)
    prepare(Settings(data_dir=str(data_dir)))
    assert is_told == ("behind the newest batch" in caplog.text)
