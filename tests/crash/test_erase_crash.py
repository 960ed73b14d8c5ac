"""Erasures and retention that crash at each of their named places (`footfall.failpoint`)."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from footfall.failpoint import VARIABLE, Failpoint
from harness import Footfall, eventually

EVENTS = 20


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Footfall that was stopped, with two sites and two days."""
    footfall = Footfall(tmp_path_factory.mktemp("stopped")).start()
    try:
        old = (datetime.now(UTC) - timedelta(days=9)).isoformat()
        for number in range(EVENTS):
            footfall.post(site_id="shop", path=f"/{number}")
            footfall.post(site_id="blog", path=f"/{number}", **({"timestamp": old} if number % 2 else {}))
        footfall.settle()
        assert 0 == footfall.stop()
    finally:
        footfall.kill()
    return footfall.directory


def report(footfall: Footfall) -> Any:
    """What is there in the end; whoever was skipped and whoever was removed depends on the moment of the crash."""
    footfall.settle()
    return [footfall.stats(site)["total_views"] for site in ("shop", "blog")], footfall.ledger()["sinks"]["database"]


@pytest.mark.crash
@pytest.mark.parametrize("point", [point for point in Failpoint if point.startswith("erasure.")])
def test_crash_of_an_erasure(stopped: Path, tmp_path: Path, point: Failpoint) -> None:
    """Once it is ordered, it is carried out, by whoever comes next, and counted once."""
    directory = Path(shutil.copytree(stopped, tmp_path / "copy"))
    crashed = Footfall(directory, **{VARIABLE: f"{point}:1"}).command("erase", "--site-id", "shop", "--yes")
    assert -9 == crashed.returncode, crashed.stderr

    footfall = Footfall(directory).start()
    try:
        eventually(0, lambda: footfall.stats("shop")["total_views"])
        account = {"written": 2 * EVENTS, "skipped": {}, "pending": 0, "removed": {"erased": EVENTS}}
        assert ([0, EVENTS], account) == report(footfall)
    finally:
        footfall.kill()


@pytest.mark.crash
@pytest.mark.parametrize("point", [Failpoint.ERASURE_REMOVED, Failpoint.ERASURE_COMMITTED])
def test_crash_of_a_processor_that_erases(stopped: Path, tmp_path: Path, point: Failpoint) -> None:
    """Footfall runs, and events go on coming: those of before are gone, those of afterwards count, each once."""
    directory = Path(shutil.copytree(stopped, tmp_path / "copy"))
    footfall = Footfall(directory, **{VARIABLE: f"{point}:1:{tmp_path / 'marker'}"}).start()
    try:
        footfall.post(site_id="shop", path="/before")
        erased = footfall.command("erase", "--site-id", "shop", "--yes")
        assert (0, True) == (erased.returncode, erased.stdout.startswith("It is done.")), erased
        footfall.post(site_id="shop", path="/after")
        views, account = report(footfall)
        assert (tmp_path / "marker").exists()
        assert [1, EVENTS] == views
        removed = account["skipped"].get("erased", 0) + account["removed"]["erased"]
        assert (EVENTS + 1, 2 * EVENTS + 2) == (removed, account["written"] + account["skipped"].get("erased", 0))
    finally:
        footfall.kill()


@pytest.mark.crash
@pytest.mark.parametrize("point", [point for point in Failpoint if point.startswith("retention.")])
def test_crash_of_retention(stopped: Path, tmp_path: Path, point: Failpoint) -> None:
    """What is too old is gone, and counted once."""
    directory = Path(shutil.copytree(stopped, tmp_path / "copy"))
    settings = {"FOOTFALL__DATABASE__RETENTION_DAYS": "5", VARIABLE: f"{point}:1:{tmp_path / 'marker'}"}
    footfall = Footfall(directory, **settings).start()
    try:
        eventually(1, lambda: footfall.output().count("killed by signal 9"), 20.0)
        footfall.await_ready()  # no reports are made in between
        eventually(EVENTS // 2, lambda: footfall.stats("blog")["total_views"], 20.0)
        account = {"written": 2 * EVENTS, "skipped": {}, "pending": 0, "removed": {"retention": EVENTS // 2}}
        eventually(([EVENTS, EVENTS // 2], account), lambda: report(footfall))
        assert (tmp_path / "marker").exists()
    finally:
        footfall.kill()
