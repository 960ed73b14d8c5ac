"""`footfall erase` and retention: what goes, what the ledger says of it, and that it does not come back."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from footfall.cli import main
from footfall.commands.export import write_export
from footfall.database.contents import Format
from footfall.database.duckdb import removal
from footfall.database.duckdb.contents import DuckdbContents
from footfall.database.duckdb.file import log_of, open_database
from footfall.database.duckdb.writer import DuckdbSink
from footfall.database.erasure import FILE_NAME as ERASURES
from footfall.database.erasure import ErasureFile
from footfall.entry import Entry, Event, Hit, encode_entries
from footfall.queue.consumer import Consumer
from footfall.queue.local.feed import LocalFeed
from footfall.queue.local.file import FILE_NAME
from footfall.queue.local.store import LocalQueue
from footfall.queue.sink import DATABASE, SINKS, Sink
from footfall.settings import DatabaseSettings
from footfall.status.ledger import SinkLedger, ledger_of
from footfall.visit_log.writer import VisitLog

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def event(path: str, *, site: str = "shop", user: str | None = None, days_ago: int = 0, **fields: Any) -> Event:
    time_us = int((TODAY - timedelta(days=days_ago)).timestamp()) * 1_000_000
    return Event(time.time_ns(), "::1", b"curl/8.0", site, "page_view", path, user, time_us, **fields)


def hit(path: str, *, site_id: str | None = None, user: str | None = None) -> Hit:
    return Hit(time.time_ns(), "::1", b"https://shop.example" + path.encode(), b"curl/8.0", site_id, path, user)


class Place:
    """A data directory with its queue and both outputs."""

    def __init__(self, directory: Path) -> None:
        self.data_dir = directory / "data"
        self.data_dir.mkdir(mode=0o750)
        self.database = self.data_dir / "footfall.duckdb"
        self.visits_log = directory / "visits.log"
        self.erasures = ErasureFile(self.data_dir / ERASURES)
        self.queue = LocalQueue(self.data_dir / FILE_NAME, sinks=SINKS)
        self._trimmer = LocalQueue(self.data_dir / FILE_NAME, sinks=SINKS, max_bytes=0)

    def receive(self, *entries: Entry) -> None:
        self.queue.append(encode_entries(entries), len(entries))

    def process(self, **settings: Any) -> None:
        """Bring the database up to date, with everything that is due."""
        with (
            closing(open_database(self.database)) as database,
            closing(DuckdbSink(database, settings=DatabaseSettings(**settings), erasures=self.erasures)) as sink,
        ):
            sink.write([])
            self._write(sink)
            sink.close()
            self._write(sink)

    def log(self) -> None:
        with closing(VisitLog(self.visits_log, self.data_dir)) as sink:
            self._write(sink)

    def _write(self, sink: Sink) -> None:
        stop = threading.Event()
        stop.set()
        Consumer(LocalFeed(self.queue, sink.name), sink).run(stop)

    def drop(self) -> None:
        """Let the queue drop what both outputs have."""
        while self._trimmer.trim():
            pass

    def lose(self) -> None:
        for file in (self.database, log_of(self.database)):
            file.unlink(missing_ok=True)

    def paths(self) -> list[str]:
        with closing(open_database(self.database, read_only=True)) as database:
            return [path for (path,) in database.execute("SELECT path FROM events ORDER BY path").fetchall()]

    def ledger(self) -> SinkLedger:
        """The account of the database, which adds up and tells how many rows there are."""
        ledger = ledger_of(self.queue.state(), SINKS)
        account = ledger.sinks[DATABASE]
        assert ledger.received == account.written + sum(account.skipped.values()) + account.pending
        assert len(self.paths()) == account.written - sum(account.removed.values())
        return account

    def close(self) -> None:
        self.queue.close()
        self._trimmer.close()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOOTFALL__DATA_DIR", "data")
    monkeypatch.setenv("FOOTFALL__STORAGE__PATH", "visits.log")
    with closing(Place(tmp_path)) as place:
        yield place


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def erase(*arguments: str) -> Result:
    result = run("erase", *arguments)
    assert 0 == result.exit_code, result.stderr
    return result


def test_a_dry_run_shows_what_would_go_and_changes_nothing(place: Place) -> None:
    """By site and day; and what stays elsewhere."""
    place.receive(event("/a"), event("/b", days_ago=2), event("/c", site="blog"), event("/d", days_ago=2))
    place.process()
    before = place.database.read_bytes()

    result = erase("--site-id", "shop")

    lines = result.stdout.splitlines()
    day = TODAY.date()
    assert [
        f"shop {day - timedelta(days=2)}: 2",
        f"shop {day}: 1",
        "3 events would be removed. Nothing was changed: add --yes to remove them.",
    ] == lines[:3]
    assert "The visits log (visits.log) and its rotated files keep their lines" in lines[3]
    assert "queue.margin_hours" in lines[4]
    assert before == place.database.read_bytes()
    assert not (place.data_dir / ERASURES).exists()


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["--site-id", "shop"], ["/d", "/e"]),
        (["--user-id", "user-1"], ["/a", "/c", "/e"]),
        (["--user-id", "user-1", "--site-id", "blog"], ["/a", "/b", "/c", "/e"]),
        (["--before", str((TODAY - timedelta(days=2)).date())], ["/a", "/b", "/d", "/e"]),
        (["--before", str((TODAY - timedelta(days=3)).date())], ["/a", "/b", "/c", "/d", "/e"]),
        (["--before", str((TODAY + timedelta(days=1)).date()), "--site-id", "shop"], ["/d", "/e"]),
        (["--site-id", "o'clock"], ["/a", "/b", "/c", "/d", "/e"]),
    ],
)
def test_what_is_named_goes(place: Place, arguments: list[str], left: list[str]) -> None:
    """And nothing else. The ledger has it as written, and as removed."""
    place.receive(event("/a"), hit("/b", site_id="shop", user="user-1"), event("/c", days_ago=3, user="user-2"))
    place.receive(event("/d", site="blog", user="user-1"), event("/e", site="blog", user="user-2"))
    place.process()
    shown = erase(*arguments).stdout

    done = erase(*arguments, "--yes").stdout

    assert left == place.paths()
    assert (f"{5 - len(left)} event" if len(left) < 5 else "no such event") in shown
    assert f"Removing {5 - len(left)} event" in done
    place.process()
    removed = {"erased": 5 - len(left)} if len(left) < 5 else {}
    assert SinkLedger(5, {}, 0, removed) == place.ledger()


def test_a_user_is_found_by_number_where_the_id_is_not_there(place: Place) -> None:
    """The number is a hash of site and id."""
    place.receive(event("/a", user="user-1"), event("/b", user="user-2"))
    place.process()
    with closing(open_database(place.database)) as database:
        database.execute("UPDATE events SET user_id = NULL")

    erase("--user-id", "user-1", "--yes")

    assert ["/b"] == place.paths()


def test_what_the_queue_still_has_is_not_taken_from_there(place: Place) -> None:
    """Whether the database has it already or not; what is received afterwards counts again."""
    place.receive(event("/a"), event("/b", site="blog"))
    place.process()
    place.receive(event("/c"), event("/d", site="blog"))

    erase("--site-id", "shop", "--yes")
    place.receive(event("/e"))
    place.process()

    assert ["/b", "/d", "/e"] == place.paths()
    assert SinkLedger(4, {"erased": 1}, 0, {"erased": 1}) == place.ledger()


@pytest.mark.parametrize("is_lost", [False, True])
@pytest.mark.parametrize("is_dropped", [False, True])
def test_a_rebuild_brings_nothing_back(place: Place, *, is_lost: bool, is_dropped: bool) -> None:
    """From the old database, the queue, or the visits log, whose lines don't tell the site or the user."""
    place.receive(hit("/a", site_id="shop", user="user-1"), event("/b", user="user-1"), event("/c"))
    place.process()
    place.log()
    erase("--user-id", "user-1", "--yes")
    if is_dropped:
        place.process()
        place.drop()
    if is_lost:
        place.lose()

    result = run("rebuild", "--log", "visits.log")

    assert 0 == result.exit_code, result.stderr
    assert ([] if is_lost and is_dropped else ["/c"]) == place.paths()
    place.receive(event("/d", user="user-1"))
    place.process()
    assert "/d" in place.paths()


