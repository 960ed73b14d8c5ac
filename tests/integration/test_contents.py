"""What is taken out of a running Footfall: SQL, exports, snapshots."""

import csv
import gzip
import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import duckdb
import httpx
import pytest

from clickhouse_server import ClickhouseServer
from footfall.database.schema import NAMES
from harness import Footfall, eventually

EVENTS = 5_000
VIEWS = "SELECT path, count(*) AS views FROM events GROUP BY path ORDER BY views DESC, path"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Footfall]:
    """One with some events, among them texts that mean something elsewhere."""
    footfall = Footfall(tmp_path_factory.mktemp("contents")).start()
    try:
        footfall.post(site_id="shop", path="/a", user_id='=cmd|"x"', timestamp="2025-11-12T09:30:00.5Z")
        footfall.post(site_id="shop", path="/a", user_id="line\nbreak, comma", props={"plan": "team", "big": 1e16})
        footfall.post(site_id="shop", path="/b", user_id="\x1b[2Jé")
        footfall.post(site_id="other", path="/b", event_type="buy", event_id="1")
        footfall.settle()
        yield footfall
    finally:
        footfall.kill()


@contextmanager
def interruptible() -> Iterator[None]:
    """A child that is started meanwhile takes Ctrl-C as a program does that a person runs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def started(footfall: Footfall, *arguments: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    """A command that goes on beside others."""
    command = [sys.executable, "-m", "footfall", *arguments]
    # A shell that runs the tests in the background has Ctrl-C ignored, and so would their children.
    with interruptible():
        return subprocess.Popen(
            command, cwd=footfall.directory, env=footfall.environment(), stdout=stdout, stderr=subprocess.DEVNULL
        )


def query(footfall: Footfall, sql: str, *options: str) -> subprocess.CompletedProcess[str]:
    return footfall.command("query", sql, *options)


def test_sql_is_answered_while_footfall_runs(served: Footfall) -> None:
    """As CSV where no person looks on, and in the other forms when asked for."""
    assert (0, "path,views\n/a,2\n/b,2\n") == ((answer := query(served, VIEWS)).returncode, answer.stdout)
    assert "path  views\n----  -----\n/a        2\n/b        2\n" == query(served, VIEWS, "--format", "table").stdout
    lines = query(served, VIEWS, "--format", "ndjson").stdout.splitlines()
    assert [{"path": "/a", "views": 2}, {"path": "/b", "views": 2}] == [json.loads(line) for line in lines]
    assert "events" in query(served, "SHOW TABLES").stdout.splitlines()


def test_texts_can_do_nothing_where_they_are_shown(served: Footfall) -> None:
    """A terminal gets no commands, and a spreadsheet no formula."""
    sql = "SELECT user_id FROM events WHERE user_id IS NOT NULL ORDER BY user_id"
    assert "\\x1b[2Jé" in query(served, sql, "--format", "table").stdout
    assert "\x1b" not in query(served, sql, "--format", "table").stdout
    assert ["\x1b[2Jé", '\'=cmd|"x"', "line\nbreak, comma"] == [
        row["user_id"] for row in csv.DictReader(io.StringIO(query(served, sql).stdout))
    ]


@pytest.mark.parametrize("sql", ["SELECT nothing FROM events", "DROP TABLE events"])
def test_what_is_not_for_reading_is_refused(served: Footfall, sql: str) -> None:
    """Exit code 2, and in a sentence."""
    refused = query(served, sql)
    assert (2, "", False) == (refused.returncode, refused.stdout, "Traceback" in refused.stderr), refused
    assert refused.stderr.startswith("footfall: ")


def test_each_format_is_what_the_name_says(served: Footfall) -> None:
    """DuckDB reads each as events and nothing else, with the same values."""
    read = {
        "csv": "read_csv('{}', all_varchar = true)",
        "csv.gz": "read_csv('{}', all_varchar = true)",
        "ndjson": "read_json('{}')",
        "parquet": "'{}'",
    }
    found = {}
    for suffix, function in read.items():
        path = served.directory / f"ev.{suffix}"
        exported = served.command("export", "--force", str(path))
        assert (0, "4 events exported\n") == (exported.returncode, exported.stdout), exported
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)
        assert list(NAMES) == [
            column[0] for column in duckdb.execute(f"FROM {function.format(path)}").description or ()
        ]
        found[suffix] = duckdb.execute(
            f"SELECT site_id, event_type, path, visitor, ltrim(user_id, '''') FROM {function.format(path)} ORDER BY ALL"
        ).fetchall()
    assert all(found["parquet"] == rows for rows in found.values()), found
    events = [json.loads(line) for line in (served.directory / "ev.ndjson").read_text().splitlines()]
    assert {"plan": "team", "big": 1e16} in [event["props"] for event in events]
    assert "2025-11-12T09:30:00.500000Z" in [event["time"] for event in events]
    assert (
        "\n2025-11-12T09:30:00.500000Z,shop,page_view,/a,"
        in gzip.decompress((served.directory / "ev.csv.gz").read_bytes()).decode()
    )


def test_a_part_of_the_events_is_exported(served: Footfall) -> None:
    """Of a site, and of some days; to standard output, too."""
    one = served.command("export", "-", "--format", "ndjson", "--site-id", "shop", "--to", "2025-11-12")
    assert ['=cmd|"x"'] == [json.loads(line)["user_id"] for line in one.stdout.splitlines()]
    rest = served.command("export", "-", "--format", "csv", "--from", "2025-11-13")
    assert 3 == len(list(csv.DictReader(io.StringIO(rest.stdout))))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["export", "events"], "events does not say its format"),
        (["export", "events.parquet.gz"], "Leave out .gz"),
        (["export", "-"], "--format"),
        (["export", "there.csv"], "there.csv is there already"),
        (["snapshot", "there.csv"], "there.csv is there already"),
        (["export", "a.csv", "--from", "2025-11-13", "--to", "2025-11-12"], "--from is after --to"),
    ],
)
def test_wrong_use_is_told(served: Footfall, arguments: list[str], text: str) -> None:
    """With exit code 2; nothing is written."""
    (served.directory / "there.csv").write_text("mine")
    result = served.command(*arguments)
    assert (2, True) == (result.returncode, text in result.stderr), result
    assert "mine" == (served.directory / "there.csv").read_text()


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--site-id", "shop", "--before", "2025-11-13"], ["shop 2025-11-12: 1", "1 event would be removed."]),
        (["--user-id", '=cmd|"x"'], ["shop 2025-11-12: 1", "1 event would be removed."]),
        (["--site-id", "o'clock"], ["The database has no such event."]),
        (["--site-id", "$user_id0", "--user-id", "' OR true OR '"], ["The database has no such event."]),
    ],
)
def test_an_erasure_is_shown_while_footfall_runs(served: Footfall, arguments: list[str], shown: list[str]) -> None:
    """By site and day, before anything is done; no name is taken for SQL."""
    answer = served.command("erase", *arguments)
    lines = answer.stdout.splitlines()
    assert (0, shown) == (answer.returncode, [*lines[: len(shown) - 1], lines[len(shown) - 1][: len(shown[-1])]])
    assert "4\n" == query(served, "SELECT count(*) AS n FROM events", "--format", "csv").stdout.removeprefix("n\n")


def test_a_snapshot_is_the_database_without_its_salts(served: Footfall) -> None:
    """Any program that reads DuckDB opens it, while Footfall goes on."""
    copied = served.command("snapshot", "copy.duckdb")
    assert 0 == copied.returncode, copied
    with closing(duckdb.connect(served.directory / "copy.duckdb", read_only=True)) as copy:
        assert [(4,)] == copy.execute("SELECT count(*) FROM events").fetchall()
        assert [(1,)] == copy.execute("SELECT count(*) FROM event_ids").fetchall()
        assert [(0,)] == copy.execute("SELECT count(*) FROM salts").fetchall()
    assert not list(served.data_dir.glob("*.out"))


def test_only_the_user_that_runs_footfall_is_let_in(served: Footfall) -> None:
    """The socket is nobody else's, and somebody who reaches it all the same gets no answer."""
    path = served.data_dir / "database.sock"
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    if os.geteuid() != 0:
        pytest.skip("to be somebody else takes root")
    path.chmod(0o666)
    modes = {place: stat.S_IMODE(place.stat().st_mode) for place in (served.data_dir, *served.data_dir.parents)}
    try:
        for place, mode in modes.items():
            place.chmod(mode | 0o005)
        code = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('%s'); s.settimeout(20); print(s.recv(9))"
        stranger = subprocess.run(
            ["/usr/bin/python3", "-c", code % path], user=65534, group=65534, capture_output=True, text=True, check=True
        )
        assert "b''\n" == stranger.stdout
    finally:
        path.chmod(0o600)
        for place, mode in modes.items():
            place.chmod(mode)


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Footfall]:
    """A running Footfall whose events are more than pipes and sockets hold."""
    footfall = Footfall(tmp_path).start()
    try:
        lines = "".join(
            json.dumps({"site_id": "shop", "event_type": "page_view", "path": f"/{number:0900}"}) + "\n"
            for number in range(1_000)
        )
        for _ in range(EVENTS // 1_000):
            httpx.post(footfall.url + "/events", content=lines, headers={"Content-Type": "application/x-ndjson"})
        footfall.settle()
        yield footfall
    finally:
        footfall.kill()


def test_a_client_that_is_killed_leaves_nothing_behind(many: Footfall) -> None:
    """Neither its file nor anything of the process that answers, which has room for the next ones."""
    reader, writer = os.pipe()
    for _ in range(5):
        client = started(many, "export", "-", "--format", "csv", stdout=writer)
        assert b"time," == os.read(reader, 5)
        client.send_signal(signal.SIGKILL)
        client.wait()
        os.set_blocking(reader, False)
        while True:
            try:
                os.read(reader, 1 << 20)
            except BlockingIOError:
                break
        os.set_blocking(reader, True)
    os.close(reader)
    os.close(writer)
    eventually(f"{EVENTS:,} events exported\n", lambda: many.command("export", "--force", "a.csv").stdout)
    eventually(False, lambda: any(many.data_dir.glob("*.out")))
    assert {"a.csv"} == {path.name for path in many.directory.glob("a.*")}


def test_an_export_is_of_one_moment(many: Footfall) -> None:
    """What comes meanwhile is in none of two exports that are slow, and everything that was there is in both."""
    with ExitStack() as held:
        clients = [held.enter_context(started(many, "export", "-", "--format", "ndjson")) for _ in range(2)]
        for client in clients:
            assert client.stdout is not None
            assert b'{"time":"2' == client.stdout.read(10)
        many.post(site_id="late")
        eventually(1, lambda: many.stats("late")["total_views"])
        assert f"n\n{EVENTS + 1}\n" == query(many, "SELECT count(*) AS n FROM events").stdout
        for client in clients:
            assert client.stdout is not None
            lines = client.stdout.read().splitlines()
            assert (0, EVENTS) == (client.wait(), len(lines))
            assert not any(b'"late"' in line for line in lines)


def test_a_stop_does_not_wait_for_an_export(many: Footfall) -> None:
    """Whoever reads it is told that it is not whole."""
    with started(many, "export", "-", "--format", "csv") as client:
        assert client.stdout is not None
        client.stdout.read(10)
        assert 0 == many.stop()
        client.stdout.read()
        assert 1 == client.wait()


def test_a_query_that_is_given_up_ends_in_the_database_too(served: Footfall) -> None:
    """Ctrl-C ends the command, and makes room for others."""
    endless = "SELECT count(*) FROM range(100000000000) a WHERE hash(a) = 1"
    clients: list[subprocess.Popen[bytes]] = []

    def is_full() -> bool:
        clients[:] = [client for client in clients if client.poll() is None]  # one may have met the query below
        clients.extend(started(served, "query", endless, stdout=subprocess.DEVNULL) for _ in range(4 - len(clients)))
        return "are being made already" in query(served, "SELECT 1").stderr

    try:
        eventually(True, is_full, 60)
        for client in clients:
            client.send_signal(signal.SIGINT)
        assert [130] * 4 == [client.wait(20) for client in clients]
    finally:
        for client in clients:
            client.kill()
    eventually("", lambda: query(served, "SELECT 1").stderr)


def test_nonsense_on_the_socket_harms_nobody(served: Footfall) -> None:
    """It is answered with nothing, and the next client as ever."""
    for text in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x02{}", b"\xff" * 100):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(served.data_dir / "database.sock"))
            client.sendall(text)
            client.shutdown(socket.SHUT_WR)
            client.settimeout(20)
            with suppress(ConnectionResetError):
                client.recv(100)
    assert "one\n1\n" == query(served, "SELECT 1 AS one").stdout


def test_without_a_running_footfall_the_file_is_read(tmp_path: Path) -> None:
    """The answers are the same."""
    footfall = Footfall(tmp_path).start()
    try:
        footfall.post(site_id="shop", path="/a")
        footfall.settle()
        assert 0 == footfall.stop()
        assert "path,views\n/a,1\n" == query(footfall, VIEWS).stdout
        assert "1 events exported\n" == footfall.command("export", "a.parquet").stdout
        assert 0 == footfall.command("snapshot", "a.duckdb").returncode
        assert 2 == query(footfall, "DROP TABLE events").returncode
    finally:
        footfall.kill()


def test_events_are_exported_over_http(many: Footfall) -> None:
    """Through the collector, in a stream; a client that goes away leaves nothing behind."""
    address = f"{many.url}/export?site_id=shop&format=ndjson"
    answer = httpx.get(address)
    assert (200, EVENTS) == (answer.status_code, len(answer.text.splitlines()))
    for _ in range(5):
        with httpx.stream("GET", address) as early:
            next(early.iter_raw())
    eventually(200, lambda: httpx.get(address).status_code)
    eventually(False, lambda: any(many.data_dir.glob("*.out")))
    assert {"foo"} == {error["field"] for error in httpx.get(address + "&foo=1").json()["errors"]}


@pytest.mark.xdist_group("clickhouse")
def test_clickhouse_is_asked_itself(tmp_path: Path, clickhouse: ClickhouseServer) -> None:
    """Read-only, with the same columns and values; a snapshot is for DuckDB."""
    footfall = Footfall(tmp_path, FOOTFALL__DATABASE__URL=clickhouse.url("contents")).start()
    try:
        footfall.post(site_id="shop", path="/a", user_id="=1", props={"plan": "team"}, timestamp="2025-11-12T09:30:00Z")
        footfall.settle()
        assert "path,views\n/a,1\n" == query(footfall, VIEWS).stdout
        for sql in ("DROP TABLE events", "SELECT nothing FROM events", "SELECT * FROM file('/etc/passwd', 'RawBLOB')"):
            refused = query(footfall, sql)
            assert (2, True) == (refused.returncode, bool(refused.stderr)), refused
            assert "Traceback" not in refused.stderr
        for suffix in ("csv", "ndjson", "parquet"):
            assert "1 events exported\n" == footfall.command("export", f"a.{suffix}").stdout
        [event] = [json.loads(line) for line in (tmp_path / "a.ndjson").read_text().splitlines()]
        assert ("2025-11-12T09:30:00.000000Z", {"plan": "team"}, "=1", None) == (
            event["time"],
            event["props"],
            event["user_id"],
            event["country"],
        )
        [row] = csv.DictReader((tmp_path / "a.csv").read_text().splitlines())
        assert ("'=1", event["visitor"], "") == (row["user_id"], row["visitor"], row["country"])
        parquet = duckdb.read_parquet(str(tmp_path / "a.parquet"))
        assert list(NAMES) == parquet.columns == list(event) == list(row)
        refused = footfall.command("snapshot", "a.duckdb")
        assert (2, True) == (refused.returncode, "BACKUP DATABASE" in refused.stderr), refused
    finally:
        footfall.kill()
