"""The DuckDB database: opening it, rows, checkpoints, salts, and what can go wrong."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from footfall.database.duckdb.file import open_database, open_repaired
from footfall.database.duckdb.migrations import FORMAT
from footfall.database.duckdb.reader import DuckdbReports
from footfall.database.duckdb.writer import CHECKPOINT_AGE, CHECKPOINT_ROWS, DuckdbSink
from footfall.database.salts import SALT_AGE
from footfall.entry import Entry, Event, encode_entries
from footfall.errors import AlreadyInUseError, DamagedFileError, FootfallError
from footfall.queue.base import Batch, Progress
from full_disk import largest_file

NOON = datetime(2025, 11, 12, 12, tzinfo=UTC)
NOON_NS = int(NOON.timestamp()) * 1_000_000_000


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> int:
        return int(self.now.timestamp()) * 1_000_000_000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "footfall.duckdb"


@contextmanager
def opened(
    path: Path, clock: Callable[[], int] = time.time_ns, monotonic: Callable[[], float] | None = None
) -> Iterator[tuple[duckdb.DuckDBPyConnection, DuckdbSink]]:
    """The database and its sink; no clock is set unless `monotonic` says so."""
    with (
        closing(open_database(path)) as database,
        closing(DuckdbSink(database, clock, monotonic or (lambda: clock() / 1e9))) as sink,
    ):
        yield database, sink


def event(name: str = "x", *, days: int = 0, props: dict[str, Any] | None = None) -> Event:
    """An event of a visitor who is always the same, some days after `NOON`."""
    occurred = NOON + timedelta(days=days)
    return Event(
        NOON_NS,
        "203.0.113.7",
        b"curl/8.0",
        "my-blog",
        "page_view",
        path=name,
        occurred_us=int(occurred.timestamp()) * 1_000_000,
        props=props,
    )


def batch(sequence: int, *entries: Entry) -> Batch:
    entries = entries or (event(f"{sequence}-first"), event(f"{sequence}-second"))
    return Batch("a", sequence, 0, len(entries), encode_entries(entries))


def rows(database: duckdb.DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
    with closing(database.cursor()) as cursor:
        return cursor.execute(query).fetchall()


def sequences(database: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    """How many rows there are, and what the position says of them."""
    return rows(database, "SELECT (SELECT count(*) FROM events), sequence, written FROM positions")


# Opening.


def test_a_database_that_another_process_has_open_is_refused(path: Path) -> None:
    """The text names the process, and says how processor and reporting get along."""
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import duckdb; c = duckdb.connect({str(path)!r}); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(AlreadyInUseError, match=f"process {holder.pid}.*footfall run processor reporting"):
            open_database(path)
    finally:
        holder.communicate(b"\n")


def test_a_place_that_cannot_be_looked_at_is_refused(tmp_path: Path) -> None:
    """The text names the setting, as for any other place that can't be used."""
    with pytest.raises(FootfallError, match=r"can't be opened \(database.url\)"):
        open_repaired(tmp_path / ("x" * 300))


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    """It is left as it is."""
    path.write_bytes(b"somebody's notes" * 1_000)

    with pytest.raises(DamagedFileError, match="is not a readable database"):
        open_database(path)
    assert b"somebody's notes" * 1_000 == path.read_bytes()


def test_a_damaged_database_is_refused(path: Path) -> None:
    """DuckDB's checksums tell."""
    with opened(path) as (_, sink):
        sink.write([batch(1)])
    content = bytearray(path.read_bytes())
    content[12_288 + 100] ^= 0xFF
    path.write_bytes(content)

    with pytest.raises(DamagedFileError, match="is not a readable database"):
        open_database(path)


