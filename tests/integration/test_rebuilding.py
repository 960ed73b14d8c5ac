"""`footfall export` and `footfall rebuild` on what a real Footfall has collected."""

import shutil
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import pytest

from clickhouse_server import ClickhouseServer
from footfall.queue.local.file import FILE_NAME
from footfall.queue.local.store import LocalQueue
from footfall.queue.sink import SINKS
from footfall.visit_log.line import format_line
from harness import Footfall, eventually

ACCESS_LOG = Path(__file__).parents[1] / "data" / "access.log.gz"
DAYS = ["2015-05-17", "2015-05-18", "2015-05-19", "2015-05-20", datetime.now(UTC).date().isoformat()]
SITES = ["imported", "blog.example", "shop"]
LONG_LOG = 100_000
"""Lines: a second of work."""


def collect(footfall: Footfall) -> None:
    """Some of everything: an imported log, hits with a site from either place, posted events."""
    assert 0 == footfall.command("import", str(ACCESS_LOG), "--site-id", "imported").returncode
    for number in range(20):
        headers = {"Referer": f"https://blog.example/{number % 3}", "User-Agent": f"agent {number % 5}"}
        httpx.get(footfall.url + "/track", headers=headers)
        httpx.get(footfall.url + "/track", params={"site_id": "shop", "path": f"/{number % 2}"}, headers=headers)
        footfall.post(site_id="shop", path="/posted", user_id=f"user {number % 4}", event_id=str(number % 10))
    footfall.settle()


