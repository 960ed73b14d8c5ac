"""A database made anew: what comes back, from where, and what the ledger says of it."""

import gzip
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from footfall.commands.export import Export, write_export
from footfall.commands.logfile import LogFile, Skipped
from footfall.commands.rebuild.account import NOT_REBUILT
from footfall.commands.rebuild.holdings import ExportHoldings
from footfall.commands.rebuild.logs import find_logs
from footfall.commands.rebuild.run import Logs, RebuildReport, rebuild
from footfall.database.contents import Format
from footfall.database.duckdb.contents import DuckdbContents
from footfall.database.duckdb.file import log_of, open_database
from footfall.database.duckdb.writer import DuckdbSink
from footfall.database.erasure import LOG_SOURCE
from footfall.database.schema import NAMES
from footfall.entry import Entry, Event, Hit, decode_entries, encode_entries
from footfall.errors import AlreadyInUseError, BadUsageError, FootfallError
from footfall.queue.base import SinkReport
from footfall.queue.consumer import Consumer
from footfall.queue.local.feed import LocalFeed
from footfall.queue.local.file import FILE_NAME
from footfall.queue.local.store import LocalQueue
from footfall.queue.sink import DATABASE, SINKS, Sink
from footfall.visit_log.line import format_line, parse_line
from footfall.visit_log.writer import VisitLog
from full_disk import largest_file

NOW_NS = time.time_ns()

Rows = list[tuple[Any, ...]]


def hit(
    name: str,
    *,
    site: str = "blog.example",
    address: str | None = "203.0.113.7",
    site_id: str | None = None,
    after_s: float = 0,
) -> Hit:
    """A hit of the page `name`."""
    return Hit(
        NOW_NS + int(after_s * 1e9),
        address,
        f"https://{site}/{name}".encode(),
        b"Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0",
        site_id=site_id,
    )


def event(name: str, *, event_id: str | None = None) -> Event:
    return Event(NOW_NS, "203.0.113.7", b"curl/8.0", "blog.example", "page_view", path=f"/{name}", event_id=event_id)


class Site:
    """A data directory with its queue and both outputs, as the processes would have them."""

    def __init__(self, directory: Path) -> None:
        self.data_dir = directory / "data"
        self.visits_log = directory / "visits.log"
        self.database = self.data_dir / "footfall.duckdb"
        self.data_dir.mkdir()
        self.queue = self._open_queue()
        self._trimmer = self._open_queue(max_bytes=0)  # keeps no margin

    def _open_queue(self, max_bytes: int = 1 << 30) -> LocalQueue:
        return LocalQueue(self.data_dir / FILE_NAME, sinks=SINKS, max_bytes=max_bytes)

    def receive(self, *entries: Entry) -> None:
        """As one batch."""
        self.queue.append(encode_entries(entries), len(entries))

    def log(self) -> None:
        """Bring the visits log up to date."""
        with closing(VisitLog(self.visits_log, self.data_dir)) as sink:
            self._write(sink)

    def process(self) -> None:
        """Bring the database up to date."""
        with closing(open_database(self.database)) as database, closing(DuckdbSink(database)) as sink:
            self._write(sink)
            sink.close()
            self._write(sink)

    def _write(self, sink: Sink) -> None:
        stop = threading.Event()
        stop.set()
        Consumer(LocalFeed(self.queue, sink.name), sink).run(stop)

    def settle(self) -> None:
        self.log()
        self.process()

    def drop(self) -> None:
        """Let the queue drop what both outputs have."""
        while self._trimmer.trim():
            pass

    def lose(self) -> None:
        """Lose the database."""
        self.database.unlink(missing_ok=True)
        log_of(self.database).unlink(missing_ok=True)

    def rotate(self, name: str, *, packed: bool = False) -> None:
        content = self.visits_log.read_bytes()
        self.visits_log.with_name(name).write_bytes(gzip.compress(content) if packed else content)
        self.visits_log.unlink()

    def rebuild(self, *logs: Path, sites: Mapping[str, str] | None = None, **kwargs: Any) -> RebuildReport:
        with ExitStack() as files:
            opened = [files.enter_context(LogFile(path)) for path in logs or find_logs(self.visits_log)]
            chosen = Logs(opened, sites or {}, are_wanted=bool(logs))
            return rebuild(self.database, self.queue, logs=chosen, **kwargs)

    def export(self, path: Path) -> None:
        with closing(open_database(self.database, read_only=True)) as database:
            write_export(DuckdbContents(database), path, Format.NDJSON, is_restorable=True)

    def rebuild_from(self, path: Path, **kwargs: Any) -> RebuildReport:
        with LogFile(path) as file:
            return rebuild(self.database, self.queue, first=ExportHoldings(Export(file), file.size), **kwargs)

    def query(self, sql: str) -> Rows:
        with closing(open_database(self.database, read_only=True)) as database:
            return database.execute(sql).fetchall()

    def rows(self) -> Rows:
        """All events, in an order that does not depend on how they came into the database."""
        return self.query(f"SELECT {', '.join(NAMES)} FROM events ORDER BY ALL")

    def rows_of_anybody(self) -> Rows:
        """As `rows`, whoever the visitors were: their numbers are lost with the salts."""
        return self.query(f"SELECT {', '.join(name for name in NAMES if name != 'visitor')} FROM events ORDER BY ALL")

    def paths(self) -> list[str]:
        return sorted(path for (path,) in self.query("SELECT path FROM events"))

    def account(self) -> SinkReport:
        """What the ledger says of the database, after checking that everything received is in it."""
        state = self.queue.state()
        report = state.sinks[DATABASE]
        pending = sum(batch.count for batch in self.queue.read(report.sequence, max_bytes=1 << 40))
        assert state.received == report.written + sum(report.skipped.values()) + pending
        return report

    def close(self) -> None:
        self.queue.close()
        self._trimmer.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with closing(Site(tmp_path)) as instance:
        yield instance


