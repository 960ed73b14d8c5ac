"""Databases with events that tests put there row by row, and the reports that are read from them."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date, datetime, time, timedelta
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import duckdb
import pytest
from msgspec import Struct
from msgspec.structs import asdict

from clickhouse_server import ClickhouseServer
from footfall.database.clickhouse.open import open_clickhouse
from footfall.database.clickhouse.reader import ClickhouseReports
from footfall.database.clickhouse.server import ClickhouseDatabase
from footfall.database.clickhouse.writer import ClickhouseSink
from footfall.database.duckdb.days import RolledDays
from footfall.database.duckdb.file import open_database
from footfall.database.duckdb.reader import DuckdbReports
from footfall.database.duckdb.roll_up import RollUp
from footfall.database.duckdb.writer import DuckdbSink
from footfall.database.reports import Reports
from footfall.database.schema import EVENTS
from footfall.entry import PAGE_VIEW
from footfall.queue.sink import Sink

DAY = date(2025, 11, 12)
MIDNIGHT = datetime.combine(DAY, time.min)  # without a zone: a TIMESTAMP holds UTC and does not say so
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - as MIDNIGHT


class Row(Struct, frozen=True):
    """A row of `events`; what is not told here is NULL, or empty."""

    path: str = "/"
    visitor: int = 1
    time: datetime = MIDNIGHT
    site_id: str = "site"
    event_type: str = PAGE_VIEW
    referrer: str | None = None
    source: str | None = None
    props: str | None = None
    hostname: str | None = None
    utm_source: str | None = None
    utm_medium: str | None = None
    utm_campaign: str | None = None
    click_id: str | None = None
    utm_term: str | None = None
    utm_content: str | None = None
    device: str | None = None
    screen: str | None = None
    language: str | None = None
    browser: str | None = None
    browser_version: str | None = None
    os: str | None = None
    os_version: str | None = None
    country: str | None = None
    region: str | None = None
    city: str | None = None
    bot: str | None = None
    scroll_depth: int | None = None
    engaged_ms: int | None = None
    is_interactive: bool | None = None


class Figures(Protocol):
    """A database with a table `events`, and the reports that are read from it."""

    def add(self, *rows: Row) -> None:
        """Put rows into the table, all at once."""

    def sink(self) -> Sink:
        """What writes batches into the table."""

    def make_slow(self) -> None:
        """Let reading the table take hours."""

    def reports(self, limit_s: float = 30.0) -> Reports: ...


class DuckdbFigures:
    """DuckDB.

    Args:
        connection: to the database.
        rolls_up: nothing; or all days before a report; or, at `half`, what was there before some rows are added, and
            one step after that.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, rolls_up: str = "nothing") -> None:
        self._connection = connection
        self._rolls_up = rolls_up
        self._days = RolledDays(connection)
        self._roll_up = RollUp(connection, self._days, lambda: datetime(2026, 1, 1))  # noqa: DTZ001 - as MIDNIGHT

    def add(self, *rows: Row) -> None:
        if self._rolls_up == "half":
            self.roll_up()
        self._add(*rows)
        if self._rolls_up == "half":
            self._roll_up.step()

    def roll_up(self) -> None:
        """Roll up whatever is not."""
        while self._roll_up.step():
            pass

    def _add(self, *rows: Row) -> None:
        with closing(self._connection.cursor()) as cursor, self._days.changing():
            cursor.begin()
            self._days.mark(cursor, {(row.site_id, row.time.date()) for row in rows})
            for row in rows:
                names = row.__struct_fields__
                cursor.execute(
                    f"INSERT INTO events ({', '.join(names)}) VALUES ({', '.join(f'${name}' for name in names)})",
                    asdict(row),
                )
            cursor.commit()

    def sink(self) -> Sink:
        return DuckdbSink(self._connection, days=self._days)

    def make_slow(self) -> None:
        self._rolls_up = "nothing"
        self._connection.execute("DROP TABLE events")
        self._connection.execute(
            "CREATE VIEW events AS SELECT 'site' AS site_id, 'page_view' AS event_type, '/' AS path, "
            "i % 100 AS visitor, TIMESTAMP '2025-11-12' AS time FROM range(1_000_000_000_000) days(i)"
        )

    def reports(self, limit_s: float = 30.0) -> Reports:
        if self._rolls_up == "all":
            self.roll_up()
        return DuckdbReports(self._connection, limit_s=limit_s)


class ClickhouseFigures:
    def __init__(self, database: ClickhouseDatabase) -> None:
        self._database = database

    def add(self, *rows: Row) -> None:
        types = {column.name: column.kind.clickhouse for column in EVENTS if column.name in Row.__struct_fields__}
        values = [[_stored(getattr(row, name), kind) for name, kind in types.items()] for row in rows]
        if values:
            self._database.insert("events", types, values)

    def sink(self) -> Sink:
        return ClickhouseSink(self._database, is_exclusive=True)

    def make_slow(self) -> None:
        name = self._database.name
        self._database.run(f"DROP TABLE {name}.events")
        self._database.run(
            f"CREATE VIEW {name}.events AS SELECT 'site' AS site_id, 'page_view' AS event_type, '/' AS path, "
            "number % 100 AS visitor, toDateTime64('2025-11-12', 6, 'UTC') AS time FROM numbers(1000000000000)"
        )

    def reports(self, limit_s: float = 30.0) -> Reports:
        return ClickhouseReports(self._database, limit_s=limit_s)


def _stored(value: Any, kind: str) -> Any:
    if isinstance(value, datetime):
        return (value - EPOCH) // timedelta(microseconds=1)
    return "" if value is None and not kind.startswith("Nullable") else value


@contextmanager
def figures_of(request: pytest.FixtureRequest) -> Iterator[Figures]:
    """A new database of the kind that is asked for."""
    if request.param.startswith("duckdb"):
        _, _, rolls_up = request.param.partition("_")
        with TemporaryDirectory() as folder, closing(open_database(Path(folder) / "footfall.duckdb")) as connection:
            yield DuckdbFigures(connection, rolls_up or "nothing")
    else:
        server: ClickhouseServer = request.getfixturevalue("clickhouse")
        with closing(open_clickhouse(server.url(f"reports_{token_hex(8)}"))) as database:
            yield ClickhouseFigures(database)


KINDS = ["duckdb", pytest.param("clickhouse", marks=pytest.mark.xdist_group("clickhouse"))]

ROLLED_KINDS = [*KINDS, "duckdb_all", "duckdb_half"]
"""And DuckDB with everything rolled up, and with a half of it."""
