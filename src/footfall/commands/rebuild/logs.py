"""The visits logs that a rebuild reads: which files, and which lines."""

import re
from collections.abc import Callable, Iterator, Mapping
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

_LATEST_NS: Final = 2**63 - 1
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


def count_logged(batch: Batch) -> int:
    """How many hits of a batch have a line in the visits log."""
    return sum(isinstance(entry, Hit) and entry.address is not None for entry in entries_of(batch) or ())


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
