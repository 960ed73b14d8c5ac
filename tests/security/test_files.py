"""Another user of the machine puts files in the way of Footfall's; docs/security.md says what is promised."""

import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from footfall.database.duckdb.file import open_database
from footfall.durable.files import UntrustedFileError, replacing
from footfall.durable.lock import FileLock
from footfall.entry import Hit, encode_entries
from footfall.errors import AlreadyInUseError, FootfallError
from footfall.queue.base import Batch
from footfall.visit_log.writer import VisitLog
from harness import Footfall, eventually

STRANGER = 65_534
ATTACK = "$(touch /tmp/PWNED)"
LINE = b"2022-12-19T14:16:49.9605280Z|null|theirs|192.0.2.1\n"


def need_root() -> None:
    """Skip a test that plays another user of the machine, if this one may not."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to play another user of the machine")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory like `/tmp`."""
    path = tmp_path / "shared"
    path.mkdir()
    path.chmod(0o1777)
    return path


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A file of ours that a stranger would like to be written to."""
    path = tmp_path / "home" / ".bashrc"
    path.parent.mkdir()
    path.write_text("# mine\n")
    return path


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory of root's that every user can reach; pytest's own can't be."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@contextmanager
def as_user(user: int) -> Iterator[None]:
    need_root()
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)


def give(path: Path, user: int = STRANGER) -> Path:
    need_root()
    os.chown(path, user, user, follow_symlinks=False)
    return path


def hit(text: str = ATTACK) -> list[Batch]:
    return [Batch("a", 1, 0, 1, encode_entries([Hit(0, "::1", text.encode(), b"")]))]


def write_log(path: Path, state_dir: Path, batches: list[Batch]) -> None:
    with closing(VisitLog(path, state_dir)) as log:
        log.write(batches)


def make_symlink(path: Path, target: Path) -> None:
    path.symlink_to(target)
    give(path)


def make_hard_link(path: Path, target: Path) -> None:
    path.hardlink_to(target)


def make_own_file(path: Path, _: Path) -> None:
    path.write_bytes(LINE)
    path.chmod(0o666)
    give(path)


def make_pipe(path: Path, _: Path) -> None:
    os.mkfifo(path, 0o666)
    path.chmod(0o666)
    give(path)


TRAPS = [make_symlink, make_hard_link, make_own_file, make_pipe]
Trap = Callable[[Path, Path], None]


# The visits log.


@pytest.mark.parametrize("trap", TRAPS)
def test_what_a_stranger_put_in_place_of_the_log_is_refused(
    footfall: Footfall, shared: Path, precious: Path, trap: Trap
) -> None:
    """`footfall serve` names the file and the setting, writes nothing to it, and does not wait for it."""
    log = shared / "visits.log"
    trap(log, precious)
    before = precious.read_bytes()

    result = footfall.set(FOOTFALL__STORAGE__PATH=str(log)).command("serve")

    assert 1 == result.returncode
    assert f"{log} can't be used: it " in result.stderr
    assert "(storage.path)" in result.stderr
    assert "Traceback" not in result.stderr
    assert before == precious.read_bytes()
    assert log.is_fifo() or log.read_bytes() in {before, LINE}


@pytest.mark.parametrize("trap", TRAPS)
def test_trap_that_is_set_while_the_log_is_rotated_is_refused(
    shared: Path, precious: Path, tmp_path: Path, trap: Trap
) -> None:
    """The lines wait until it is gone, and then go into a new log."""
    path = shared / "visits.log"
    with closing(VisitLog(path, tmp_path)) as log:
        path.rename(shared / "visits.log.1")
        trap(path, precious)
        before = precious.read_bytes()
        with pytest.raises(UntrustedFileError, match=rf"{path}: it "):
            log.write(hit())
        assert before == precious.read_bytes()

        path.unlink()
        log.write(hit())
    assert ATTACK in path.read_text()
    assert before == precious.read_bytes()


def test_log_of_our_own_in_a_shared_directory_is_continued(shared: Path, tmp_path: Path) -> None:
    """The default, `/tmp/visits.log`, works from one start to the next."""
    path = shared / "visits.log"
    write_log(path, tmp_path, [])
    write_log(path, tmp_path, hit())
    assert 1 == path.read_bytes().count(b"\n")


def test_nothing_is_made_beside_the_log(shared: Path, precious: Path, tmp_path: Path) -> None:
    """So nobody can put a link in the way of it; one that is there is left alone."""
    trap = shared / "visits.log.lock"
    make_symlink(trap, precious)
    write_log(shared / "visits.log", tmp_path, hit())
    assert {"visits.log", "visits.log.lock"} == {path.name for path in shared.iterdir()}
    assert "# mine\n" == precious.read_text()


def test_link_of_the_administrator_is_followed(tmp_path: Path) -> None:
    """In a directory to which nobody else can write, it leads where somebody wanted it to lead."""
    (tmp_path / "disk").mkdir()
    link = tmp_path / "visits.log"
    link.symlink_to("disk/visits.log")
    write_log(link, tmp_path, hit())
    write_log(link, tmp_path, [])
    assert ATTACK in (tmp_path / "disk" / "visits.log").read_text()
    assert link.is_symlink()


@pytest.mark.parametrize("mode", [0o1777, 0o777, 0o775])
def test_no_link_is_followed_where_others_can_write(tmp_path: Path, precious: Path, mode: int) -> None:
    """Not even one that belongs to us: whoever can write there could have given it its name."""
    directory = tmp_path / "directory"
    directory.mkdir()
    directory.chmod(mode)
    (directory / "visits.log").symlink_to(precious)
    with pytest.raises(FootfallError, match=r"visits\.log can't be used: it is a symbolic link .* \(storage\.path\)"):
        write_log(directory / "visits.log", tmp_path, hit())
    assert "# mine\n" == precious.read_text()


def test_link_of_a_stranger_on_the_way_to_the_log_is_refused(shared: Path, precious: Path, tmp_path: Path) -> None:
    """A directory that a stranger has linked to one of ours is not ours."""
    make_symlink(shared / "logs", precious.parent)
    with pytest.raises(FootfallError, match=r"it is a symbolic link"):
        write_log(shared / "logs" / "visits.log", tmp_path, hit())
    assert [precious] == list(precious.parent.iterdir())


def test_root_writes_the_log_of_a_service(tmp_path: Path) -> None:
    """In the directory of a service's user its log is taken, and stays that user's; a link there is not."""
    directory = tmp_path / "logs"
    directory.mkdir()
    path = directory / "visits.log"
    path.touch()
    path.chmod(0o640)  # whatever the umask of the process is
    give(path)
    give(directory)
    write_log(path, tmp_path, hit())
    assert ATTACK in path.read_text()
    assert STRANGER == path.stat().st_uid

    path.rename(directory / "elsewhere")
    make_symlink(path, directory / "elsewhere")
    with pytest.raises(FootfallError, match="it is a symbolic link"):
        write_log(path, tmp_path, [])


@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_log_that_root_made_for_a_service_is_taken(reachable: Path, mode: int) -> None:
    """As logrotate does with `create 0640 USER GROUP`."""
    state, directory = reachable / "state", reachable / "logs"
    for made in (state, directory):
        made.mkdir()
    give(state)
    directory.chmod(mode)
    path = directory / "visits.log"
    path.touch()
    path.chmod(0o640)  # whatever the umask of the process is
    give(path)
    with as_user(STRANGER):
        write_log(path, state, hit())
    assert ATTACK in path.read_text()
    assert 0o640 == stat.S_IMODE(path.stat().st_mode)


def test_log_of_another_service_is_refused(reachable: Path) -> None:
    """Who is not root gets no more than root: a file of somebody else in a shared directory is not taken."""
    state, directory = reachable / "state", reachable / "logs"
    for made in (state, directory):
        made.mkdir()
    give(state)
    directory.chmod(0o1777)
    make_own_file(directory / "visits.log", state)
    give(directory / "visits.log", STRANGER - 1)
    with as_user(STRANGER), pytest.raises(FootfallError, match="it belongs to the user 65533: move it away"):
        write_log(directory / "visits.log", state, hit())
    assert LINE == (directory / "visits.log").read_bytes()


def test_output_that_is_no_file_is_refused(footfall: Footfall) -> None:
    """A log is read again after a crash, so it can't be the standard output."""
    result = footfall.set(FOOTFALL__STORAGE__PATH="/dev/stdout").command("run", "storage")
    assert 1 == result.returncode
    assert "/dev/stdout can't be used: it is not a regular file (storage.path)" in result.stderr