# What comes back.


def test_what_the_queue_holds_comes_back_once(site: Site) -> None:
    """The hits among it are in the visits log, too, and are not counted again."""
    site.receive(hit("a"), hit("b", site_id="my-site"), event("c"), hit("d", address=None))
    site.receive(hit("e"))
    site.settle()
    before = site.rows()

    report = site.rebuild()

    assert before == site.rows()
    assert (5, 5, 5, 0, 0) == (report.events, report.old_events, report.from_first, report.from_log, report.not_rebuilt)
    assert (5, {}) == (site.account().written, site.account().skipped)

    site.lose()
    report = site.rebuild()

    assert [row[:4] for row in before] == [row[:4] for row in site.rows()]
    assert (5, None, 5, 0, 0) == (
        report.events,
        report.old_events,
        report.from_batches,
        report.from_log,
        report.not_rebuilt,
    )
    assert (5, {}) == (site.account().written, site.account().skipped)


def test_what_the_queue_has_dropped_comes_from_the_visits_log(site: Site) -> None:
    """Site, page, visitor and browser are what they were where the referrer told the site."""
    site.receive(*(hit(f"{number}", address=f"203.0.113.{number % 7}") for number in range(50)))
    site.settle()
    site.drop()
    site.receive(hit("later"), event("posted"))
    site.settle()
    before = site.rows_of_anybody()
    site.lose()

    report = site.rebuild()

    assert before == site.rows_of_anybody()
    assert (50, 2) == (report.from_log, report.from_batches)
    assert [("blog.example", 50)] == report.sites
    assert (52, {}) == (site.account().written, site.account().skipped)


def test_what_no_source_has_is_accounted_for(site: Site) -> None:
    """Posted events, hits without an address or a site: the ledger says what became of each."""
    nowhere = Hit(NOW_NS, "203.0.113.7", b"", b"curl/8.0", site_id="my-site")
    site.receive(hit("a"), event("b"), event("c"), hit("d", address=None), nowhere)
    site.settle()
    site.drop()
    site.receive(hit("e"))
    site.settle()
    site.lose()

    report = site.rebuild()

    assert ["/a", "/e"] == site.paths()
    assert (3, {"no_site": 1}) == (report.not_rebuilt, report.skipped)
    assert (2, {"no_site": 1, NOT_REBUILT: 3}) == (site.account().written, site.account().skipped)