def test_somebody_elses_database_is_refused(path: Path) -> None:
    """Tables are only added to a file that has none."""
    with closing(duckdb.connect(path)) as database:
        database.execute("CREATE TABLE events (id INTEGER)")

    with pytest.raises(DamagedFileError, match="was not made by Footfall"):
        open_database(path)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_format_is_refused(path: Path, read_only: bool) -> None:  # noqa: FBT001
    """The text names the file and both numbers, and the file stays as it is."""
    with closing(open_database(path)) as database:
        database.execute("UPDATE format SET version = ?", [FORMAT + 1])
    before = path.read_bytes()

    with pytest.raises(
        DamagedFileError, match=rf"\.duckdb has format {FORMAT + 1}, and .* reads formats 1 to {FORMAT}: a newer"
    ):
        open_database(path, read_only=read_only)
    assert before == path.read_bytes()


def test_a_place_where_no_file_can_be_is_named(tmp_path: Path) -> None:
    """A directory that is missing, or stands where the file should be, is the owner's to mend."""
    for path in (tmp_path, tmp_path / "missing" / "footfall.duckdb"):
        with pytest.raises(FootfallError, match=r"can't be opened \(database.url\)") as raised:
            open_database(path)
        assert not isinstance(raised.value, DamagedFileError)


def test_a_query_can_not_reach_beyond_the_database(path: Path, tmp_path: Path) -> None:
    """Neither files nor extensions: what a query could be talked into stays inside."""
    with closing(open_database(path)) as database:
        for statement in (f"COPY events TO '{tmp_path}/out.csv'", f"ATTACH '{tmp_path}/other'", "INSTALL httpfs"):
            with pytest.raises(duckdb.Error, match=r"disabled"):
                database.execute(statement)


# Rows.


def test_an_event_is_stored_in_full(path: Path) -> None:
    """Each value in its column, times in UTC, props as JSON, the visitor in 128 bits."""
    entry = Event(
        NOON_NS,
        "203.0.113.7",
        b"Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
        "my-blog",
        "signup",
        path="/join?utm_source=mail&utm_medium=letter&utm_campaign=may&utm_term=a&utm_content=b&gclid=x",
        user_id="user-42",
        occurred_us=-1,
        referrer="https://www.google.com/",
        props={"plan": "free"},
        host="my-blog.example",
        screen_width=390,
        language="de",
        scroll_depth=80,
        engaged_ms=2**31,
        interactive=False,
    )
    with opened(path) as (database, sink):
        sink.write([batch(1, entry)])
        [(*values, visitor)] = rows(database, "SELECT * EXCLUDE visitor, visitor FROM events")

        assert [
            datetime(1969, 12, 31, 23, 59, 59, 999_999),  # noqa: DTZ001 - the database holds UTC without saying so
            "my-blog",
            "signup",
            "/join",
            "user-42",
            "https://www.google.com/",
            "mail",
            "Firefox",
            "Linux",
            "desktop",
            '{"plan":"free"}',
            *("mail", "letter", "may", "a", "b"),
            "my-blog.example",
            "130",
            *(None, None, "mobile", "de"),
            *(None, None, None),
            entry.user_agent.decode(),
            *("gclid", 80, 2**31, False),
        ] == values
        assert [("free", visitor)] == rows(database, "SELECT props->>'plan', visitor FROM events")


def test_a_reader_sees_rows_and_position_of_one_moment(path: Path) -> None:
    """A transaction that was begun before a write does not see it, one begun after it does."""
    with opened(path) as (database, sink):
        sink.write([batch(1)])
        with closing(database.cursor()) as before:
            before.begin()
            query = "SELECT (SELECT count(*) FROM events), (SELECT sequence FROM positions)"
            assert [(2, 1)] == before.execute(query).fetchall()
            sink.write([batch(2)])

            assert [(2, 1)] == before.execute(query).fetchall()
            assert [(4, 2)] == rows(database, query)


