"""The ClickHouse database: reaching it, its tables, and rows that are there once whatever happens."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from msgspec import structs

from clickhouse_server import ClickhouseServer
from footfall.database.clickhouse.ddl import Ddl
from footfall.database.clickhouse.migrations import FORMAT
from footfall.database.clickhouse.open import open_clickhouse, prepare
from footfall.database.clickhouse.reader import ClickhouseReports
from footfall.database.clickhouse.salts import LOOK_AGE
from footfall.database.clickhouse.server import ClickhouseDatabase
from footfall.database.clickhouse.url import parse_url
from footfall.database.clickhouse.writer import ClickhouseSink
from footfall.database.salts import SALT_AGE
from footfall.entry import Event, encode_entries
from footfall.errors import BadSettingError, DamagedFileError, FootfallError
from footfall.failpoint import VARIABLE, Failpoint
from footfall.queue.base import Batch, Progress
from footfall.queue.broker.feed import trim_batch
from harness import eventually, free_port, needs_tool

pytestmark = pytest.mark.xdist_group("clickhouse")

NOON = datetime(2025, 11, 12, 12, tzinfo=UTC)
NOON_NS = int(NOON.timestamp()) * 1_000_000_000
IN_A_BATCH = 3


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> int:
        return int(self.now.timestamp()) * 1_000_000_000


class Meddled(ClickhouseDatabase):
    """A connection of which the next insert into a table can be interrupted: just before, or with its answer lost."""

    def __init__(self, url: str, table: str = "events") -> None:
        self._table = table
        self.before: Callable[[], object] | None = None
        self.after: Callable[[], object] | None = None
        super().__init__(parse_url(url))
        prepare(self)

    def insert(
        self, table: str, columns: Mapping[str, str], rows: Sequence[Sequence[Any]], token: str | None = None
    ) -> None:
        if table == self._table and self.before:
            before, self.before = self.before, None
            before()
        super().insert(table, columns, rows, token)
        if table == self._table and self.after:
            after, self.after = self.after, None
            after()


@pytest.fixture
def url(clickhouse: ClickhouseServer) -> str:
    return clickhouse.url(f"unit_{token_hex(8)}")


@pytest.fixture
def database(url: str) -> Iterator[ClickhouseDatabase]:
    with closing(open_clickhouse(url)) as database:
        yield database


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[ClickhouseServer]:
    """A server that may be killed."""
    server = ClickhouseServer(tmp_path, free_port()).start()
    yield server
    server.kill()


@pytest.fixture
def meddled(url: str) -> Iterator[Meddled]:
    with closing(Meddled(url)) as database:
        yield database


def event(path: str = "/", *, event_id: str | None = None, hours: float = 0, days: int = 0) -> Event:
    """An event of a visitor who is always the same, received some hours after `NOON`, for a day some days after it."""
    occurred = NOON + timedelta(days=days)
    return Event(
        NOON_NS + int(hours * 3_600) * 1_000_000_000,
        "203.0.113.7",
        b"curl/8.0",
        "my-blog",
        "page_view",
        path=path,
        occurred_us=int(occurred.timestamp()) * 1_000_000,
        event_id=event_id,
    )


def batch(sequence: int, *events: Event, source: str = "a") -> Batch:
    events = events or tuple(event(f"/{sequence}-{number}") for number in range(IN_A_BATCH))
    return Batch(source, sequence, 0, len(events), encode_entries(events))


def rows(database: ClickhouseDatabase, query: str) -> list[tuple[Any, ...]]:
    return database.query(query.replace("FROM ", f"FROM {database.name}."))


def assert_exact(database: ClickhouseDatabase, last: int) -> None:
    """Batches up to the last are there once, and the position says so."""
    assert [(sequence, IN_A_BATCH) for sequence in range(1, last + 1)] == rows(
        database, "SELECT sequence, count() FROM events GROUP BY sequence ORDER BY sequence"
    )
    progress = ClickhouseSink(database, is_exclusive=True).progress()
    assert {"a": Progress(last, last, last * IN_A_BATCH)} == progress


def fail() -> None:
    raise OSError("the answer is lost")


# Reaching it.


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("clickhouse://u:secret@host:1/", "letters"),
        ("clickhouse://u:secret@host:1/a-b", "letters"),
        ("clickhouse://u:secret@host:one/db", "must be"),
        ("clickhouse:///db", "no host"),
        ("clickhouse://u:secret@host/db?cluster=a;b", "letters|must be"),
        ("clickhouse://u:secret@host/db?compress=1", "one option"),
        ("mysql://u:secret@host/db", "must be"),
    ],
)
def test_a_bad_address_is_named(url: str, reason: str) -> None:
    """The text says what is wrong, and not the password."""
    with pytest.raises(BadSettingError, match=rf"database\.url: .*({reason})") as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)


def test_an_address_may_hold_any_password() -> None:
    """Written as in any URL; TLS and the cluster are part of the address, too."""
    url = parse_url("clickhouses://me:p%40ss%2Fword@host/visits?cluster=main")

    assert ("me", "p@ss/word", "host", 8443, True, "visits", "main") == (
        url.user,
        url.password,
        url.host,
        url.port,
        url.is_secure,
        url.database,
        url.cluster,
    )


def test_a_wrong_password_is_refused(tmp_path: Path) -> None:
    """Trying again would not help, so it is an error that names the setting, and not the password."""
    server = ClickhouseServer(tmp_path, free_port(), password="right").start()
    try:
        with pytest.raises(FootfallError, match=r"database\.url: the user or the password is wrong") as caught:
            open_clickhouse(server.url("db").replace("right", "wr0ng"))
    finally:
        server.kill()
    assert "wr0ng" not in str(caught.value)


def test_a_server_that_is_away_is_waited_for() -> None:
    """It is an error of the system, after which one tries again."""
    port = free_port()
    with pytest.raises(OSError, match=f"127.0.0.1:{port} can't be reached: .*Connection refused"):
        open_clickhouse(f"clickhouse://127.0.0.1:{port}/db")


def test_somebody_elses_database_is_refused(database: ClickhouseDatabase, url: str) -> None:
    """Tables are only added to a database that has none of those names."""
    database.run(f"DROP TABLE {database.name}.format")

    with pytest.raises(DamagedFileError, match="was not made by Footfall"):
        open_clickhouse(url)


def test_a_newer_format_is_refused(database: ClickhouseDatabase, url: str) -> None:
    """A newer Footfall may have written it."""
    database.run(f"TRUNCATE TABLE {database.name}.format")
    database.insert("format", {"version": "UInt32"}, [(FORMAT + 1,)])

    with pytest.raises(
        DamagedFileError, match=f"{database.name} .* has format {FORMAT + 1}, and this .* formats 1 to {FORMAT}"
    ):
        open_clickhouse(url)


def test_many_may_make_the_tables_at_once(url: str) -> None:
    """Services start at the same moment."""
    failures: list[Exception] = []

    def open_one() -> None:
        try:
            open_clickhouse(url).close()
        except Exception as error:  # noqa: BLE001 - shown below
            failures.append(error)

    threads = [threading.Thread(target=open_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == failures


# Tables.


def test_tables_of_one_server_are_plain() -> None:
    """Nothing asks for a Keeper."""
    statements = Ddl("db", None).tables()

    assert [] == [text for text in statements if "Replicated" in text or "ON CLUSTER" in text or "Distributed" in text]
    assert all("fsync_after_insert = 1" in text for text in statements if "MergeTree" in text)


def test_tables_of_a_cluster_are_replicated_and_spread() -> None:
    """Events are spread by queue, so that an insert is one part in one place; the rest is the same everywhere."""
    statements = {
        text.split()[5].partition(".")[2]: text for text in Ddl("db", "main").tables() if "CREATE TABLE" in text
    }

    assert all(" ON CLUSTER main " in text for text in statements.values())
    assert (
        "ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/db/events_local', '{replica}') "
        "ORDER BY (site_id, event_type, time)" in statements["events_local"]
    )
    assert statements["events"].endswith("ENGINE = Distributed(main, db, events_local, cityHash64(queue))")
    assert (
        "ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/all/db/positions', '{shard}-{replica}', sequence) "
        "ORDER BY source" in statements["positions"]
    )
    for name in ("format", "salts", "doubles"):
        place = f"ReplicatedMergeTree('/clickhouse/tables/all/db/{name}', '{{shard}}-{{replica}}')"
        assert place in statements[name]


def test_tables_that_are_not_plain_count_as_replicated(database: ClickhouseDatabase, url: str) -> None:
    """A server may make other tables than it is asked for; the one that counts may not be the one that has inserted."""
    assert not database.is_replicated
    database.run(f"RENAME TABLE {database.name}.events TO {database.name}.events_local")
    database.run(
        f"CREATE TABLE {database.name}.events AS {database.name}.events_local "
        f"ENGINE = Merge({database.name}, '^events_local$')"
    )

    with closing(open_clickhouse(url)) as reopened:
        assert reopened.is_replicated


def test_an_insert_is_one_part(database: ClickhouseDatabase) -> None:
    """However many rows and blocks it has: so it is there whole or not at all."""
    sink = ClickhouseSink(database, is_exclusive=True)
    sink.write([batch(1, *(event(f"/{number}") for number in range(60_000)))])

    parts = database.query(
        "SELECT rows, level FROM system.parts WHERE active AND table = 'events' AND database = {name:String}",
        {"name": database.name},
    )
    assert [(60_000, 0)] == parts


# Exactness.


@pytest.mark.parametrize("is_exclusive", [True, False])
@pytest.mark.parametrize("point", [Failpoint.CLICKHOUSE_INSERTED, Failpoint.CLICKHOUSE_MOVED])
def test_a_crash_leaves_nothing_twice(
    database: ClickhouseDatabase, url: str, point: Failpoint, *, is_exclusive: bool
) -> None:
    """Whoever goes on may have other batches in one call."""
    program = (
        "import unit.database.test_clickhouse as t\n"
        f"sink = t.ClickhouseSink(t.open_clickhouse({url!r}), is_exclusive={is_exclusive})\n"
        "sink.write([t.batch(1)])\n"
        "sink.write([t.batch(2), t.batch(3)])\n"
    )
    environment = {**os.environ, VARIABLE: f"{point}:2", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    assert -signal.SIGKILL == subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode

    sink = ClickhouseSink(database, is_exclusive=is_exclusive)
    sink.write([batch(2)])
    sink.write([batch(3), batch(4), batch(5)])

    assert_exact(database, 5)


@pytest.mark.parametrize("is_exclusive", [True, False])
def test_a_lost_answer_leaves_nothing_twice(meddled: Meddled, is_exclusive: bool) -> None:  # noqa: FBT001
    """An insert that took place, though its sender was told otherwise, is found."""
    sink = ClickhouseSink(meddled, is_exclusive=is_exclusive)
    sink.write([batch(1)])
    meddled.after = fail
    with pytest.raises(OSError, match="the answer is lost"):
        sink.write([batch(2), batch(3)])

    sink.write([batch(2)])
    sink.write([batch(3), batch(4)])

    assert_exact(meddled, 4)


def test_an_insert_that_is_under_way_is_ended_first(database: ClickhouseDatabase, clickhouse: ClickhouseServer) -> None:
    """One of a process that is gone, or hangs, must not come to its end after the next has looked."""
    sink = ClickhouseSink(database, is_exclusive=True)
    query = urlencode(
        {
            "insert_deduplication_token": "a:0",
            "query": f"INSERT INTO {database.name}.events (path, queue, sequence) FORMAT TabSeparated",
        }
    )
    with socket.create_connection(("127.0.0.1", clickhouse.port)) as hanging:
        hanging.sendall(f"POST /?{query} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        hanging.sendall(b"a\r\n/late\ta\t1\n\r\n")
        eventually(1, lambda: running(database))
        with pytest.raises(OSError, match="inserts of an earlier process are being ended"):
            sink.write([batch(1)])
        hanging.sendall(b"0\r\n\r\n")
        assert b"X-ClickHouse-Exception-Code: 394" in hanging.recv(4096)

    eventually(0, lambda: running(database))
    sink.write([batch(1)])
    assert_exact(database, 1)


def running(database: ClickhouseDatabase) -> int:
    """How many inserts are under way."""
    [(count,)] = database.query(
        "SELECT count() FROM system.processes WHERE Settings['insert_deduplication_token'] = 'a:0' "
        "AND position(query, {name:String}) > 0 AND query_id != queryID()",
        {"name": database.name},
    )
    return int(count)


def test_an_insert_that_comes_late_is_met(meddled: Meddled, database: ClickhouseDatabase) -> None:
    """One that was on its way when its process died may arrive after the next process has looked."""
    ClickhouseSink(meddled, is_exclusive=True).write([batch(1)])
    dead = ClickhouseSink(database, is_exclusive=True)
    sink = ClickhouseSink(meddled, is_exclusive=True)
    meddled.before = lambda: dead.write([batch(2), batch(3)])
    with pytest.raises(OSError, match="another processor has written what comes after batch 1"):
        sink.write([batch(2), batch(3), batch(4)])

    sink.write([batch(2), batch(3), batch(4)])

    assert_exact(meddled, 4)


def test_a_stale_processor_writes_nothing_twice(meddled: Meddled, database: ClickhouseDatabase) -> None:
    """One that was stopped in the midst of a write goes on after another has done that, and more."""
    stale = ClickhouseSink(meddled, is_exclusive=False)
    stale.write([batch(1)])
    meddled.before = lambda: ClickhouseSink(database, is_exclusive=False).write([batch(2), batch(3)])
    with pytest.raises(OSError, match="another processor has written what comes after batch 1"):
        stale.write([batch(2)])
    stale.write([batch(2), batch(3), batch(4)])

    assert_exact(database, 4)


def test_a_processor_that_slept_for_longer_than_tokens_are_known_writes_nothing_twice(
    url: str, database: ClickhouseDatabase
) -> None:
    """A machine that was suspended between two batches goes on when the others have inserted thousands."""
    with closing(Meddled(url, "positions")) as meddled:
        stale = ClickhouseSink(meddled, is_exclusive=False)
        stale.write([batch(1)])

        def sleep() -> None:
            database.run(f"ALTER TABLE {database.name}.events MODIFY SETTING non_replicated_deduplication_window = 1")
            ClickhouseSink(database, is_exclusive=False).write([batch(3), batch(4)])

        meddled.after = sleep
        with pytest.raises(OSError, match="another processor has written what comes after batch 2"):
            stale.write([batch(2), batch(3)])

    assert_exact(database, 4)


def test_batches_that_are_gone_count_all_the_same(meddled: Meddled) -> None:
    """Rows that were inserted without a position stay in the account though the queue has lost their batches."""
    sink = ClickhouseSink(meddled, is_exclusive=True)
    sink.write([batch(1)])
    meddled.after = fail
    with pytest.raises(OSError, match="the answer is lost"):
        sink.write([batch(2), batch(3)])

    sink.write([batch(4)])

    assert_exact(meddled, 4)


def test_batches_that_come_again_in_a_unit_are_not_written_twice(meddled: Meddled) -> None:
    """The last insert without a broker had no position yet, and its batches come in one message with a later one."""
    sink = ClickhouseSink(meddled, is_exclusive=True)
    sink.write([batch(1)])
    meddled.after = fail
    with pytest.raises(OSError, match="the answer is lost"):
        sink.write([batch(2), batch(3)])
    events = [event(f"/{number}") for number in range(3 * IN_A_BATCH)]
    unit = structs.replace(batch(4, *events), before=IN_A_BATCH, joined=tuple((one, IN_A_BATCH) for one in (2, 3, 4)))

    sink = ClickhouseSink(meddled, is_exclusive=False)
    with pytest.raises(OSError, match="there in part"):
        sink.write([trim_batch(unit, sink.progress()["a"].sequence)])
    sink.write([trim_batch(unit, sink.progress()["a"].sequence)])

    assert_exact(meddled, 4)


def test_a_server_that_is_killed_loses_nothing(mortal: ClickhouseServer) -> None:
    """Whatever it was doing: what it acknowledged is there, and the rest once it is sent again."""
    last = 0
    with closing(open_clickhouse(mortal.url("db"))) as database:
        sink = ClickhouseSink(database, is_exclusive=False)
        for number in range(3):
            killer = threading.Timer(0.3 + 0.13 * number, mortal.kill)
            with suppress(OSError):
                while True:
                    sink.write([batch(last + 1)])
                    last += 1
                    if not killer.ident:
                        killer.start()
            killer.join()
            mortal.start()
        sink.write([batch(last + 1)])
        assert_exact(database, last + 1)


@needs_tool("strace", "strace")
@pytest.mark.parametrize("table", ["salts", "events", "positions"])
def test_a_server_that_is_killed_between_token_and_rows_takes_them_again(mortal: ClickhouseServer, table: str) -> None:
    """It remembers an insert then of which it has nothing, and drops what comes with the same token."""
    with closing(Meddled(mortal.url("db"), table)) as database:
        sink = ClickhouseSink(database, is_exclusive=False)
        for _ in range(2):
            with mortal.killed_at_next_rename() as database.before, pytest.raises(OSError, match="be reached"):
                sink.write([batch(1)])
            assert [(0,)] == rows(database, f"SELECT count() FROM {table}")
        sink.write([batch(1)])
        assert_exact(database, 1)


# Event ids.


def test_an_event_id_counts_once_in_24_hours(database: ClickhouseDatabase) -> None:
    """In a batch, a write and an opening; a day later it is another event."""
    sink = ClickhouseSink(database, is_exclusive=False)
    sink.write([batch(1, event(event_id="x"), event(event_id="x"), event(event_id="y"))])
    ClickhouseSink(database, is_exclusive=False).write(
        [batch(1, event(event_id="x", hours=23), source="b"), batch(2, event(event_id="x", hours=24), source="b")]
    )

    assert {"a": (2, {"duplicate": 1}), "b": (1, {"duplicate": 1})} == {
        source: (progress.written, progress.skipped)
        for source, progress in ClickhouseSink(database, is_exclusive=False).progress().items()
    }
    assert 3 == ClickhouseReports(database, limit_s=30).stats("my-blog", first=None, last=None, limit=1).total_views


def test_an_event_id_that_two_take_at_once_counts_once(meddled: Meddled, database: ClickhouseDatabase) -> None:
    """Neither could see the other's row before it wrote its own; reports leave one out, for days of each kind."""
    other = ClickhouseSink(database, is_exclusive=False)
    meddled.before = lambda: other.write([batch(1, event("/b", event_id="x", hours=1), event("/b"), source="b")])
    ClickhouseSink(meddled, is_exclusive=False).write([batch(1, event("/a", event_id="x"), event("/a"))])

    stats = ClickhouseReports(database, limit_s=30).stats("my-blog", first=None, last=None, limit=10)

    assert [(4,)] == rows(database, "SELECT count() FROM events")
    assert (3, [("/a", 2), ("/b", 1)]) == (stats.total_views, [(path.path, path.views) for path in stats.top_paths])