def test_the_processor_goes_on_behind_a_rebuild(site: Site) -> None:
    """Nothing is missing or there twice, also when that is done again."""
    for number in range(3):
        site.receive(hit(f"{number}-a"), event(f"{number}-b"))
        site.settle()
        site.drop()
        site.receive(hit(f"{number}-c"), event(f"{number}-d"))
        site.rebuild()
        site.receive(hit(f"{number}-e"))
        site.settle()

    assert 15 == site.queue.state().received
    assert sorted(f"/{number}-{letter}" for number in range(3) for letter in "abcde") == site.paths()
    assert (15, {}) == (site.account().written, site.account().skipped)


def test_hits_without_a_site_of_their_own_get_one_by_name(site: Site) -> None:
    """As the log does not tell `site_id`, the host of the referrer can be given one; others keep their host."""
    site.receive(hit("a", site="BLOG.example", site_id="my-site"), hit("b", site="shop.example", site_id="shop"))
    site.settle()
    site.drop()
    site.lose()

    report = site.rebuild(sites={"blog.example": "my-site"})

    assert [("my-site", "/a"), ("shop.example", "/b")] == site.query("SELECT site_id, path FROM events ORDER BY path")
    assert [("my-site", 1), ("shop.example", 1)] == report.sites


def test_equal_lines_count_as_often_as_they_are_there(site: Site) -> None:
    """A line of an imported log can come many times a second; some of them dropped by the queue, some not."""
    site.receive(hit("a"), hit("a"), hit("a"))
    site.settle()
    site.drop()
    site.receive(hit("a"), hit("a"))
    site.settle()
    site.receive(hit("b"))  # not in the log yet
    site.lose()

    report = site.rebuild()

    assert [*["/a"] * 5, "/b"] == site.paths()
    assert (3, 3) == (report.from_log, report.from_batches)


def test_lines_keep_every_byte(site: Site) -> None:
    """Headers that need escapes are known again, and read back as what was sent."""
    odd = [
        Hit(NOW_NS, "203.0.113.7", b"https://blog.example/a|b\\c\xff", b"null"),
        Hit(NOW_NS, "203.0.113.7", "https://blog.example/\u2028é".encode(), b""),
        Hit(NOW_NS + 99, "fe80::1%eth0", b"https://blog.example/\n", b"\x00\xc3"),
    ]
    site.receive(*odd)
    site.settle()
    before = site.rows_of_anybody()
    site.lose()
    site.rebuild()
    assert before == site.rows_of_anybody()

    site.drop()
    site.lose()
    site.rebuild()
    assert before == site.rows_of_anybody()


def test_event_ids_are_known_again(site: Site) -> None:
    """A client's retry counts once, whether its first attempt came from a batch or from an export."""
    site.receive(event("a", event_id="1"), event("a", event_id="1"))
    site.settle()
    site.rebuild()
    site.receive(event("a", event_id="1"))
    site.settle()
    assert (["/a"], {"duplicate": 2}) == (site.paths(), site.account().skipped)

    site.export(site.data_dir / "export")
    site.drop()
    site.receive(event("a", event_id="1"), event("b", event_id="2"))
    site.rebuild_from(site.data_dir / "export")
    site.receive(event("b", event_id="2"))
    site.process()
    assert (["/a", "/b"], {"duplicate": 4}) == (site.paths(), site.account().skipped)