def test_an_export_brings_nothing_back(place: Place, tmp_path: Path) -> None:
    """It was made before the erasure."""
    place.receive(event("/a"), event("/b", site="blog"))
    place.process()
    with closing(open_database(place.database, read_only=True)) as database:
        write_export(DuckdbContents(database), tmp_path / "export", Format.NDJSON, is_restorable=True)
    erase("--site-id", "shop", "--yes")

    result = run("rebuild", "--events", "export")

    assert 0 == result.exit_code, result.stderr
    assert ["/b"] == place.paths()
    assert "log's hits" not in result.stdout, "none came from there"


def test_a_database_from_a_backup_loses_it_again(place: Place) -> None:
    """The order is beside it, in a file of its own."""
    place.receive(event("/a"), event("/b", site="blog"))
    place.process()
    backup = place.database.read_bytes()
    erase("--site-id", "shop", "--yes")
    place.lose()
    place.database.write_bytes(backup)

    place.process()

    assert ["/b"] == place.paths()
    assert SinkLedger(2, {}, 0, {"erased": 1}) == place.ledger()


def test_an_erasure_that_was_not_carried_out_is_no_loss_to_a_rebuild(place: Place) -> None:
    """It is carried out there."""
    place.receive(event("/a"), event("/b", site="blog"))
    place.process()
    backup = place.database.read_bytes()
    erase("--site-id", "shop", "--yes")
    place.database.write_bytes(backup)

    result = run("rebuild")

    assert (0, ["/b"]) == (result.exit_code, place.paths()), result.stderr