def test_any_number_of_doubles_is_left_out(meddled: Meddled, database: ClickhouseDatabase) -> None:
    """A sender that sends everything twice, to two collectors, does not stop the reports of its site."""
    events = [event(event_id=str(number)) for number in range(3_000)]
    other = ClickhouseSink(database, is_exclusive=False)
    meddled.before = lambda: other.write([batch(1, *events, source="b")])
    ClickhouseSink(meddled, is_exclusive=False).write([batch(1, *events)])

    assert [(6_000,)] == rows(database, "SELECT count() FROM events")
    assert 3_000 == ClickhouseReports(database, limit_s=30).stats("my-blog", first=None, last=None, limit=1).total_views


def test_an_event_with_an_id_is_not_its_own_duplicate(meddled: Meddled) -> None:
    """A batch that is there already, and comes again, is accounted for as it was written."""
    sink = ClickhouseSink(meddled, is_exclusive=False)
    meddled.after = fail
    with pytest.raises(OSError, match="the answer is lost"):
        sink.write([batch(1, event(event_id="x"), event(event_id="x"), event(event_id="y"))])
    sink.write([batch(1, event(event_id="x"), event(event_id="x"), event(event_id="y"))])

    assert {"a": Progress(1, 1, 2, {"duplicate": 1})} == sink.progress()