def test_imported_lines_stay_where_they_are(site: Site) -> None:
    """The log has them without their site and page: with the referrer of a search engine, or with none."""
    lines = [
        Hit(NOW_NS + number, "203.0.113.7", referrer, b"curl/8.0", "imported", f"/{number}", host="blog.example")
        for number, referrer in enumerate([b"https://www.google.com/", b"", b"https://blog.example/"] * 10)
    ]
    site.receive(*lines)
    site.receive(event("posted"), hit("a", site_id="my-site"))
    site.settle()
    site.drop()
    before = site.rows()

    site.rebuild()
    site.rebuild(site.visits_log)

    assert before == site.rows()
    assert (32, {}) == (site.account().written, site.account().skipped)


def test_rows_follow_the_present_rules(site: Site) -> None:
    """As if they had been made today; where the user agent was not kept, what was recognised stays."""
    site.receive(hit("a"), hit("b", site_id="shop"), event("c"))
    site.settle()
    before = site.rows()
    with closing(open_database(site.database)) as database:
        database.execute("UPDATE events SET browser = 'Old', os = NULL, device = 'bot', bot = 'Old', source = NULL")
        database.execute("UPDATE events SET user_agent = NULL WHERE path = '/c'")

    site.rebuild()

    kept = site.query("SELECT browser, device FROM events WHERE path = '/c'")
    assert [("Old", "bot")] == kept
    assert [row for row in before if row[3] != "/c"] == [row for row in site.rows() if row[3] != "/c"]


# The logs.


def test_rotated_logs_are_read(site: Site) -> None:
    """Plain and compressed, and one that is being compressed once."""
    for name, packed in [("visits.log.2.gz", True), ("visits.log-20251112", False), ("visits.log.1", False)]:
        site.receive(hit(name))
        site.settle()
        site.rotate(name, packed=packed)
    site.visits_log.with_name("visits.log.1.gz").write_bytes(b"\x1f\x8b half of it")
    site.receive(hit("last"))
    site.settle()
    site.drop()
    before = site.rows_of_anybody()
    site.lose()

    site.rebuild()

    assert before == site.rows_of_anybody()


@pytest.mark.parametrize(
    ("name", "is_found"),
    [
        ("visits.log", True),
        ("visits.log.1", True),
        ("visits.log.12.gz", True),
        ("visits.log.12.bz2", True),
        ("visits.log.12.zst", True),
        ("visits-20251112.log.xz", True),
        ("visits.log-20251112", True),
        ("visits.log-20251112.gz", True),
        ("visits.log-2025-11-12-1731412800.gz", True),
        ("visits-20251112.log", True),
        ("visits.3.log.gz", True),
        ("visits.log.lock", False),
        ("visits.log.bak", False),
        ("visits.log~", False),
        ("more-visits.log", False),
        ("visits.logs", False),
        ("visits_log.1", False),
    ],
)
def test_rotated_logs_are_found_by_name(tmp_path: Path, name: str, *, is_found: bool) -> None:
    """By the names that logrotate makes, with its options for dates and extensions."""
    (tmp_path / name).touch()
    (tmp_path / "visits.log.9").mkdir()
    assert ([tmp_path / name] if is_found else []) == find_logs(tmp_path / "visits.log")


def test_logs_come_in_the_order_they_were_written(tmp_path: Path) -> None:
    """By their time, since their names count forward or backward."""
    names = ["visits.log.2.gz", "visits.log.1", "visits-20251112.log", "visits.log"]
    for minute, name in enumerate(names):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (minute * 60, minute * 60))
    assert names == [path.name for path in find_logs(tmp_path / "visits.log")]


def test_no_directory_has_no_logs(tmp_path: Path) -> None:
    """As on a new machine, where only the export was brought."""
    assert [] == find_logs(tmp_path / "missing" / "visits.log")


@pytest.mark.parametrize("extension", ["lz4", "Z"])
def test_a_log_that_cannot_be_unpacked_is_named(tmp_path: Path, extension: str) -> None:
    """It is not left out in silence."""
    (tmp_path / f"visits.log.1.{extension}").touch()
    with pytest.raises(BadUsageError, match=rf"visits\.log\.1\.{extension} can't be read here: unpack it"):
        find_logs(tmp_path / "visits.log")


