"""Text files that are read line by line."""

import bz2
import gzip
import importlib
import lzma
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from footfall.commands.logfile import STANDARD_INPUT, LogFile, ReadError, Skipped
from footfall.errors import BadUsageError


def lines_of(path: Path) -> list[bytes]:
    with LogFile(path) as log:
        return list(iter(log.read_line, b""))


zstd = importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
PACKERS = [gzip.compress, bz2.compress, lzma.compress, zstd.compress]


@pytest.mark.parametrize("pack", PACKERS)
@pytest.mark.parametrize("name", ["a.log", "a.log.gz"])
def test_a_packed_file_is_known_by_what_it_holds(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    """Whatever it is called."""
    (tmp_path / name).write_bytes(pack(b"one\ntwo"))
    assert [b"one\n", b"two"] == lines_of(tmp_path / name)

    (tmp_path / name).write_bytes(b"one\ntwo")
    assert [b"one\n", b"two"] == lines_of(tmp_path / name)


@pytest.mark.parametrize(("content", "packer"), [(bytes.fromhex("04224d18"), "lz4"), (b"PK\x03\x04\x14\x00", "zip")])
def test_a_file_that_another_program_has_packed_is_refused(tmp_path: Path, content: bytes, packer: str) -> None:
    """Its lines would be nonsense, and the text says what to do."""
    path = tmp_path / "a.log"
    path.write_bytes(content)
    with pytest.raises(BadUsageError, match=f"is compressed with {packer}. Decompress it first"):
        LogFile(path)


@pytest.mark.parametrize("pack", PACKERS)
def test_a_torn_file_is_told(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """What comes before can be read, the first lines, too."""
    path = tmp_path / "a.log"
    path.write_bytes(pack(b"".join(b"%s\n" % os.urandom(50).hex().encode() for _ in range(20_000)))[:-300_000])
    with LogFile(path) as log:
        assert len(log.first_lines()) > 100
        assert 1_000 == len(log.read(1_000))
        with pytest.raises(ReadError):
            log.read(10_000_000)


@pytest.mark.parametrize("pack", [bytes, *PACKERS])
def test_standard_input_is_read_once(pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first lines can be looked at, and are still there."""
    reading, writing = os.pipe()
    os.write(writing, pack(b"one\ntwo\n"))
    os.close(writing)
    with os.fdopen(reading) as pipe:
        monkeypatch.setattr("sys.stdin", pipe)
        with LogFile(STANDARD_INPUT) as log:
            assert ("standard input", 0, False) == (log.name, log.size, log.can_seek)
            assert b"one\n" == log.first_lines()[0]
            assert [b"one\n", b"two\n", b""] == [log.read_line() for _ in range(3)]


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