def test_readers_and_the_writer_do_not_disturb_each_other(path: Path, clock: Clock) -> None:
    """Reports in other threads see rows and position that fit together, all the time, checkpoints included."""
    with opened(path, clock) as (database, sink), ThreadPoolExecutor(2) as threads:
        stop = threading.Event()

        def read() -> int:
            seen = 0
            while not stop.is_set():
                with closing(database.cursor()) as cursor:
                    cursor.begin()
                    [(counted,)] = cursor.execute("SELECT count(*) FROM events").fetchall()
                    [(written,)] = cursor.execute("SELECT coalesce(sum(written), 0) FROM positions").fetchall()
                    assert counted == written
                    seen = counted
            return seen

        readers = [threads.submit(read) for _ in range(2)]
        try:
            for sequence in range(1, 101):
                sink.write([batch(sequence)])
                clock.now += CHECKPOINT_AGE / 5
        finally:
            stop.set()

        assert all(0 < reader.result() <= 200 for reader in readers)
        assert 95 < sink.progress()["a"].safe_sequence
    with opened(path) as (database, _):
        assert [(200, 100, 200)] == sequences(database)


# Checkpoints.


def test_a_write_is_safe_once_a_checkpoint_covers_it(path: Path, clock: Clock) -> None:
    """An idle sink makes it when a minute is over, while a report is being read, too."""
    with opened(path, clock) as (database, sink), closing(database.cursor()) as reader:
        reader.begin()
        reader.execute("SELECT count(*) FROM events").fetchall()
        sink.write([batch(1)])
        clock.now += CHECKPOINT_AGE - timedelta(seconds=1)
        sink.write([batch(2)])
        assert {"a": Progress(sequence=2, safe_sequence=0, written=4)} == sink.progress()

        clock.now += timedelta(seconds=1)
        sink.write([])

        assert {"a": Progress(sequence=2, safe_sequence=2, written=4)} == sink.progress()


