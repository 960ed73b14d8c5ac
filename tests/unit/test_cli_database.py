"""`footfall export` and `footfall rebuild`: what they are told, and what they tell."""

import gzip
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from footfall.cli import main
from footfall.database.duckdb.file import open_database
from footfall.durable.lock import FileLock
from footfall.entry import Entry, Event, Hit, encode_entries
from footfall.queue.local.file import FILE_NAME
from footfall.queue.local.store import LocalQueue
from footfall.queue.sink import SINKS
from footfall.visit_log.line import format_line


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, with `data` and `visits.log` in the settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOOTFALL__DATA_DIR", "data")
    monkeypatch.setenv("FOOTFALL__STORAGE__PATH", "visits.log")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def receive(place: Path) -> None:
    """A hit and an event, in the queue."""
    (place / "data").mkdir()
    entries: list[Entry] = [Hit(0, "::1", b"https://blog.example/a", b""), Event(0, "::1", b"", "shop", "buy")]
    with closing(LocalQueue(place / "data" / FILE_NAME, sinks=SINKS)) as queue:
        queue.append(encode_entries(entries), len(entries))


def test_a_rebuild_behind_a_broker_needs_a_database(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or an export: batches come again, and nobody could tell which lines of the log are theirs."""
    receive(place)
    monkeypatch.setenv("FOOTFALL__QUEUE__URL", "kafka://127.0.0.1:9/hits")

    result = run("rebuild")

    assert 2 == result.exit_code
    assert "footfall rebuild --events FILE" in result.output


@pytest.mark.parametrize(
    ("command", "variable", "value", "key"),
    [
        (("rebuild",), "FOOTFALL__STORAGE__PATH", f"{'x' * 300}/visits.log", "storage.path"),
        (("export", "events.ndjson"), "FOOTFALL__DATABASE__URL", f"duckdb:{'x' * 300}", "database.url"),
    ],
)
def test_a_place_that_cannot_be_looked_at_is_named(
    place: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], variable: str, value: str, key: str
) -> None:
    """As one that another user may not look into: a text that says which, not a traceback."""
    receive(place)
    monkeypatch.setenv(variable, value)

    result = run(*command)

    assert 1 == result.exit_code
    assert isinstance(result.exception, SystemExit)
    assert key in result.stderr


def test_a_database_of_an_older_format_can_be_exported(place: Path) -> None:
    """It is migrated first, and the export has every event."""
    (place / "data").mkdir(mode=0o750)
    old = Path(__file__).parents[1] / "data" / "format-1.duckdb.gz"
    (place / "data" / "footfall.duckdb").write_bytes(gzip.decompress(old.read_bytes()))

    result = run("export", "events.ndjson")

    assert (0, "306 events exported\n") == (result.exit_code, result.stdout)
    assert 306 == len((place / "events.ndjson").read_text().splitlines())


def test_a_rebuild_takes_over_the_salts_of_an_older_format(place: Path) -> None:
    """Visitors of today are not counted again; and every event."""
    receive(place)
    old = Path(__file__).parents[1] / "data" / "format-1.duckdb.gz"
    path = place / "data" / "footfall.duckdb"
    path.write_bytes(gzip.decompress(old.read_bytes()))
    with closing(open_database(path, read_only=True)) as database:
        salts = database.execute("SELECT day, salt FROM salts").fetchall()

    result = run("rebuild")

    assert 0 == result.exit_code, result.stderr
    assert "308 events: 306 from the old database, 2 from the queue." in result.stdout
    with closing(open_database(path)) as database:
        assert set(salts) <= set(database.execute("SELECT day, salt FROM salts").fetchall())


def test_a_rebuild_tells_what_it_made(place: Path) -> None:
    """From where, and what it could not use, so that nothing is missing unseen."""
    receive(place)
    hits = "".join(format_line(number, b"https://old.example/", b"", "::1") + "\n" for number in range(0, 1_000, 100))
    (place / "visits.log").write_text(f"{hits}no line\n{format_line(0, b'', b'', '::1')}\n")

    first = run("rebuild")
    assert (0, "") == (first.exit_code, first.stderr.replace("rebuild", "").strip())
    assert [
        "The new database has 12 events: 2 from the queue, 10 from the visits log.",
        "1 hits of the log skipped: no_site",
        f"1 lines of {place / 'visits.log'} skipped: not whole, or not a visit (line 11)",
        "The log's hits went to (name sites by their hosts with --site): old.example 10",
    ] == first.stdout.splitlines()

    second = run("rebuild")
    [kept] = (place / "data").glob("footfall.duckdb.before-*")
    assert [
        "The new database has 12 events: 12 from the old database.",
        f"The old one has 12 events. It is kept as {kept}: delete it when you don't need it.",
    ] == second.stdout.splitlines()

    (place / "data" / "footfall.duckdb").unlink()
    third = run("rebuild", "--log", "visits.log", "--log", str(place / "visits.log"), "--site", "OLD.example=blog")
    assert "The log's hits went to (name sites by their hosts with --site): blog 10" == third.stdout.splitlines()[-1]


def test_that_the_old_database_is_lost_is_told(place: Path) -> None:
    """With what follows for the figures."""
    receive(place)
    (place / "data" / "footfall.duckdb").write_text("no database")
    assert (
        "The old one can't be read, so visitors without a user id may count again in the last two days. It is kept as "
        in run("rebuild").stdout
    )


def test_an_export_and_a_rebuild_from_it(place: Path) -> None:
    """Both say how many events there were."""
    receive(place)
    run("rebuild")
    exported = run("export", "a.ndjson.gz")
    assert (0, "2 events exported\n") == (exported.exit_code, exported.stdout)
    rebuilt = run("rebuild", "--events", "a.ndjson.gz")
    assert "The new database has 2 events: 2 from the export." == rebuilt.stdout.split("\n")[0]


@pytest.mark.parametrize("command", [["export", "a.csv"], ["rebuild"]])
def test_a_database_that_is_in_use_is_left_alone(place: Path, command: list[str]) -> None:
    """The text says who has it, and what to do."""
    receive(place)
    run("rebuild")
    with FileLock(place / "data" / "database.lock", purpose="a test"):
        result = run(*command)
    assert 1 == result.exit_code
    assert "the database is already held by process" in result.stderr
    assert "Stop that one first" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["rebuild", "--events", "a", "--from", "duckdb:b"], "leave out one"),
        (["rebuild", "--from", "duckdb:missing"], "--from duckdb:missing: there is no such file"),
        (["rebuild", "--from", "missing"], "write duckdb:PATH or clickhouse://"),
        (["rebuild", "--site", "blog.example"], "--site blog.example: write HOST=SITE_ID"),
        (["rebuild", "--site", "blog.example="], "write HOST=SITE_ID"),
        (["rebuild", "--site", "=my-site"], "write HOST=SITE_ID"),
        (["rebuild", "--site", "blog.example=" + "x" * 129], "a site id has 1 to 128 characters"),
        (["rebuild", "--log", "missing"], "missing can't be read: No such file or directory"),
        (["rebuild", "--events", "missing"], "missing can't be read: No such file or directory"),
        (["rebuild", "--events", "data/queue.sqlite"], "data/queue.sqlite is not an export"),
    ],
)
def test_what_cannot_be_done_is_told(place: Path, arguments: list[str], text: str) -> None:
    """With exit code 2, as for any wrong use; no database is made or left half-made."""
    receive(place)
    result = run(*arguments)
    assert (2, True) == (result.exit_code, text.lower() in result.stderr.lower()), result.stderr
    assert [] == list((place / "data").glob("footfall.duckdb*"))


def test_without_any_source_nothing_is_made(place: Path) -> None:
    """An empty database would only hide that the settings point to the wrong place."""
    result = run("rebuild")
    assert (1, True) == (
        result.exit_code,
        "nothing to rebuild from: no data/footfall.duckdb, no visits.log" in result.stderr,
    ), result.stderr
    assert [] == list((place / "data").glob("footfall.duckdb*"))


def test_without_a_database_nothing_is_exported(place: Path) -> None:
    """The text says where it was looked for."""
    result = run("export", "a.csv")
    assert (1, True) == (result.exit_code, f"There is no database at {place / 'data'}" in result.stderr), result.stderr
    assert not (place / "a.csv").exists()


def test_an_export_without_its_data_dir_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is there, while the database may be elsewhere."""
    monkeypatch.setenv("FOOTFALL__DATABASE__URL", "duckdb:events.duckdb")
    open_database(place / "events.duckdb").close()

    result = run("export", "events.ndjson")

    assert (1, "footfall: data/database.lock can't be used: No such file or directory (data_dir).\n") == (
        result.exit_code,
        result.stderr,
    )