def test_many_rows_go_some_at_a_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """In transactions of bounded size, all before anything of later is written."""
    monkeypatch.setattr(removal, "REMOVED_ROWS", 10)
    place.receive(*(event(f"/{number:03}", site="shop" if number % 2 else "blog") for number in range(60)))
    place.process()
    erase("--site-id", "shop", "--yes")
    place.process()
    assert SinkLedger(60, {}, 0, {"erased": 30}) == place.ledger()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "Say what to erase: --site-id, --user-id, --before"),
        (["--before", "12.11.2025"], "12.11.2025"),
    ],
)
def test_what_is_not_said_right_is_told(place: Place, arguments: list[str], text: str) -> None:
    """With exit code 2, before anything is done."""
    place.process()
    result = run("erase", *arguments)
    assert (2, True) == (result.exit_code, text in result.stderr), result.stderr


@pytest.mark.usefixtures("place")
def test_without_a_database_nothing_is_erased() -> None:
    """The settings may point to the wrong place."""
    result = run("erase", "--site-id", "shop", "--yes")
    assert (1, True) == (result.exit_code, "There is no database at" in result.stderr), result.stderr


# Retention.


def test_what_is_too_old_goes(place: Place) -> None:
    """By whole UTC days; what arrives later and is too old is skipped, also from an import."""
    place.receive(*(event(f"/{days}", days_ago=days) for days in range(5)))
    place.process()

    place.process(retention_days=2)

    assert ["/0", "/1", "/2"] == place.paths()
    assert SinkLedger(5, {}, 0, {"retention": 2}) == place.ledger()

    place.receive(event("/late", days_ago=3), event("/in-time", days_ago=2))
    place.receive(Hit(0, "::1", b"", b"", "shop", "/imported", host=""))
    place.process(retention_days=2)

    assert ["/0", "/1", "/2", "/in-time"] == place.paths()
    assert SinkLedger(6, {"retention": 2}, 0, {"retention": 2}) == place.ledger()


def test_a_rebuild_brings_back_nothing_too_old(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither from the database, nor from the queue."""
    monkeypatch.setenv("FOOTFALL__DATABASE__RETENTION_DAYS", "2")
    place.receive(event("/a"), event("/b", days_ago=3))
    place.process()
    place.process(retention_days=2)

    assert 0 == run("rebuild").exit_code
    assert ["/a"] == place.paths()
    assert SinkLedger(2, {}, 0, {"retention": 1}) == place.ledger()

    place.lose()
    assert 0 == run("rebuild").exit_code
    assert ["/a"] == place.paths()


def test_old_rows_go_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One write removes a bounded number, so that nobody waits long for it."""
    monkeypatch.setattr(removal, "REMOVED_ROWS", 10)
    monkeypatch.setattr("footfall.database.duckdb.writer.REMOVED_ROWS", 10)
    with closing(Place(tmp_path)) as place:
        place.receive(*(event(f"/{number}", days_ago=9) for number in range(25)))
        place.process()
        settings = DatabaseSettings(retention_days=1)
        with (
            closing(open_database(place.database)) as database,
            closing(DuckdbSink(database, settings=settings)) as sink,
        ):
            left = []
            for _ in range(4):
                sink.write([])
                left += [count for (count,) in database.execute("SELECT count(*) FROM events").fetchall()]
            assert [15, 5, 0, 0] == left
            assert {"retention": 25} == sink.progress()["removed"].skipped


def test_a_clock_that_was_set_removes_nothing(tmp_path: Path) -> None:
    """It may be ahead by years, and is set back in a moment."""
    with closing(Place(tmp_path)) as place:
        place.receive(event("/a"))
        place.process()
        now_ns = time.time_ns()
        clock, settings = [now_ns], DatabaseSettings(retention_days=30)
        with (
            closing(open_database(place.database)) as database,
            closing(DuckdbSink(database, lambda: clock[0], lambda: 0.0, settings=settings)) as sink,
        ):
            sink.write([])
            clock[0] += 3_650 * 86_400 * 10**9
            sink.write([])
        assert ["/a"] == place.paths()