def test_many_rows_make_a_checkpoint_due(path: Path, clock: Clock) -> None:
    """What the log holds stays bounded, however fast it comes."""
    many = [event()] * (CHECKPOINT_ROWS // 4)
    with opened(path, clock) as (_, sink):
        for sequence in range(1, 4):
            sink.write([batch(sequence, *many)])
        assert 0 == sink.progress()["a"].safe_sequence

        sink.write([batch(4, *many)])

        assert 4 == sink.progress()["a"].safe_sequence


def test_no_checkpoint_is_made_on_a_full_disk(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that fails would put an end to the reports; what is in the log is durable without it."""
    usage = shutil.disk_usage(path.parent)
    with opened(path, clock) as (_, sink):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
        sink.write([batch(1)])
        clock.now += CHECKPOINT_AGE
        sink.write([])
        assert 0 == sink.progress()["a"].safe_sequence

        monkeypatch.undo()
        sink.write([])

        assert 1 == sink.progress()["a"].safe_sequence


def test_a_checkpoint_waits_for_a_transaction_in_its_way(path: Path, clock: Clock) -> None:
    """That is no trouble: a later call makes it."""
    with opened(path, clock) as (database, sink), closing(database.cursor()) as other:
        sink.write([batch(1)])
        other.begin()
        other.execute("UPDATE events SET path = ''")
        clock.now += CHECKPOINT_AGE
        sink.write([])
        assert 0 == sink.progress()["a"].safe_sequence

        other.rollback()
        sink.write([])

        assert 1 == sink.progress()["a"].safe_sequence


# Salts.


def test_a_visitor_is_the_same_after_a_new_start(path: Path, clock: Clock) -> None:
    """The day's salt is kept."""
    with opened(path, clock) as (_, sink):
        sink.write([batch(1, event())])
    with opened(path, clock) as (database, sink):
        sink.write([batch(2, event())])

        assert [(2, 1)] == rows(database, "SELECT count(*), count(DISTINCT visitor) FROM events")
        assert [(NOON.date(), 16)] == rows(database, "SELECT day, octet_length(salt) FROM salts")


def test_each_day_has_a_salt_of_its_own(path: Path, clock: Clock) -> None:
    """The same visitor can't be followed from one day to the next."""
    with opened(path, clock) as (database, sink):
        sink.write([batch(1, event(), event(days=-1), event(days=-700_000), event())])

        assert [(3,)] == rows(database, "SELECT count(DISTINCT visitor) FROM events")
        assert [(3, 3)] == rows(database, "SELECT count(DISTINCT day), count(DISTINCT salt) FROM salts")


def test_days_of_long_ago_share_a_secret(path: Path, clock: Clock) -> None:
    """However many a client names, a few salts are stored; each day's visitors are its own, also after a new start."""
    far = [event(days=-days) for days in range(3, 1_003)]
    with opened(path, clock) as (database, sink):
        sink.write([batch(1, *far, event(), event(days=-2), event(days=1))])

        assert [(4,)] == rows(database, "SELECT count(*) FROM salts")
        assert [(1_003,)] == rows(database, "SELECT count(DISTINCT visitor) FROM events")
    with opened(path, clock) as (database, sink):
        sink.write([batch(2, *far)])
        assert [(1_003,)] == rows(database, "SELECT count(DISTINCT visitor) FROM events")

        clock.now += SALT_AGE
        sink.write([])
        assert [] == rows(database, "SELECT * FROM salts")
        sink.write([batch(3, far[0])])
        assert [(1_004,)] == rows(database, "SELECT count(DISTINCT visitor) FROM events")


def test_a_salt_is_forgotten_after_48_hours(path: Path, clock: Clock) -> None:
    """From then on the same visitor of the same day is another one: nobody can tell any more."""
    with opened(path, clock) as (database, sink):
        sink.write([batch(1, event())])
        clock.now += SALT_AGE / 2
        sink.write([batch(2, event(), event(days=1))])
        clock.now += SALT_AGE / 2 - timedelta(seconds=1)
        sink.write([batch(3, event())])
        assert [(2,)] == rows(database, "SELECT count(*) FROM salts")

        clock.now += timedelta(seconds=1)
        sink.write([])

        assert [(NOON.date() + timedelta(days=1),)] == rows(database, "SELECT day FROM salts")
        sink.write([batch(4, event(), event(days=1))])
        assert [(3,)] == rows(database, "SELECT count(DISTINCT visitor) FROM events")


def test_a_forgotten_salt_leaves_the_file(path: Path, clock: Clock) -> None:
    """The blocks that held it are written over as checkpoints go on."""
    with opened(path, clock) as (database, sink):
        sink.write([batch(1, event())])
        [(salt,)] = rows(database, "SELECT salt FROM salts")
        for sequence in range(2, 6):
            clock.now += SALT_AGE
            sink.write([batch(sequence, event(days=2 * sequence))])
            clock.now += CHECKPOINT_AGE
            sink.write([])

    assert salt not in path.read_bytes()


def test_a_salt_made_for_a_write_that_failed_is_not_used(path: Path, clock: Clock) -> None:
    """One that is only in memory would make another visitor of the same one after the next start."""
    with opened(path, clock) as (database, sink):
        with pytest.raises(DamagedFileError, match="batch 2"):
            sink.write([batch(1, event()), Batch("a", 2, 0, 1, b"nonsense")])
        assert [] == rows(database, "SELECT * FROM salts")
        sink.write([batch(1, event())])
    with opened(path, clock) as (database, sink):
        sink.write([batch(2, event())])

        assert [(2, 1)] == rows(database, "SELECT count(*), count(DISTINCT visitor) FROM events")


# Crashes and full disks.


@pytest.mark.parametrize("part", [0.0, 0.1, 0.37, 0.5, 0.73, 0.99, 1.0])
def test_a_log_that_ends_anywhere_holds_whole_writes(path: Path, tmp_path: Path, part: float) -> None:
    """After a power cut the rows fit the position, so that the queue brings just what is missing."""
    after_crash = tmp_path / "after-crash.duckdb"
    with opened(path) as (_, sink):
        for sequence in range(1, 11):
            sink.write([batch(sequence)])
        log = log_of(path).read_bytes()
        shutil.copyfile(path, after_crash)
        log_of(after_crash).write_bytes(log[: int(len(log) * part)])

    with opened(after_crash) as (database, sink):
        reached = sink.progress().get("a", Progress()).sequence
        assert (10 if part == 1.0 else reached) == reached
        assert [(2 * reached,)] == rows(database, "SELECT count(*) FROM events")
        sink.write([batch(sequence) for sequence in range(1, 12)])
        assert [(22, 11, 22)] == sequences(database)


def test_a_damaged_log_can_be_moved_away(path: Path, tmp_path: Path) -> None:
    """The text says so; what it held is past the safe position, so the queue still has it."""
    after_crash = tmp_path / "after-crash.duckdb"
    with opened(path) as (_, sink):
        sink.write([batch(1)])
    with opened(path) as (_, sink):
        assert 1 == sink.progress()["a"].safe_sequence
        sink.write([batch(2)])
        sink.write([batch(3)])
        log = log_of(path).read_bytes()
        shutil.copyfile(path, after_crash)
    assert b"2-first" in log
    log_of(after_crash).write_bytes(log.replace(b"2-first", b"2-forst"))

    with pytest.raises(DamagedFileError, match=r"Move .*after-crash.duckdb.wal away"):
        open_database(after_crash)
    log_of(after_crash).unlink()
    with opened(after_crash) as (database, sink):
        assert 1 == sink.progress()["a"].sequence
        sink.write([batch(2), batch(3)])
        assert [(6, 3, 6)] == sequences(database)


def test_a_log_that_is_older_than_its_database_is_set_aside(path: Path, tmp_path: Path, clock: Clock) -> None:
    """What was in it is in the file. One copied before a checkpoint and the other after it are such a pair."""
    restored = tmp_path / "restored.duckdb"
    with opened(path, clock) as (_, sink):
        sink.write([batch(1)])
        shutil.copyfile(log_of(path), log_of(restored))
        clock.now += CHECKPOINT_AGE
        sink.write([batch(2)])
        shutil.copyfile(path, restored)

    with closing(open_repaired(restored)) as database:
        assert [(4, 2, 4)] == sequences(database)


def test_a_full_disk_stops_a_write_and_nothing_else(path: Path) -> None:
    """The write leaves nothing and can be made again, and reports go on meanwhile."""
    many = [event(os.urandom(500).hex()) for _ in range(2_000)]
    with opened(path) as (database, sink):
        sink.write([batch(1)])
        with largest_file(500_000):
            for _ in range(2):
                with pytest.raises(OSError, match="can't be written now"):
                    sink.write([batch(2), batch(3, *many)])
                assert {"a": Progress(sequence=1, safe_sequence=0, written=2)} == sink.progress()
                assert [(2, 1, 2)] == sequences(database)

        sink.write([batch(2), batch(3, *many)])

        assert [(2_004, 3, 2_004)] == sequences(database)


def test_a_checkpoint_that_fails_asks_for_a_new_start(path: Path, clock: Clock) -> None:
    """DuckDB takes no more queries then; after the start all is there."""
    many = [event(os.urandom(500).hex()) for _ in range(2_000)]
    with opened(path, clock) as (_, sink):
        sink.write([batch(1, *many)])
        clock.now += CHECKPOINT_AGE
        with largest_file(500_000):
            for _ in range(2):
                with pytest.raises(DamagedFileError, match=r"can't be used any more.*Start again"):
                    sink.write([])
    with opened(path, clock) as (database, sink):
        assert {"a": Progress(sequence=1, safe_sequence=1, written=2_000)} == sink.progress()
        assert [(2_000, 1, 2_000)] == sequences(database)


def log_of(path: Path) -> Path:
    return path.with_name(path.name + ".wal")


# Event ids.


def identified(event_id: str, *, hours: float = 0, site_id: str = "my-blog") -> Event:
    """An event with an id, received some hours after noon."""
    return Event(
        NOON_NS + int(hours * 3_600) * 1_000_000_000, None, b"", site_id, "page_view", path="/", event_id=event_id
    )


def test_an_event_id_counts_once_in_24_hours(path: Path, clock: Clock) -> None:
    """In the same batch, in a later one, and after a new start; a day later it is another event."""
    with opened(path, clock) as (_, sink):
        sink.write([batch(1, identified("x"), identified("x", hours=1), identified("y"))])
        sink.write([batch(2, identified("x", hours=2))])
        assert Progress(2, 0, 2, {"duplicate": 2}) == sink.progress()["a"]
    with opened(path, clock) as (_, sink):
        sink.write([batch(3, identified("x", hours=23.9)), batch(4, identified("x", hours=24))])
        assert (3, {"duplicate": 3}) == (sink.progress()["a"].written, sink.progress()["a"].skipped)


def test_an_event_id_is_of_its_site(path: Path, clock: Clock) -> None:
    """Two sites may use the same ids; what sounds alike when run together is not the same."""
    with opened(path, clock) as (_, sink):
        sink.write(
            [batch(1, identified("x", site_id="ab"), identified("x", site_id="a"), identified("bx", site_id="a"))]
        )
        assert Progress(1, 0, 3) == sink.progress()["a"]


def test_an_event_id_that_comes_from_another_address_is_a_conflict(path: Path, clock: Clock) -> None:
    """Neither counts again. A day's salt is enough to tell, though the other comes on the next; networks are IPv6's."""

    def sent_from(address: str | None, hours: float, event_id: str = "x") -> Event:
        return msgspec.structs.replace(identified(event_id, hours=hours), address=address)

    with opened(path, clock) as (_, sink):
        sink.write([batch(1, sent_from("192.0.2.1", 0), sent_from("192.0.2.1", 1), sent_from("192.0.2.2", 1))])
        assert Progress(1, 0, 1, {"duplicate": 1, "conflict": 1}) == sink.progress()["a"]
    clock.now += timedelta(hours=13)
    with opened(path, clock) as (_, sink):
        sink.write([batch(2, sent_from("192.0.2.1", 13), sent_from("192.0.2.2", 13), sent_from(None, 13))])
        assert (1, {"duplicate": 2, "conflict": 3}) == (sink.progress()["a"].written, sink.progress()["a"].skipped)
        sink.write([batch(3, *(sent_from(f"2001:db8::{end}", 13, "y") for end in ("1", "2", "1:0:0:0:1")))])
        assert (2, {"duplicate": 3, "conflict": 4}) == (sink.progress()["a"].written, sink.progress()["a"].skipped)


def test_who_sent_an_event_can_not_be_told_later(path: Path, clock: Clock) -> None:
    """What is kept of the address is keyed with the day's salt, and so says nothing once that is forgotten."""
    senders = []
    with opened(path, clock) as (database, sink):
        for sequence in range(1, 3):
            now_ns = int(clock.now.timestamp()) * 10**9
            sink.write([batch(sequence, msgspec.structs.replace(identified(f"{sequence}"), received_ns=now_ns))])
            senders.append(rows(database, "SELECT sender FROM event_ids ORDER BY seen_at DESC LIMIT 1"))
            clock.now += SALT_AGE
            sink.write([])

    assert senders[0] != senders[1]


def test_an_event_id_of_a_write_that_failed_is_not_taken(path: Path, clock: Clock) -> None:
    """What was rolled back counts when it comes again."""
    unstorable = Event(NOON_NS, None, b"", "my-blog", "page_view", occurred_us=10**18)
    with opened(path, clock) as (_, sink):
        with pytest.raises(OverflowError):
            sink.write([batch(1, identified("x"), unstorable)])
        sink.write([batch(1, identified("x"))])
        assert Progress(1, 0, 1) == sink.progress()["a"]


def test_a_damaged_batch_is_skipped_and_counted(path: Path, clock: Clock) -> None:
    """Its entries can't be told any more; those of its neighbours can."""
    damaged = Batch("a", 2, 0, 7, b"rotten", is_damaged=True)
    with opened(path, clock) as (_, sink):
        sink.write([batch(1), damaged, batch(3)])
        assert Progress(3, 0, 4, {"unreadable": 7}) == sink.progress()["a"]


def test_a_clock_that_is_set_forward_and_back_forgets_no_salt(path: Path, clock: Clock) -> None:
    """The visitor of a day stays one visitor when the clock is ten days ahead for a while."""
    with opened(path, clock, time.monotonic) as (database, sink):
        sink.write([batch(1, event())])
        clock.now += timedelta(days=10)
        sink.write([])
        clock.now -= timedelta(days=10)
        sink.write([batch(2, event())])
        assert [(1,)] == rows(database, "SELECT count(DISTINCT visitor) FROM events")


def test_a_salt_is_forgotten_though_another_was_made_by_a_clock_that_was_ahead(path: Path, clock: Clock) -> None:
    """The one that seems to be of the future keeps no other."""
    passed = 0.0
    clock.now += timedelta(days=3_650)
    with opened(path, clock, lambda: passed) as (database, sink):
        sink.write([batch(1, event(days=3_650))])
        clock.now -= timedelta(days=3_650)
        sink.write([batch(2, event())])

        for _ in range(49):
            clock.now += timedelta(hours=1)
            passed += 3_600
            sink.write([])

        assert [(NOON.date() + timedelta(days=3_650),)] == rows(database, "SELECT day FROM salts")


def test_a_salt_is_forgotten_on_a_machine_that_sleeps(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To sleep every night is not to have the clock set."""
    woken = {time.CLOCK_BOOTTIME: 0.0}
    monkeypatch.setattr(time, "clock_gettime", woken.__getitem__)
    with closing(open_database(path)) as database, closing(DuckdbSink(database, clock)) as sink:
        sink.write([batch(1, event())])
        for _ in range(3):
            clock.now += timedelta(days=1)
            woken[time.CLOCK_BOOTTIME] += 86_400
            sink.write([])

        assert [] == rows(database, "SELECT day FROM salts")


def test_event_ids_are_forgotten_though_the_clock_was_ahead_at_the_start(path: Path, clock: Clock) -> None:
    """Once it has been right for a while, the table is as small as ever."""
    passed = 0.0
    clock.now += timedelta(days=3_650)
    with opened(path, clock, lambda: passed) as (database, sink):
        sink.write([])
        clock.now -= timedelta(days=3_650)
        sink.write([batch(1, msgspec.structs.replace(event(), event_id="x"))])

        for _ in range(97):
            clock.now += timedelta(hours=1)
            passed += 3_600
            sink.write([])

        assert [(0,)] == rows(database, "SELECT count(*) FROM event_ids")


def test_a_clock_that_is_set_back_delays_no_checkpoint(path: Path, clock: Clock) -> None:
    """The queue must not keep a day's batches for it."""
    with opened(path, clock) as (_, sink):
        sink.write([batch(1)])
        clock.now -= timedelta(days=1)
        sink.write([])

        assert 1 == sink.progress()["a"].safe_sequence


def test_the_limit_of_reports_is_for_them_alone(path: Path) -> None:
    """Whoever writes to the same database has all the time it needs."""
    with opened(path) as (database, _):
        DuckdbReports(database, limit_s=5).stats("site", first=None, last=None, limit=1)

        assert [(0,)] == rows(database, "SELECT current_setting('max_execution_time')")