def test_a_deleted_log_takes_only_its_own_lines_along(site: Site) -> None:
    """Lines are known by what they say, not by their place: what is gone between two logs makes no odds."""
    site.receive(hit("first"))
    site.settle()
    site.rotate("visits.log.1")
    site.drop()
    site.receive(hit("second"), hit("third"))
    site.settle()
    site.visits_log.unlink()
    site.receive(hit("fourth"))
    site.settle()
    site.lose()

    site.rebuild()

    assert ["/first", "/fourth", "/second", "/third"] == site.paths()


def test_an_archived_log_can_be_given(site: Site, tmp_path: Path) -> None:
    """Then it is read instead of those in place."""
    site.receive(hit("archived"))
    site.settle()
    archive = site.visits_log.rename(tmp_path / "archive")
    site.receive(hit("lost"))
    site.settle()
    site.drop()
    site.receive(hit("retained"))
    site.settle()
    site.lose()

    site.rebuild(archive)

    assert ["/archived", "/retained"] == site.paths()
    assert {NOT_REBUILT: 1} == site.account().skipped


def test_what_is_no_line_of_a_log_is_told(site: Site) -> None:
    """With its number, so that it can be looked at; the rest comes back."""
    site.receive(hit("a"), hit("b"))
    site.settle()
    site.drop()
    [first, second] = site.visits_log.read_bytes().splitlines(keepends=True)
    late = b"9999" + format_line(NOW_NS, b"", b"", "::1").encode()[4:] + b"\n"
    surrogate = first.replace(b"203.0.113.7", rb"\udc80")
    site.lose()
    site.visits_log.write_bytes(
        b"".join([b"\n", first, b"x" * (2 << 20) + b"\n", late, b"\xff\n", surrogate, second, first[:-1]])
    )

    report = site.rebuild()

    assert {site.visits_log: Skipped(6, [1, 3, 4, 5, 6, 8])} == report.malformed
    assert ["/a", "/b"] == site.paths()


def test_a_log_that_cannot_be_read_to_its_end_stops_the_rebuild(site: Site) -> None:
    """The new database would lack something that could still be had."""
    site.receive(*(hit(f"{number}") for number in range(1_000)))
    site.settle()
    site.rotate("visits.log.1.gz", packed=True)
    torn = site.visits_log.with_name("visits.log.1.gz")
    os.truncate(torn, torn.stat().st_size - 10)
    before = site.database.read_bytes()

    with pytest.raises(BadUsageError, match=r"visits\.log\.1\.gz can't be read past line \d+: .* name the logs"):
        site.rebuild(torn)

    assert before == site.database.read_bytes()


def test_lines_of_another_queue_are_in_no_ledger(site: Site, tmp_path: Path) -> None:
    """The log may be older than the queue, whose ledger counts what it received itself."""
    (tmp_path / "earlier").mkdir()
    with closing(Site(tmp_path / "earlier")) as earlier:
        earlier.receive(hit("earlier-a"), hit("earlier-b"))
        earlier.settle()
        earlier.visits_log.rename(site.visits_log)
    site.receive(hit("a"), event("b"))
    site.settle()
    site.drop()
    site.receive(hit("c"))
    site.settle()

    site.lose()

    for _ in range(2):
        site.rebuild()

        assert ["/a", "/c", "/earlier-a", "/earlier-b"] == site.paths()
        assert (2, {NOT_REBUILT: 1}) == (site.account().written, site.account().skipped)
        assert [(2,)] == site.query(f"SELECT written FROM positions WHERE source = '{LOG_SOURCE}'")


def test_a_lost_queue_leaves_what_the_log_has(site: Site, tmp_path: Path) -> None:
    """The new queue begins its ledger at zero."""
    site.receive(hit("a"), event("b"))
    site.settle()
    (tmp_path / "new").mkdir()
    with closing(Site(tmp_path / "new")) as new:
        new.rebuild(site.visits_log)
        assert (["/a"], {}) == (new.paths(), new.account().skipped)
        new.receive(hit("c"))
        new.process()
        assert (["/a", "/c"], 1) == (new.paths(), new.account().written)