# Rotated logs.


def test_rebuild_reads_no_log_of_a_stranger(footfall: Footfall, shared: Path, precious: Path) -> None:
    """Neither its lines are counted nor does it stop the rebuild; our own rotated log is read."""
    log = shared / "visits.log"
    log.write_bytes(LINE.replace(b"null", b"https://example.org/a"))
    (shared / "visits.log.3").write_bytes(LINE.replace(b"null", b"https://example.org/b"))
    make_own_file(shared / "visits.log.1", precious)
    make_symlink(shared / "visits.log.2", precious)
    make_own_file(shared / "visits.log.4.bz2", precious)
    make_pipe(shared / "visits.log.5", precious)

    result = footfall.set(FOOTFALL__STORAGE__PATH=str(log)).command("rebuild")

    assert 0 == result.returncode, result.stderr
    assert "The new database has 2 events: 2 from the visits log." in result.stdout
    for name in ("visits.log.1", "visits.log.2", "visits.log.4.bz2", "visits.log.5"):
        assert f"{shared / name} is left out: another user of this machine could have put it there." in result.stderr


def test_log_of_a_stranger_is_read_when_it_is_named(footfall: Footfall, shared: Path) -> None:
    """Whoever names a file has looked at it."""
    make_own_file(shared / "visits.log.1", shared)
    result = footfall.command("rebuild", "--log", str(shared / "visits.log.1"))
    assert 0 == result.returncode, result.stderr
    assert "1 hits of the log skipped: no_site" in result.stdout


