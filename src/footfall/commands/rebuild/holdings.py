"""What a rebuild takes over as it stands: all that a database has, or that one had when it was exported.

Rows come by the present rules, as far as what is kept of an event lets them be applied (`footfall.database.enrich`). A
visitor's number stays, because the address that it was made from is in no database.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec

from footfall.commands.export import Export, count_events
from footfall.database.duckdb.file import first_line, open_database, upgrade
from footfall.database.duckdb.removal import condition_of, erasures_in, sites_of
from footfall.database.enrich import enrich_again
from footfall.database.erasure import Erasure
from footfall.database.rows import SeenId
from footfall.database.schema import NAMES, Row
from footfall.errors import AlreadyInUseError, FootfallError
from footfall.queue.base import Progress
from footfall.settings import DatabaseSettings

Salt = tuple[date, bytes, datetime]
"""The UTC day that it is for, its secret, and when it was made."""

ROW_BYTES: Final = 100
"""What a row counts for where progress is told in bytes."""
_FETCHED_ROWS: Final = 10_000


class Holdings(ABC):
    """All of a database. Read the event ids before the rows.

    Attributes:
        size: what `consumed` comes to at the end, nearly.
    """

    size: int

    @abstractmethod
    def progress(self) -> dict[str, Progress]:
        """How far it has come, by source."""

    @abstractmethod
    def event_ids(self) -> Iterator[tuple[int, SeenId]]:
        """The ids of the last days' events."""

    @abstractmethod
    def rows(self, settings: DatabaseSettings) -> Iterator[Row]:
        """All events; `settings` are as for `enrich`."""

    @abstractmethod
    def consumed(self) -> int:
        """How much has been read."""

    def salts(self) -> list[Salt]:
        """The secrets that are not forgotten yet."""
        return []

    def erasures(self) -> dict[str, Erasure]:
        """What was erased from it, by id."""
        return {}


class ExportHoldings(Holdings):
    """What `footfall export` wrote. Nobody needs salts to read it, so it has none."""

    def __init__(self, export: Export, size: int) -> None:
        self._export = export
        self.size = size

    def progress(self) -> dict[str, Progress]:
        return self._export.progress()

    def event_ids(self) -> Iterator[tuple[int, SeenId]]:
        for key, seen_at in self._export.event_ids():
            yield key, SeenId(seen_at, 0)

    def rows(self, settings: DatabaseSettings) -> Iterator[Row]:
        return self._export.rows(settings=settings)

    def consumed(self) -> int:
        return self._export.consumed()


class DuckdbHoldings(Holdings):
    """A DuckDB database, which nobody writes to meanwhile.

    Attributes:
        events: how many it has.
    """

    def __init__(self, database: duckdb.DuckDBPyConnection) -> None:
        self._db = database
        self._read = 0
        self.events = count_events(database)
        self.size = self.events * ROW_BYTES

    def progress(self) -> dict[str, Progress]:
        return {
            source: Progress(sequence, 0, written, msgspec.json.decode(skipped, type=dict[str, int]))
            for source, sequence, written, skipped in self._db.execute(
                "SELECT source, sequence, written, skipped FROM positions"
            ).fetchall()
        }

    def event_ids(self) -> Iterator[tuple[int, SeenId]]:
        for key, seen_at, sender in self._fetched("SELECT id, seen_at, sender FROM event_ids"):
            yield key, SeenId(seen_at, sender or 0)

    def rows(self, settings: DatabaseSettings) -> Iterator[Row]:
        for row in self._fetched(f"SELECT {', '.join(NAMES)} FROM events"):
            self._read += 1
            yield enrich_again(row, settings)

    def consumed(self) -> int:
        return self._read * ROW_BYTES

    def salts(self) -> list[Salt]:
        return self._db.execute("SELECT day, salt, made_at FROM salts").fetchall()

    def erasures(self) -> dict[str, Erasure]:
        return {erasure.id: erasure for erasure in erasures_in(self._db)}

    def events_by_day(self, erasures: Sequence[Erasure] = ()) -> Iterator[tuple[str, date, int]]:
        """Site, UTC day and number of its events, in this order, without those that `erasures` name."""
        return events_by_day(self._db, erasures)

    def _fetched(self, query: str) -> Iterator[Any]:
        cursor = self._db.cursor()
        try:
            cursor.execute(query)
            while rows := cursor.fetchmany(_FETCHED_ROWS):
                yield from rows
        except duckdb.Error as error:
            raise FootfallError(
                f"The database can't be read to its end ({first_line(error)}). Move it away, and run this again: the "
                "queue and the visits log then have to do."
            ) from error
        finally:
            cursor.close()


def events_by_day(
    database: duckdb.DuckDBPyConnection, erasures: Sequence[Erasure] = ()
) -> Iterator[tuple[str, date, int]]:
    """Site, UTC day and number of the day's events, in this order, without those that `erasures` name."""
    conditions, parameters = ["true"], dict[str, Any]()
    for number, erasure in enumerate(erasures):
        condition, values = condition_of(partial(sites_of, database), erasure, number)
        conditions.append(f"NOT ({condition})")
        parameters |= values
    cursor = database.cursor()
    cursor.execute(
        f"SELECT site_id, time::DATE AS day, count(*) FROM events WHERE {' AND '.join(conditions)} "
        "GROUP BY ALL ORDER BY ALL",
        parameters,
    )
    while rows := cursor.fetchmany(_FETCHED_ROWS):
        yield from rows


@contextmanager
def opened(path: Path) -> Iterator[DuckdbHoldings | None]:
    """What a DuckDB file has, once it is migrated if need be. None if there is none, or it can't be read.

    Raises:
        AlreadyInUseError: another process has it open.
    """
    database = None
    if path.exists():
        try:
            upgrade(path)
            database = open_database(path, read_only=True)
            contents = DuckdbHoldings(database)
        except AlreadyInUseError:
            raise
        except (FootfallError, duckdb.Error):
            if database is not None:
                database.close()
            database = None
    if database is None:
        yield None
        return
    try:
        yield contents
    finally:
        database.close()
