"""The visits logs that a rebuild reads: which files, which lines, and which of those the queue holds, too."""

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec

from footfall.commands.logfile import LogFile
from footfall.durable.files import is_trusted, real_path
from footfall.entry import Hit
from footfall.errors import BadUsageError, FootfallError
from footfall.queue.base import Batch
from footfall.queue.sink import entries_of
from footfall.referrer import host_of
from footfall.visit_log.line import format_line, parse_line
from footfall.visit_log.redaction import truncated, without_query

_LATEST_NS: Final = 2**63 - 1
_CACHE_KIB: Final = 65_536
_ROTATED: Final = r"(?:[.-][0-9][0-9.-]*)?"
_PACKERS: Final = {".bz2", ".gz", ".xz", ".zst"}
"""What `LogFile` reads."""
_OTHER_PACKERS: Final = {".lz4", ".Z"}


def find_logs(path: Path, *, on_untrusted: Callable[[Path], object] = lambda _: None) -> list[Path]:
    """The visits log and what it was rotated into, by the names that logrotate gives; those written first come first.

    Args:
        path: the visits log; it need not be there.
        on_untrusted: called with a file that has such a name, and that another user of the machine could have put
            there (`footfall.durable.files`); it is left out.

    Raises:
        BadUsageError: one is compressed in a way that can't be read here.
        FootfallError: they can't be listed.
    """
    packed = f"(?:{'|'.join(map(re.escape, _PACKERS | _OTHER_PACKERS))})?"
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
    whole = [file for file in found if file.suffix not in _PACKERS or file.with_suffix("") not in found]
    return sorted(whole, key=lambda file: (found[file], file.name))


class LoggedHits:
    """Hits that are in the visits log, each to be found there once, by whatever line was written of it.

    Mostly that is the line that the hit makes, byte for byte. A line that left something out (`redaction`) is known by
    what is in all of them, time, user agent and the referrer up to its query, and by what it has of the address.

    What is too much for the memory SQLite keeps in a temporary file.
    """

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute(
            "CREATE TABLE hits (core BLOB, line BLOB, address TEXT, number INTEGER, "
            "PRIMARY KEY (core, line, address, number)) WITHOUT ROWID"
        )
        self._db.execute("BEGIN")
        self._count = 0
        self._left = 0

    def add(self, hits: Sequence[Hit]) -> None:
        self._db.executemany(
            "INSERT INTO hits VALUES (?, ?, ?, ?)",
            ((_core(hit), _digest(_line_of(hit)), hit.address, number) for number, hit in enumerate(hits, self._count)),
        )
        self._count += len(hits)
        self._left += len(hits)

    def take(self, line: bytes, told: Hit) -> bool:
        """Whether a line is of one of them; each is found once.

        Args:
            line: with its line end.
            told: the hit that it tells of (`hit_of`).
        """
        if self._left == 0:
            return False
        core = _core(told)
        row = self._db.execute(
            "SELECT * FROM hits WHERE core = ? AND line = ? LIMIT 1", (core, _digest(line))
        ).fetchone() or self._redacted(core, told)
        if row is None:
            return False
        self._db.execute("DELETE FROM hits WHERE core = ? AND line = ? AND address = ? AND number = ?", row)
        self._left -= 1
        return True

    def _redacted(self, core: bytes, told: Hit) -> tuple[object, ...] | None:
        """A hit of which the line may have left something out."""
        for row in self._db.execute("SELECT * FROM hits WHERE core = ?", (core,)):
            address = row[2]
            is_stripped = told.referrer == without_query(told.referrer)
            if told.address in {None, truncated(address)} or (told.address == address and is_stripped):
                return tuple(row)
        return None

    def close(self) -> None:
        self._db.close()


def _core(hit: Hit) -> bytes:
    """What is in every line of a hit: what is below 100 ns is in none."""
    return _digest(msgspec.msgpack.encode((hit.received_ns // 100, without_query(hit.referrer), hit.user_agent)))


def _line_of(hit: Hit) -> bytes:
    """The line that leaves nothing out."""
    return f"{format_line(hit.received_ns, hit.referrer, hit.user_agent, hit.address)}\n".encode()


def _digest(text: bytes) -> bytes:
    return blake2b(text, digest_size=16).digest()


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
