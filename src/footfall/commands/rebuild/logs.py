"""The visits logs that a rebuild reads: which files, which lines, and which of those the queue holds, too."""

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final

from footfall.commands.logfile import LogFile
from footfall.durable.files import is_trusted, real_path
from footfall.entry import Hit
from footfall.errors import BadUsageError, FootfallError
from footfall.queue.base import Batch
from footfall.queue.sink import entries_of
from footfall.referrer import host_of
from footfall.visit_log.line import parse_line
from footfall.visit_log.redaction import possible_lines

_LATEST_NS: Final = 2**63 - 1
_CACHE_KIB: Final = 65_536
_ROTATED: Final = r"(?:[.-][0-9][0-9.-]*)?"
_OTHER_PACKERS: Final = {".bz2", ".lz4", ".xz", ".Z", ".zst"}


def find_logs(path: Path, *, on_untrusted: Callable[[Path], object] = lambda _: None) -> list[Path]:
    """The visits log and what it was rotated into, by the names that logrotate gives; those written first come first.

    Args:
        path: the visits log; it need not be there.
        on_untrusted: called with a file that has such a name, and that another user of the machine could have put
            there (`footfall.durable.files`); it is left out.

    Raises:
        BadUsageError: one is compressed by something else than gzip.
        FootfallError: they can't be listed.
    """
    packed = rf"(?:\.gz|{'|'.join(map(re.escape, _OTHER_PACKERS))})?"
    found = {}
    try:
        path = real_path(path)
        name = re.compile(f"{re.escape(path.stem)}{_ROTATED}{re.escape(path.suffix)}{_ROTATED}{packed}")
        for file in filter(lambda file: name.fullmatch(file.name), path.parent.iterdir()):
            if is_trusted(file):
                found[file] = file.stat().st_mtime_ns
            elif not file.is_dir():
                on_untrusted(file)
    except FileNotFoundError:
        pass  # the directory
    except OSError as error:
        raise FootfallError(
            f"The logs beside {path} can't be listed (storage.path): {error.strerror}. Run this as the user that "
            "Footfall runs as, or name the logs to read (--log)."
        ) from error
    for file in found:
        if file.suffix in _OTHER_PACKERS:
            raise BadUsageError(f"{file} can't be read here: unpack it, or compress it with gzip.")
    # While a log is being compressed it is there twice, and the packed one is not whole yet.
    whole = [file for file in found if file.suffix != ".gz" or file.with_suffix("") not in found]
    return sorted(whole, key=lambda file: (found[file], file.name))


class LoggedHits:
    """Hits that are in the visits log, each to be found there once, by whatever line was written of it.

    What is too much for the memory SQLite keeps in a temporary file.
    """

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("CREATE TABLE lines (digest BLOB, hit INTEGER, PRIMARY KEY (digest, hit)) WITHOUT ROWID")
        self._db.execute("BEGIN")
        self._is_found = bytearray()
        self._left = 0

    def add(self, hits: Sequence[Hit]) -> None:
        first = len(self._is_found)
        self._db.executemany(
            "INSERT INTO lines VALUES (?, ?)",
            (
                (_digest(f"{line}\n".encode()), number)
                for number, hit in enumerate(hits, first)
                for line in possible_lines(hit)
            ),
        )
        self._is_found += bytes(len(hits))
        self._left += len(hits)

    def take(self, line: bytes) -> bool:
        """Whether the line is of one of them; each is found once."""
        if self._left == 0:
            return False
        digest = _digest(line)
        while row := self._db.execute("SELECT hit FROM lines WHERE digest = ? LIMIT 1", (digest,)).fetchone():
            self._db.execute("DELETE FROM lines WHERE digest = ? AND hit = ?", (digest, *row))
            if not self._is_found[row[0]]:
                self._is_found[row[0]] = True
                self._left -= 1
                return True
        return False

    def close(self) -> None:
        self._db.close()


def _digest(line: bytes) -> bytes:
    return blake2b(line, digest_size=16).digest()


def logged_in(batch: Batch) -> list[Hit]:
    """The hits of a batch that have a line in the visits log."""
    return [entry for entry in entries_of(batch) or () if isinstance(entry, Hit) and entry.address]


def lines_in(log: LogFile) -> Iterator[bytes]:
    """The lines that were there when `log` was opened; the first part of one that is too long to be a visit."""
    offset = 0
    while (log.is_packed or offset < log.size) and (line := log.read_line()):
        yield line
        offset += len(line)
        while not line.endswith(b"\n") and (line := log.read_line()):
            offset += len(line)


def hit_of(line: bytes, sites: Mapping[str, str]) -> Hit | None:
    """The hit that a line tells of; None where it is not a whole line of a visits log."""
    if not line.endswith(b"\n"):
        return None
    try:
        visit = parse_line(line[:-1].decode())
        (visit.address or "").encode()
    except ValueError:
        return None
    if abs(visit.received_ns) > _LATEST_NS:
        return None
    site_id = sites.get(host_of(visit.referrer)) if sites else None
    return Hit(visit.received_ns, visit.address, visit.referrer, visit.user_agent, site_id)