def test_hits_of_a_batch_that_is_damaged_come_from_the_log(site: Site) -> None:
    """The log had them before the disk damaged the batch; what it has not stays unreadable."""
    site.receive(hit("a"), hit("b"), event("c"))
    site.receive(hit("d"))
    site.settle()
    damage(site)
    site.lose()

    site.rebuild()

    assert ["/a", "/b", "/d"] == site.paths()
    assert (3, {"unreadable": 1}) == (site.account().written, site.account().skipped)


def damage(site: Site) -> None:
    """Let the oldest batch be other bytes than were committed."""
    with closing(sqlite3.connect(site.data_dir / FILE_NAME)) as queue:
        queue.execute("UPDATE batches SET payload = x'00' WHERE sequence = (SELECT min(sequence) FROM batches)")
        queue.commit()


# While others go on.


def test_hits_that_come_meanwhile_count_once(site: Site) -> None:
    """Collectors and storage may run: what they bring into queue and log is not taken from both, nor from none."""
    site.receive(hit("a"))
    site.settle()
    paths = ["/a"]

    def go_on(_: int) -> None:
        paths.append(f"/meanwhile-{len(paths)}")
        site.receive(hit(paths[-1][1:]))
        site.log()

    with LogFile(site.visits_log) as log:
        go_on(0)
        rebuild(site.database, site.queue, logs=Logs([log]), on_progress=go_on)
    site.process()

    assert len(paths) >= 4
    assert sorted(paths) == site.paths()
    assert (len(paths), {}) == (site.account().written, site.account().skipped)


def test_the_queue_drops_nothing_that_a_rebuild_needs(site: Site) -> None:
    """What was safe in the old database is not yet so in the new one."""
    for number in range(3):
        site.receive(event(f"{number}"), Hit(NOW_NS, None, b"", b"x" * 5_000_000))
    site.settle()

    site.rebuild(on_progress=lambda _: site.drop())

    assert ["/0", "/1", "/2"] == site.paths()
    site.drop()
    assert [] == site.queue.read(0)


def test_salts_are_taken_over(site: Site) -> None:
    """A visitor of today, seen again after a rebuild, is the same one."""
    site.receive(hit("a"))
    site.settle()
    site.rebuild()
    site.receive(hit("b"))
    site.settle()
    assert [(1,)] == site.query("SELECT count(DISTINCT visitor) FROM events")


# The files.


def test_the_old_database_is_kept(site: Site) -> None:
    """With everything in it, under a name that tells when; nothing else is left."""
    site.receive(hit("a"))
    site.settle()
    before = site.database.read_bytes()
    files = set(site.data_dir.iterdir())

    report = site.rebuild()

    assert report.kept is not None
    assert report.kept.name.startswith("footfall.duckdb.before-2")
    assert before == report.kept.read_bytes()
    assert files | {report.kept} == set(site.data_dir.iterdir())


def test_the_old_ones_log_is_kept_with_it(site: Site, tmp_path: Path) -> None:
    """A crash has left rows in it; beside the new database it would be taken for that one's."""
    site.receive(hit("a"))
    site.settle()
    site.receive(hit("b"))
    with closing(open_database(site.database)) as database, closing(DuckdbSink(database)) as sink:
        sink.write(site.queue.read(0))
        for path in (site.database, log_of(site.database)):
            shutil.copy(path, tmp_path)
    for path in (site.database, log_of(site.database)):
        shutil.copy(tmp_path / path.name, path)

    report = site.rebuild()

    assert (2, False) == (report.old_events, log_of(site.database).exists())
    assert ["/a", "/b"] == site.paths()
    assert report.kept is not None
    with closing(open_database(report.kept)) as kept:
        assert [(2,)] == kept.execute("SELECT count(*) FROM events").fetchall()


