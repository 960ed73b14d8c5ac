"""A rebuild that crashes at each of its named places (`footfall.failpoint`)."""

import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from footfall.failpoint import VARIABLE, Failpoint
from harness import Footfall

POINTS = [Failpoint.DATABASE_COMMITTED, *(point for point in Failpoint if point.startswith("rebuild."))]
HITS = 30


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """What a Footfall leaves that was killed: its last moments are in DuckDB's log only. And what it reported."""
    directory = tmp_path_factory.mktemp("killed")
    footfall = Footfall(directory).start()
    try:
        with httpx.Client() as client:
            for number in range(HITS):
                client.get(footfall.url + "/track", headers={"Referer": f"https://blog.example/{number}"})
                footfall.post(site_id="blog.example", path="/posted")
        footfall.settle()
        return directory, report(footfall)
    finally:
        footfall.kill()


def report(footfall: Footfall) -> Any:
    return footfall.stats("blog.example", limit="100"), footfall.ledger()


@pytest.mark.crash
@pytest.mark.parametrize("point", POINTS)
def test_crash_of_a_rebuild(killed: tuple[Path, Any], tmp_path: Path, point: Failpoint) -> None:
    """Wherever it crashes, there is a whole database in place, old or new; a second rebuild is not in its way.

    Where the old one is lost, the queue has everything, too.
    """
    template, before = killed
    assert 2 * HITS == before[0]["total_views"]
    directory = Path(shutil.copytree(template, tmp_path / "copy", ignore=shutil.ignore_patterns("*.sock")))
    assert (directory / "data" / "footfall.duckdb.wal").exists()

    if point == Failpoint.DATABASE_COMMITTED:
        for file in (directory / "data").glob("footfall.duckdb*"):
            file.unlink()
    crashed = Footfall(directory, **{VARIABLE: f"{point}:1"}).command("rebuild")
    assert -9 == crashed.returncode, crashed.stderr

    footfall = Footfall(directory).start()
    try:
        footfall.settle()
        assert before == report(footfall)
        assert 0 == footfall.stop()
        again = footfall.command("rebuild")
        assert f"The new database has {2 * HITS} events: {2 * HITS} from the old database." in again.stdout, again
    finally:
        footfall.kill()