# Exports.


def test_export_follows_no_link(footfall: Footfall, shared: Path, precious: Path) -> None:
    """What has the name beforehand is refused if it is no file, and no other name can be foretold."""
    footfall.start()
    footfall.stop()
    for name in ("events", "events.part"):
        make_symlink(shared / name, precious)

    refused = footfall.command("export", "--format", "csv", str(shared / "events"))
    exported = footfall.command("export", "--format", "csv", str(shared / "other"))

    assert 1 == refused.returncode
    assert f"{shared / 'events'} can't be written: it is not a regular file." in refused.stderr
    assert 0 == exported.returncode, exported.stderr
    assert 0o600 == stat.S_IMODE((shared / "other").stat().st_mode)
    assert "# mine\n" == precious.read_text()
    assert {"events", "events.part", "other"} == {path.name for path in shared.iterdir()}


def test_export_into_a_device_leaves_it_there(footfall: Footfall) -> None:
    """`/dev/stdout` is a link, and root could put a file in its place."""
    footfall.start()
    footfall.stop()
    result = footfall.command("export", "--format", "csv", "/dev/stdout")
    assert 1 == result.returncode
    assert "/dev/stdout can't be written: it is not a regular file." in result.stderr
    assert Path("/dev/stdout").is_symlink()


def test_export_that_is_not_finished_has_no_name(tmp_path: Path) -> None:
    """So nothing is left of it when the process is killed."""
    path = tmp_path / "events"
    path.write_bytes(b"before")
    with replacing(path) as file:
        file.write(b"after")
        assert [path] == list(tmp_path.iterdir())
        assert b"before" == path.read_bytes()
    assert [path] == list(tmp_path.iterdir())
    assert b"after" == path.read_bytes()


# `data_dir`.


def make_open_to_all(path: Path) -> None:
    path.mkdir()
    path.chmod(0o1777)


def make_foreign(path: Path) -> None:
    path.mkdir()
    give(path)


def make_foreign_link(path: Path) -> None:
    (path.parent / "ours").mkdir()
    make_symlink(path, path.parent / "ours")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_open_to_all, "everybody can write to it: name a directory in it"),
        (make_foreign, "it belongs to the user nobody: run Footfall as that user"),
        (make_foreign_link, "it is a symbolic link that somebody else could have made"),
    ],
)
@pytest.mark.parametrize(
    "command", [("serve",), ("import", "access.log", "--site-id", "a"), ("rebuild",), ("export", "e.csv")]
)
def test_data_dir_that_a_stranger_can_change_is_refused(
    footfall: Footfall, shared: Path, make: Callable[[Path], None], reason: str, command: tuple[str, ...]
) -> None:
    """No command works in it; each says why, and what to do."""
    path = shared / "data"
    make(path)
    (footfall.directory / "access.log").touch()
    database = f"duckdb:{footfall.directory / 'events.duckdb'}"
    open_database(footfall.directory / "events.duckdb").close()

    result = footfall.set(FOOTFALL__DATA_DIR=str(path), FOOTFALL__DATABASE__URL=database).command(*command)

    assert 1 == result.returncode
    assert str(path) in result.stderr
    assert "data_dir" in result.stderr
    assert reason in result.stderr
    assert [] == list(path.iterdir())


def test_database_in_a_shared_directory_is_refused(footfall: Footfall, shared: Path) -> None:
    """DuckDB opens its files by their names, so these have to be in a directory that only we can change."""
    url = f"duckdb:{shared / 'events.duckdb'}"
    result = footfall.set(FOOTFALL__DATABASE__URL=url).command("serve")
    assert 1 == result.returncode
    assert f"{shared} can't be opened (database.url): everybody can write to it" in result.stderr
    assert [] == list(shared.iterdir())


