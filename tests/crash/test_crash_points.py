"""A crash at each of the named places (`footfall.failpoint`), under load."""

from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from clickhouse_server import ClickhouseServer
from footfall.failpoint import VARIABLE, Failpoint
from footfall.queue.sink import SINKS
from footfall.visit_log.line import parse_line
from harness import Footfall, eventually
from oracle import Oracle

IN_A_CONSUMER = [f"{point}.{sink}" for point in Failpoint if point.startswith("consumer.") for sink in SINKS]
IN_AN_IMPORT = [Failpoint.QUEUE_INSERTED, Failpoint.QUEUE_COMMITTED, Failpoint.IMPORT_SENT]
ELSEWHERE = (
    *("consumer.", "rebuild.", "relay.", "clickhouse."),
    *("migration.", "erasure.", "retention.", "move.", "roll_up."),
)
AT_A_START = [Failpoint.QUEUE_TRIMMED, Failpoint.DATABASE_CHECKPOINTING, Failpoint.DATABASE_CHECKPOINTED]
"""Reached within seconds only when an earlier life has left something to do."""
UNDER_LOAD = [
    *(
        point
        for point in Failpoint
        if point not in [*AT_A_START, Failpoint.IMPORT_SENT] and not point.startswith(ELSEWHERE)
    ),
    *IN_A_CONSUMER,
]
BATCHES = 3
"""The crash comes when a sink or an import gets there this often: by then it has a position."""
GROUPS = 50
"""The same for a collector: by then every sender waits for an answer."""
ENOUGH = 100
"""Events that are acknowledged after a recovery, before all is checked."""

QUEUE_BYTES = 3 * 1024 * 1024
FILLER_BYTES = 2_048
BEYOND_THE_MARGIN = 600
"""So many events of that size, and a queue with that limit has some to drop."""

LINES = 6_500
LINE = '192.0.2.1 - - [12/Nov/2025:09:30:00 +0000] "GET /{number} HTTP/1.1" 200 1 "-" "agent {number}"\n'


class Armed:
    """A Footfall that is to crash once.

    Attributes:
        footfall: not started yet.
        marker: the file that is made when it crashes; while it is there, nothing crashes.
    """

    def __init__(self, directory: Path, point: str, time: int, **environment: str) -> None:
        self.marker = directory / "crashed"
        self.footfall = Footfall(
            directory,
            FOOTFALL__QUEUE__MAX_BYTES=str(QUEUE_BYTES),
            **{VARIABLE: f"{point}:{time}:{self.marker}"},
            **environment,
        )

    def assert_recovered(self, oracle: Oracle) -> None:
        """See the crash happen and the supervisor start again what crashed, once, under the load that goes on."""
        eventually(True, self.marker.exists, 20)
        before = len(oracle.acknowledged)
        eventually(True, lambda: len(oracle.acknowledged) >= before + ENOUGH, 20)
        eventually(1, lambda: self.footfall.output().count("killed by signal 9"))


@pytest.fixture
def armed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Armed]:
    point, time = request.param
    instance = Armed(tmp_path, point, time)
    yield instance
    instance.footfall.kill()


@pytest.mark.crash
@pytest.mark.parametrize(
    "armed",
    [(point, GROUPS if point.startswith(("intake.", "queue.")) else BATCHES) for point in UNDER_LOAD],
    ids=UNDER_LOAD,
    indirect=True,
)
def test_crash_under_load(armed: Armed) -> None:
    """Wherever a process crashes, it is started again, nothing acknowledged is lost and nothing is there twice."""
    oracle = Oracle(armed.footfall)
    armed.footfall.start()
    with oracle.load():
        armed.assert_recovered(oracle)
    oracle.check()


@pytest.mark.crash
@pytest.mark.xdist_group("clickhouse")
@pytest.mark.parametrize("point", [point for point in Failpoint if point.startswith("clickhouse.")])
def test_crash_beside_clickhouse(point: Failpoint, tmp_path: Path, clickhouse: ClickhouseServer) -> None:
    """The same where the database is ClickHouse, which keeps rows and position apart."""
    armed = Armed(tmp_path, point, BATCHES, FOOTFALL__DATABASE__URL=clickhouse.url(f"crash_{token_hex(8)}"))
    oracle = Oracle(armed.footfall)
    try:
        armed.footfall.start()
        with oracle.load():
            armed.assert_recovered(oracle)
        oracle.check()
    finally:
        armed.footfall.kill()


@pytest.mark.crash
@pytest.mark.parametrize("armed", [(point, 1) for point in AT_A_START], ids=AT_A_START, indirect=True)
def test_crash_while_starting_after_a_crash(armed: Armed) -> None:
    """The same where the crash comes while what an earlier crash has left is being brought in order."""
    oracle = Oracle(armed.footfall, filler_bytes=FILLER_BYTES)
    armed.marker.touch()
    armed.footfall.start()
    with oracle.load():
        eventually(True, lambda: len(oracle.acknowledged) >= BEYOND_THE_MARGIN, 20)
        armed.footfall.kill()
        armed.marker.unlink()
        armed.footfall.start()
        armed.assert_recovered(oracle)
    oracle.check()


@pytest.mark.crash
@pytest.mark.parametrize("armed", [(point, BATCHES) for point in IN_AN_IMPORT], ids=IN_AN_IMPORT, indirect=True)
def test_crash_of_an_import(armed: Armed) -> None:
    """An import that crashed goes on when it is run again, and each line is in the visits log once."""
    log = armed.footfall.directory / "access.log"
    log.write_text("".join(LINE.format(number=number) for number in range(LINES)), "utf-8")

    crashed = armed.footfall.command("import", str(log), "--site-id", "imported")
    assert -9 == crashed.returncode, crashed.stderr
    again = armed.footfall.command("import", str(log), "--site-id", "imported")
    assert 0 == again.returncode, again.stderr

    armed.footfall.start()
    armed.footfall.settle()
    agents = [parse_line(line).user_agent.decode() for line in armed.footfall.lines()]
    assert [f"agent {number}" for number in range(LINES)] == agents
    assert LINES == armed.footfall.stats("imported")["total_views"]