# Salts.


def visitors(database: ClickhouseDatabase) -> int:
    [(count,)] = rows(database, "SELECT uniqExact(visitor) FROM events")
    return int(count)


@pytest.mark.usefixtures("database")
def test_an_event_id_that_comes_from_another_address_is_a_conflict(url: str) -> None:
    """Whichever processor took the first, in the same batch or later; neither is counted again."""
    again = [
        structs.replace(event(event_id="x", hours=hours), address=address)
        for address, hours in (("192.0.2.1", 0), ("192.0.2.1", 1), ("192.0.2.2", 1))
    ]
    for number in range(1, 3):
        sink = ClickhouseSink(open_clickhouse(url), is_exclusive=False, clock=Clock())
        sink.write([batch(number, *again)])

    assert (1, {"duplicate": 3, "conflict": 2}) == (sink.progress()["a"].written, sink.progress()["a"].skipped)


def test_processors_agree_on_a_salt(database: ClickhouseDatabase, url: str) -> None:
    """A visitor is one, whichever processor met them first, at the same moment included."""
    sinks = [ClickhouseSink(open_clickhouse(url), is_exclusive=False) for _ in range(4)]
    threads = [
        threading.Thread(target=sink.write, args=([batch(1, event(), source=f"s{number}")],))
        for number, sink in enumerate(sinks)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [(4, 1)] == rows(database, "SELECT count(), uniqExact(visitor) FROM events")


def test_a_salt_is_forgotten_after_48_hours(database: ClickhouseDatabase) -> None:
    """By whichever processor; nothing is left of it, and a visitor of that day who comes later is another one."""
    clock, late = Clock(), Clock()
    maker = ClickhouseSink(database, is_exclusive=False, clock=clock, monotonic=lambda: clock() / 1e9)
    other = ClickhouseSink(database, is_exclusive=False, clock=late, monotonic=lambda: late() / 1e9)
    maker.write([batch(1, event())])
    late.now += SALT_AGE - timedelta(seconds=1)
    other.write([batch(2, event())])
    assert 1 == visitors(database)

    late.now += LOOK_AGE
    other.write([])

    assert [("", 0)] == rows(database, "SELECT salt, generation FROM salts")
    other.write([batch(3, event())])
    assert 2 == visitors(database)
    clock.now = late.now
    maker.write([])
    maker.write([batch(4, event())])
    assert 2 == visitors(database)


def test_each_day_has_a_salt_of_its_own(database: ClickhouseDatabase) -> None:
    """Visitors of two days can't be linked."""
    ClickhouseSink(database, is_exclusive=True).write([batch(1, event(), event(days=-1))])

    assert 2 == visitors(database)


def test_days_of_long_ago_share_a_secret(database: ClickhouseDatabase, url: str) -> None:
    """However many a client names, all processors need one more salt; each day's visitors are its own."""
    far = [event(days=-days) for days in range(3, 303)]
    for number in range(2):
        sink = ClickhouseSink(open_clickhouse(url), is_exclusive=False, clock=Clock())
        sink.write([batch(1, *far, event(), source=f"s{number}")])

    assert [(2,)] == rows(database, "SELECT count() FROM salts")
    assert 301 == visitors(database)


def test_the_year_one_is_a_time(database: ClickhouseDatabase) -> None:
    """An event may say that it happened then."""
    ancient = Event(NOON_NS, None, b"", "my-blog", "page_view", occurred_us=-62_135_596_800_000_000)
    ClickhouseSink(database, is_exclusive=True).write([batch(1, ancient)])

    assert [(-62_135_596_800_000_000,)] == rows(database, "SELECT toUnixTimestamp64Micro(time) FROM events")


def test_what_an_event_did_not_tell_is_not_zero(database: ClickhouseDatabase) -> None:
    """Numbers and flags are NULL where they are not known, texts are empty."""
    told = msgspec.structs.replace(event(), screen_width=390, scroll_depth=0, engaged_ms=2**31, interactive=False)
    with closing(ClickhouseSink(database, is_exclusive=True)) as sink:
        sink.write([batch(1, told, event())])
    assert [("", "", None, None, None), ("curl", "mobile", 0, 2**31, False)] == rows(
        database,
        "SELECT if(screen = '', '', browser), screen, scroll_depth, engaged_ms, is_interactive FROM events "
        "ORDER BY screen",
    )