def test_files_that_everybody_could_read_are_made_private(footfall: Footfall) -> None:
    """Whatever they had before, and in a directory that everybody can look into."""
    footfall.data_dir.mkdir()
    footfall.data_dir.chmod(0o755)
    footfall.start()
    httpx.get(footfall.url + "/track?site_id=a")
    footfall.settle()
    footfall.kill()
    for path in [*footfall.data_dir.iterdir(), footfall.visits_log]:
        path.chmod(0o666)
    footfall.start()
    httpx.get(footfall.url + "/track?site_id=a")
    footfall.settle()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in footfall.data_dir.iterdir()}
    assert {"queue.sqlite", "queue.sqlite-wal", "footfall.duckdb", "footfall.duckdb.wal", "database.lock"} <= set(modes)
    assert dict.fromkeys(modes, 0o600) == modes
    assert 0o640 == stat.S_IMODE(footfall.visits_log.stat().st_mode)


def test_lock_file_can_not_act_on_a_terminal(tmp_path: Path) -> None:
    """What it says about its holder is shown without control characters."""
    path = tmp_path / "some.lock"
    with FileLock(path, purpose="it"):
        path.write_bytes(b"\x1b]0;owned\x07\x1b[2J\r\nprocess 1\xff")
        with pytest.raises(AlreadyInUseError) as caught:
            FileLock(path, purpose="it")
    assert r"\x1b]0;owned\x07\x1b[2J\r\nprocess 1" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("trap", TRAPS)
def test_lock_file_of_a_stranger_is_refused(shared: Path, precious: Path, trap: Trap) -> None:
    """It is neither emptied nor waited for."""
    trap(shared / "some.lock", precious)
    before = precious.read_bytes()
    with pytest.raises(UntrustedFileError):
        FileLock(shared / "some.lock", purpose="it")
    assert before == precious.read_bytes()


def test_settings_of_a_stranger_are_refused(footfall: Footfall, shared: Path) -> None:
    """A command that is run in a shared directory does not do what somebody else has set; who names the file may."""
    settings = shared / "appsettings.json"
    settings.write_text('{"storage": {"path": "/root/.bashrc"}}')
    give(settings)
    footfall.directory = shared

    found, named = footfall.command("config"), footfall.command("config", "--settings", str(settings))

    assert 2 == found.returncode
    assert "appsettings.json: it belongs to the user nobody" in found.stderr
    assert 0 == named.returncode


def test_settings_without_an_end_are_refused(footfall: Footfall) -> None:
    """They are read up to a bound."""
    result = footfall.command("config", "--settings", "/dev/zero")
    assert 2 == result.returncode
    assert "/dev/zero: can't be read as JSON: it is longer than 1,048,576 bytes" in result.stderr
    assert "Traceback" not in result.stderr


# What a process leaves behind.


def test_killed_tree_leaves_nothing_outside_data_dir(footfall: Footfall) -> None:
    """Neither in the temporary directory nor beside the visits log, which is an output; one socket in `data_dir`."""
    temporary = footfall.directory / "temporary"
    temporary.mkdir()
    footfall.set(TMPDIR=str(temporary)).start()
    httpx.get(footfall.url + "/track?site_id=a")
    footfall.settle()
    assert 0 == footfall.get("/stats", site_id="b")["total_views"]
    footfall.kill()
    assert [] == list(temporary.iterdir())
    assert {"data", "footfall.log", "temporary", "visits.log"} == {path.name for path in footfall.directory.iterdir()}
    assert ["database.sock"] == [path.name for path in footfall.data_dir.iterdir() if path.is_socket()]


def test_socket_that_was_left_behind_is_removed(footfall: Footfall) -> None:
    """A process may be killed in the moment in which the socket has a name."""
    footfall.data_dir.mkdir()
    (footfall.data_dir / "reports.sock").touch()
    footfall.start()
    assert not (footfall.data_dir / "reports.sock").exists()


def test_reports_answer_however_long_the_name_of_data_dir_is(footfall: Footfall) -> None:
    """A socket's address has 108 bytes at most."""
    long = footfall.directory.joinpath(*["d" * 100] * 3)
    footfall.set(FOOTFALL__DATA_DIR=str(long)).start()
    assert 0 == footfall.get("/stats", site_id="a")["total_views"]


def test_collector_that_is_started_again_reaches_the_reports(footfall: Footfall) -> None:
    """It inherits the way there, which has no name any more."""
    footfall.start()
    supervisor = footfall.process.pid
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text("ascii").split()
    [collector] = set(map(int, children)) - {footfall.holder("visit_log.lock"), footfall.holder("database.lock")}
    os.kill(collector, signal.SIGKILL)
    eventually(True, lambda: "collector was killed by signal 9" in footfall.output())
    footfall.await_ready()
    assert 0 == footfall.get("/stats", site_id="a")["total_views"]