def test_a_database_that_is_damaged_is_replaced(site: Site) -> None:
    """That is what a rebuild is for; it is kept all the same."""
    site.receive(hit("a"))
    site.settle()
    site.database.write_bytes(b"not a database" * 1_000)

    report = site.rebuild()

    assert ["/a"] == site.paths()
    assert report.kept is not None
    assert report.old_events is None
    assert b"not a database" * 1_000 == report.kept.read_bytes()


def test_a_database_that_is_gone_is_made(site: Site) -> None:
    """Also where it has left its log behind, which would keep the new one from being opened."""
    site.receive(hit("a"))
    site.settle()
    site.database.rename(log_of(site.database))

    report = site.rebuild()

    assert (["/a"], None) == (site.paths(), report.kept)


def test_what_an_earlier_rebuild_left_is_replaced(site: Site) -> None:
    """It was killed before it was done."""
    site.receive(hit("a"))
    site.settle()
    new = site.database.with_name("footfall.duckdb.new")
    new.write_bytes(b"half a database")
    log_of(new).write_bytes(b"half a log")

    site.rebuild()

    assert ["/a"] == site.paths()
    assert not new.exists()
    assert not log_of(new).exists()


def test_a_database_that_somebody_has_open_is_left_alone(site: Site) -> None:
    """A person with a tool, say, whom the lock of the processor does not keep out."""
    site.receive(hit("a"))
    site.settle()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import duckdb; c = duckdb.connect({str(site.database)!r}); print(flush=True); input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(AlreadyInUseError, match=f"process {holder.pid}"):
            site.rebuild()
    finally:
        holder.communicate(b"\n")
    assert ["/a"] == site.paths()