def figures(footfall: Footfall) -> dict[str, Any]:
    """What is reported: each site on each day and in all, and the account."""
    reports = {
        f"{site} {day}": footfall.stats(site, **({"date": day} if day else {})) for site in SITES for day in ["", *DAYS]
    }
    return {**reports, "ledger": footfall.ledger()}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Where a Footfall was stopped whose queue is empty, and its figures."""
    footfall = Footfall(tmp_path_factory.mktemp("stopped")).start()
    try:
        collect(footfall)
        before = figures(footfall)
        assert 9_999 == before["imported "]["total_views"]
        assert {"duplicate": 10} == before["ledger"]["sinks"]["database"]["skipped"]
        assert 0 == footfall.stop()
        # The queue drops what was safe at the end.
        footfall.set(FOOTFALL__QUEUE__MARGIN_HOURS="0").start()
        with closing(LocalQueue(footfall.data_dir / FILE_NAME, sinks=SINKS)) as queue:
            eventually(0, lambda: len(queue.read(0)))
        assert 0 == footfall.stop()
    finally:
        footfall.kill()
    return footfall.directory, before


@pytest.fixture
def collected(stopped: tuple[Path, dict[str, Any]], footfall: Footfall) -> tuple[Footfall, dict[str, Any]]:
    """One with the same data, not started."""
    directory, before = stopped
    shutil.copytree(directory, footfall.directory, dirs_exist_ok=True)
    return footfall, before


def test_a_rebuilt_database_reports_the_same(collected: tuple[Footfall, dict[str, Any]]) -> None:
    """Every figure of every day, the ledger too; and what comes next is added to it.

    Imported lines stay with their site, though the visits log has them with the referrer of another, or with none.
    """
    footfall, before = collected

    rebuilt = footfall.command("rebuild")
    assert (0, "The new database has 10,049 events: 10,049 from the old database.") == (
        rebuilt.returncode,
        rebuilt.stdout.splitlines()[0],
    ), rebuilt

    footfall.start()
    assert before == figures(footfall)
    footfall.post(site_id="shop", path="/posted", event_id="9")
    footfall.post(site_id="shop", path="/posted", event_id="new")
    footfall.settle()
    assert before["shop "]["total_views"] + 1 == footfall.stats("shop")["total_views"]
    assert {"written": 10_050, "skipped": {"duplicate": 11}, "pending": 0} == footfall.ledger()["sinks"]["database"]


def test_a_database_rebuilt_from_an_export_reports_the_same(
    collected: tuple[Footfall, dict[str, Any]], tmp_path: Path
) -> None:
    """Also on another machine, which has nothing but the export."""
    footfall, before = collected
    assert "10,049 events exported\n" == footfall.command("export", "events.ndjson.gz").stdout

    rebuilt = footfall.command("rebuild", "--events", "events.ndjson.gz")
    assert "10,049 from the export." in rebuilt.stdout, rebuilt
    footfall.start()
    assert before == figures(footfall)
    assert 0 == footfall.stop()

    (tmp_path / "new").mkdir()
    new = Footfall(tmp_path / "new")
    assert 0 == new.command("rebuild", "--events", str(footfall.directory / "events.ndjson.gz")).returncode
    new.start()
    try:
        assert before | {"ledger": None} == figures(new) | {"ledger": None}
    finally:
        new.kill()


@pytest.mark.xdist_group("clickhouse")
def test_all_moves_from_duckdb_to_clickhouse_and_back(
    collected: tuple[Footfall, dict[str, Any]], clickhouse: ClickhouseServer
) -> None:
    """With one command each way; the service goes on from there, and knows the ids of before."""
    footfall, before = collected
    url = clickhouse.url(f"moved_{token_hex(8)}")
    footfall.set(FOOTFALL__DATABASE__URL=url)
    refused = footfall.command("rebuild")
    assert (2, True) == (refused.returncode, "footfall rebuild --from URL" in refused.stderr), refused
    moved = footfall.command("rebuild", "--from", "duckdb:data/footfall.duckdb")
    assert (0, "The new database has 10,049 events.\n") == (moved.returncode, moved.stdout), moved
    footfall.start()
    assert before == figures(footfall)
    footfall.post(site_id="shop", path="/posted", event_id="9")
    footfall.post(site_id="shop", path="/posted", event_id="new", user_id="user 1")
    footfall.settle()
    assert {"written": 10_050, "skipped": {"duplicate": 11}, "pending": 0} == footfall.ledger()["sinks"]["database"]
    after = figures(footfall)
    assert 0 == footfall.stop()

    footfall.set(FOOTFALL__DATABASE__URL="duckdb:back.duckdb")
    back = footfall.command("rebuild", "--from", url)
    assert "10,050 events: 10,050 from the database named." in back.stdout, back
    footfall.start()
    assert after == figures(footfall)


def test_a_running_footfall_is_left_alone(served: Footfall) -> None:
    """The rebuild says which process has the database, and changes nothing."""
    holder = (served.data_dir / "database.lock").read_text().strip()
    refused = served.command("rebuild")
    assert (1, True) == (refused.returncode, f"already held by {holder}" in refused.stderr), refused
    assert httpx.codes.OK == httpx.get(served.url + "/readyz").status_code


def test_collecting_goes_on_during_a_rebuild(footfall: Footfall) -> None:
    """Collector and storage run, the processor does not; each hit is in the new database once."""
    footfall.start("run", "collector", "storage")
    write_long_log(footfall.directory)
    rebuild = Footfall(footfall.directory).spawn("rebuild")
    sent = 0
    while rebuild.poll() is None:
        httpx.get(footfall.url + "/track", headers={"Referer": f"https://live.example/{sent}"})
        sent += 1
    assert 0 == rebuild.returncode, footfall.output()
    assert 0 == footfall.stop()
    footfall.start()

    footfall.settle()
    assert (sent, LONG_LOG) == (
        footfall.stats("live.example")["total_views"],
        footfall.stats("old.example")["total_views"],
    )
    assert {"written": sent, "skipped": {}, "pending": 0} == footfall.ledger()["sinks"]["database"]


def test_a_killed_rebuild_leaves_the_old_database(footfall: Footfall) -> None:
    """It works as before, and the next rebuild begins anew."""
    footfall.start()
    footfall.post(site_id="shop")
    footfall.settle()
    assert 0 == footfall.stop()
    write_long_log(footfall.directory)

    footfall.spawn("rebuild", "--log", "visits.log.1")
    new = footfall.data_dir / "footfall.duckdb.new"
    eventually(True, lambda: new.exists() and new.with_name(new.name + ".wal").exists())
    footfall.kill()

    assert new.exists()
    footfall.start()
    assert (1, 0) == (footfall.stats("shop")["total_views"], footfall.stats("old.example")["total_views"])
    assert 0 == footfall.stop()
    assert 0 == footfall.command("rebuild", "--log", "visits.log.1").returncode
    assert not new.exists()
    assert f"{LONG_LOG + 1:,} events exported\n" == footfall.command("export", "events.ndjson").stdout


def write_long_log(directory: Path) -> None:
    """A log of an earlier time, as it was rotated."""
    line = format_line(0, b"https://old.example/", b"curl/8.0", "192.0.2.1")
    (directory / "visits.log.1").write_text((line + "\n") * LONG_LOG)
