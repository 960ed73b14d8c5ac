"""A new database that takes the place of the old one, when it is whole, or not at all.

It is made beside the old one, as `<file>.new`. Whatever ends the process before it is whole and on the disk leaves the
old one in place; a `<file>.new` that is left over is replaced by the next. Afterwards the old one has another name.
"""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from footfall.database.duckdb.file import log_of, open_database
from footfall.durable.sync import sync
from footfall.errors import FootfallError
from footfall.failpoint import Failpoint, reach


class Replacement:
    """A database that is to be replaced; the caller holds its lock.

    Attributes:
        kept: what the old one is called once it is replaced; None where there was none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        self._new_path = self._path.with_name(f"{self._path.name}.new")
        self.kept: Path | None = None

    @contextmanager
    def made(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A new database, which takes the place of the old one at the end of the block, unless that fails.

        Raises:
            FootfallError: it can't be made; the old one is as it was.
        """
        try:
            _remove(self._new_path)
            with closing(open_database(self._new_path)) as new:
                yield new
                new.execute("CHECKPOINT")
            self._put_in_place()
        except (duckdb.Error, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise FootfallError(f"The database can't be made anew: {reason}. The old one is as it was.") from error
        finally:
            with suppress(OSError):
                _remove(self._new_path)

    def _put_in_place(self) -> None:
        """Keep the old database by another name, with its log, and give its name to the new one."""
        sync(self._new_path)
        reach(Failpoint.REBUILD_WHOLE)
        kept = self._path.with_name(f"{self._path.name}.before-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
        log = log_of(self._path)
        # By links: there is a database under the old name at any moment.
        if self._path.exists():
            os.link(self._path, kept)
            self.kept = kept
        if log.exists():
            os.link(log, log_of(kept))
        sync(self._path.parent)
        reach(Failpoint.REBUILD_KEPT)
        # Without its log the old database lacks its last moments, which the queue still has; a log beside a database
        # that it does not belong to would keep that from being opened.
        log.unlink(missing_ok=True)
        reach(Failpoint.REBUILD_PARTED)
        self._new_path.replace(self._path)
        sync(self._path.parent)
        reach(Failpoint.REBUILD_REPLACED)


def _remove(path: Path) -> None:
    """A database and its log."""
    for file in (log_of(path), path):
        file.unlink(missing_ok=True)
