"""Opening files of our own: paths, links and what a file system may lack. What strangers try is in tests/security."""

import ast
import errno
import os
import stat
from pathlib import Path

import pytest

import footfall
from footfall.durable.files import (
    UntrustedFileError,
    check_directory,
    make_directory,
    open_file,
    real_path,
    replacing,
    secure_file,
    write_file,
)


@pytest.fixture
def _without_unnamed_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system like NFS."""
    system_open = os.open

    def refuse_unnamed(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return system_open(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuse_unnamed)


def fail_to_replace(path: Path) -> None:
    with replacing(path) as file:
        file.write(b"half of it")
        raise ValueError("no more")


def test_file_that_is_not_there_is_made_with_its_mode(tmp_path: Path) -> None:
    """Whatever the umask is."""
    before = os.umask(0o777)
    try:
        os.close(open_file(tmp_path / "log", os.O_RDWR | os.O_CREAT, mode=0o640))
    finally:
        os.umask(before)
    assert 0o640 == stat.S_IMODE((tmp_path / "log").stat().st_mode)


def test_mode_is_narrowed_and_never_widened(tmp_path: Path) -> None:
    """An administrator may give a file less than it has by default."""
    path = tmp_path / "log"
    path.touch()
    for before, after in ((0o666, 0o640), (0o640, 0o640), (0o600, 0o600)):
        path.chmod(before)
        os.close(open_file(path, os.O_RDWR | os.O_CREAT, mode=0o640))
        assert after == stat.S_IMODE(path.stat().st_mode)


def test_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    """It is found by its descriptor, which nobody knows."""
    with pytest.raises(FileNotFoundError) as absent:
        open_file(tmp_path / "absent" / "log", os.O_RDWR | os.O_CREAT)
    assert str(tmp_path / "absent" / "log") == absent.value.filename
    with pytest.raises(UntrustedFileError, match=rf"{tmp_path}: it is not a regular file"):
        open_file(tmp_path, os.O_RDONLY)


def test_links_are_followed_one_after_the_other(tmp_path: Path) -> None:
    """Relative and absolute ones, to directories and to the file."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").touch()
    (tmp_path / "there").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "back").symlink_to("../there/b/.")
    (tmp_path / "a" / "b" / "link").symlink_to("../b/file")
    assert tmp_path / "a" / "b" / "file" == real_path(tmp_path / "there" / "back" / "link")


def test_links_without_an_end_are_an_error(tmp_path: Path) -> None:
    """As the kernel has it."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        open_file(tmp_path / "a", os.O_RDONLY)


def test_relative_paths_begin_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory itself, and what is above it, included."""
    monkeypatch.chdir(tmp_path)
    make_directory(Path("a/b"))
    check_directory(Path())
    check_directory(Path("a/b/.."))
    write_file(Path("a/../file"), b"content")
    assert b"content" == (tmp_path / "file").read_bytes()
    assert tmp_path / "file" == real_path(Path("file"))


def test_new_content_replaces_the_old(tmp_path: Path) -> None:
    """None of a longer one is left."""
    write_file(tmp_path / "file", b"a long content")
    write_file(tmp_path / "file", b"short")
    assert b"short" == (tmp_path / "file").read_bytes()


def test_secured_file_is_private_and_has_its_own_name(tmp_path: Path) -> None:
    """A library opens it by that name."""
    (tmp_path / "link").symlink_to("file")
    assert tmp_path / "file" == secure_file(tmp_path / "link")
    assert not (tmp_path / "file").exists()
    assert tmp_path / "file" == secure_file(tmp_path / "link", make=True)
    (tmp_path / "file").chmod(0o666)
    secure_file(tmp_path / "file")
    assert 0o600 == stat.S_IMODE((tmp_path / "file").stat().st_mode)


@pytest.mark.usefixtures("_without_unnamed_files")
def test_replacing_works_where_a_file_needs_a_name(tmp_path: Path) -> None:
    """It is there whole or not at all, and nothing else is."""
    path = tmp_path / "events"
    with replacing(path) as file:
        file.write(b"one")
    with replacing(path) as file:
        file.write(b"two")
        assert 2 == len(list(tmp_path.iterdir()))
    with pytest.raises(ValueError, match="no more"):
        fail_to_replace(path)
    assert [path] == list(tmp_path.iterdir())
    assert b"two" == path.read_bytes()


def test_failure_leaves_what_was_there(tmp_path: Path) -> None:
    """The old file stays, and nothing of the new one does."""
    path = tmp_path / "events"
    path.write_bytes(b"one")
    with pytest.raises(ValueError, match="no more"):
        fail_to_replace(path)
    assert [path] == list(tmp_path.iterdir())
    assert b"one" == path.read_bytes()


OPENERS = {
    "cli_contents.py": "opens /dev/null",
    "collector/tracker.py": "reads what was installed with the program",
    "commands/logfile.py": "reads a file that somebody has named",
    "config.py": "reads a file that somebody has named",
    "database/duckdb/contents.py": "reads a copy in a directory that it has made, of mode 0700",
    "database/duckdb/contents_socket.py": "opens a directory",
    "database/duckdb/copy.py": "opens both ends of a pipe that it has made",
    "database/source.py": "reads what was installed with the program",
    "extras.py": "reads how the program was installed",
    "failpoint.py": "makes a test's marker",
    "processes/listeners.py": "opens a directory and a socket",
    "web/api.py": "reads what was installed with the program",
    "web/pages/assets.py": "reads what was installed with the program",
}


def test_files_are_opened_in_one_room_only() -> None:
    """Every other module asks `durable/`, so that no file is opened without the check."""
    source = Path(footfall.__file__).parent
    names = {"open", "read_bytes", "read_text", "touch", "write_bytes", "write_text"}
    openers = {
        str(path.relative_to(source))
        for path in source.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id == "open")
            or (isinstance(node.func, ast.Attribute) and node.func.attr in names)
        )
    }
    assert set(OPENERS) == {name for name in openers if not name.startswith("durable/")}
