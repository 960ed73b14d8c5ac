"""Text files that are read line by line."""

import bz2
import gzip
import lzma
import os
from pathlib import Path

import pytest

from footfall.commands.logfile import LogFile, ReadError, Skipped
from footfall.errors import BadUsageError


def lines_of(path: Path) -> list[bytes]:
    with LogFile(path) as log:
        return list(iter(log.read_line, b""))


@pytest.mark.parametrize("name", ["a.log", "a.log.gz"])
def test_a_packed_file_is_known_by_what_it_holds(tmp_path: Path, name: str) -> None:
    """Whatever it is called."""
    (tmp_path / name).write_bytes(gzip.compress(b"one\ntwo"))
    assert [b"one\n", b"two"] == lines_of(tmp_path / name)

    (tmp_path / name).write_bytes(b"one\ntwo")
    assert [b"one\n", b"two"] == lines_of(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "packer"),
    [
        (bz2.compress(b"one\n"), "bzip2"),
        (lzma.compress(b"one\n"), "xz"),
        (bytes.fromhex("28b52ffd0458"), "zstd"),
        (b"PK\x03\x04\x14\x00", "zip"),
    ],
)
def test_a_file_that_another_program_has_packed_is_refused(tmp_path: Path, content: bytes, packer: str) -> None:
    """Its lines would be nonsense, and the text says what to do."""
    path = tmp_path / "a.log"
    path.write_bytes(content)
    with pytest.raises(BadUsageError, match=f"is compressed with {packer}. Decompress it first"):
        LogFile(path)


def test_a_torn_file_is_told(tmp_path: Path) -> None:
    """What comes before can be read."""
    path = tmp_path / "a.log.gz"
    path.write_bytes(gzip.compress(os.urandom(100_000).hex().encode())[:50_000])
    with LogFile(path) as log:
        assert 1_000 == len(log.read(1_000))
        with pytest.raises(ReadError):
            log.read(1_000_000)


def test_a_file_that_was_renamed_is_found_out(tmp_path: Path) -> None:
    """Whoever reads several of a log's files may have read one by two names, or one not at all."""
    path = tmp_path / "a.log"
    path.touch()
    with LogFile(path) as log:
        assert not log.has_moved()
        path.rename(tmp_path / "a.log.1")
        assert log.has_moved()
        path.touch()
        assert log.has_moved()


def test_a_log_must_be_there(tmp_path: Path) -> None:
    """A file that is missing is named."""
    with pytest.raises(BadUsageError, match=r"missing\.log can't be read: No such file or directory\."):
        LogFile(tmp_path / "missing.log")


def test_a_log_must_be_a_file(tmp_path: Path) -> None:
    """A directory or a pipe is refused, not waited for."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe):
        with pytest.raises(BadUsageError, match=r"is not a regular file"):
            LogFile(path)


def test_the_first_lines_passed_over_are_kept() -> None:
    """Their numbers lead to them; a million would be no help."""
    skipped = Skipped()
    for line in range(5, 1_005):
        skipped.add(line)
    assert Skipped(1_000, list(range(5, 25))) == skipped