@pytest.mark.parametrize("call", ["footfall.commands.rebuild.replacement.sync", "os.link", "os.replace"])
def test_a_step_that_fails_leaves_the_old_database(site: Site, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """The error says what failed; the disk is given back, and the next rebuild succeeds."""
    site.receive(hit("a"), hit("b"))
    site.settle()
    before = site.database.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(call, fail)
        with pytest.raises(FootfallError, match=r"can't be made anew: .*Input/output error.*as it was"):
            site.rebuild()

    assert before == site.database.read_bytes()
    assert not site.database.with_name("footfall.duckdb.new").exists()
    assert 2 == site.rebuild().events


def test_a_full_disk_leaves_the_old_database(site: Site) -> None:
    """And gives back what the new one took."""
    site.receive(hit("a"))
    site.settle()
    before = site.database.read_bytes()
    with site.visits_log.open("a") as log:
        log.writelines(f"{format_line(NOW_NS, os.urandom(900), b'', '::1')}\n" for _ in range(500))

    with largest_file(len(before)), pytest.raises(FootfallError, match=r"can't be made anew: .*as it was"):
        site.rebuild(sites={"": "my-site"})

    assert before == site.database.read_bytes()
    assert not site.database.with_name("footfall.duckdb.new").exists()


# From an export.


def test_an_export_brings_back_what_was_exported(site: Site, tmp_path: Path) -> None:
    """All of it, byte for byte; the batches behind it come from the queue, those before it not again."""
    site.receive(hit("a", site_id="my-site"), event("b"), event("c", event_id="1"), hit("d", address=None))
    site.settle()
    site.export(tmp_path / "export")
    site.receive(hit("e"), event("f"))
    site.settle()
    before = site.rows()

    report = site.rebuild_from(tmp_path / "export")

    assert before == site.rows()
    assert (4, 2, 0, 0) == (report.from_first, report.from_batches, report.from_log, report.not_rebuilt)
    assert (6, {}) == (site.account().written, site.account().skipped)
    site.receive(hit("g"))
    site.settle()
    assert ["/a", "/b", "/c", "/d", "/e", "/f", "/g"] == site.paths()


def test_what_came_after_an_export_and_was_dropped_is_accounted_for(site: Site, tmp_path: Path) -> None:
    """An old export leaves a gap, and the ledger shows it."""
    site.receive(hit("a"))
    site.settle()
    site.export(tmp_path / "export")
    site.receive(hit("b"), hit("c"))
    site.settle()
    site.drop()
    site.receive(hit("d"))
    site.settle()

    with pytest.raises(FootfallError, match=r"would have fewer events .* on 1 days .* 2 in all(.|\n)* 4 events before"):
        site.rebuild_from(tmp_path / "export")
    assert ["/a", "/b", "/c", "/d"] == site.paths()
    site.visits_log.unlink()

    report = site.rebuild_from(tmp_path / "export", may_have_fewer=True)

    assert (["/a", "/d"], 2) == (site.paths(), report.not_rebuilt)
    assert (2, {NOT_REBUILT: 2}) == (site.account().written, site.account().skipped)


def test_an_export_can_move_to_another_machine(site: Site, tmp_path: Path) -> None:
    """There the queue is another one, with a ledger of its own."""
    site.receive(hit("a"), event("b"))
    site.settle()
    site.export(tmp_path / "export")
    (tmp_path / "new").mkdir()
    with closing(Site(tmp_path / "new")) as new:
        new.receive(hit("c"))
        new.rebuild_from(tmp_path / "export")
        assert (["/a", "/b", "/c"], 1) == (new.paths(), new.account().written)


def test_a_torn_export_leaves_the_old_database(site: Site, tmp_path: Path) -> None:
    """It would lack events that could still be had."""
    site.receive(hit("a"), hit("b"))
    site.settle()
    site.export(tmp_path / "export")
    os.truncate(tmp_path / "export", (tmp_path / "export").stat().st_size - 1)
    before = site.database.read_bytes()

    with pytest.raises(BadUsageError, match=r"export is not whole: it ends in line 2"):
        site.rebuild_from(tmp_path / "export")

    assert before == site.database.read_bytes()


# All of it at once.


STEPS = st.lists(
    st.sampled_from(["hit", "event", "twin", "log", "process", "settle", "drop", "rotate", "delete", "rebuild"]),
    max_size=15,
)


@settings(max_examples=20)
@given(steps=STEPS, is_lost=st.booleans())
def test_any_history_comes_back_as_far_as_something_has_it(
    steps: list[str], tmp_path_factory: pytest.TempPathFactory, *, is_lost: bool
) -> None:
    """Everything received is there exactly once; without the database, what a batch or a log still has."""
    directory = tmp_path_factory.mktemp("site")
    names = count()
    received: Counter[str] = Counter()
    with closing(Site(directory)) as site:
        for step in steps:
            name = str(next(names))
            match step:
                case "hit" | "twin":
                    page = name if step == "hit" else "twin"
                    site.receive(hit(page))
                    received[f"/{page}"] += 1
                case "event":
                    site.receive(event(name), hit(name, address=None))
                    received[f"/{name}"] += 2
                case "rotate" if site.visits_log.exists():
                    site.rotate(f"visits.log.{name}", packed=int(name) % 2 == 0)
                case "delete" if site.visits_log.exists():
                    site.visits_log.unlink()
                case "log" | "process" | "settle" | "drop":
                    getattr(site, step)()
                case "rebuild":
                    site.rebuild()
        if is_lost:
            site.lose()
        expected = held(site) if is_lost else received

        site.rebuild()

        assert expected == Counter(site.paths())
        assert expected.total() == site.account().written
        site.settle()
        assert expected == Counter(site.paths())
    shutil.rmtree(directory)


def held(site: Site) -> Counter[str]:
    """The pages of what the batches and the logs hold; equal lines in both are the same hits."""
    retained: Counter[str] = Counter()
    for batch in site.queue.read(0, max_bytes=1 << 40):
        for entry in decode_entries(batch.payload):
            retained[page_of(entry.referrer) if isinstance(entry, Hit) else str(entry.path)] += 1
    logged: Counter[str] = Counter()
    for path in find_logs(site.visits_log):
        with LogFile(path) as log:
            for line in iter(log.read_line, b""):
                logged[page_of(parse_line(line.decode().rstrip("\n")).referrer)] += 1
    return retained | logged


def page_of(referrer: bytes) -> str:
    return referrer.decode().removeprefix("https://blog.example")
