"""Opening a ClickHouse database: a server that is new enough, and tables of the present format."""

import re
from typing import Final

from footfall.database.clickhouse.ddl import FORMAT_TYPES, TABLES
from footfall.database.clickhouse.migrations import FORMAT, migrate
from footfall.database.clickhouse.server import ClickhouseDatabase
from footfall.database.clickhouse.url import parse_url
from footfall.errors import DamagedFileError, FootfallError

OLDEST_VERSION: Final = (25, 8)
"""Reports need `enable_shared_storage_snapshot_in_query`."""


def open_clickhouse(url: str) -> ClickhouseDatabase:
    """Connect to the database, and have it ready for use (`prepare`); whoever opens it closes it.

    Args:
        url: `database.url`.

    Raises:
        BadSettingError: the address is wrong.
        OSError, FootfallError: as `prepare`.
    """
    database = ClickhouseDatabase(parse_url(url))
    try:
        prepare(database)
    except BaseException:
        database.close()
        raise
    return database


def prepare(database: ClickhouseDatabase) -> None:
    """Make the tables that are missing, and migrate those of an older format.

    A user who may only read finds them made.

    Raises:
        OSError: the server is away; try again later.
        DamagedFileError: Footfall did not make the database, or a newer Footfall did.
        FootfallError: the server does not let us in, or is too old.
    """
    version = tuple(int(number) for number in re.findall(r"\d+", database.version)[:2])
    if version < OLDEST_VERSION:
        raise FootfallError(
            f"database.url: {database.place} has version {database.version}; "
            f"Footfall needs ClickHouse {OLDEST_VERSION[0]}.{OLDEST_VERSION[1]} or later."
        )
    tables = database.engines().keys()
    if "format" not in tables and tables & TABLES:
        raise DamagedFileError(
            f"The database {database.name} on {database.place} was not made by Footfall. Name another (database.url)."
        )
    # A migration takes tables away for a while, and they must not be made anew meanwhile.
    if "format" in tables and (formats := _formats(database)):
        if max(formats) > FORMAT:
            raise DamagedFileError(
                f"The database {database.name} on {database.place} has format {max(formats)}, and this Footfall reads "
                f"formats 1 to {FORMAT}: a newer one made it. Start that one again, or name another (database.url)."
            )
        migrate(database, min(formats))
        tables = database.engines().keys()
    if not tables >= TABLES:
        for statement in database.ddl.tables():
            database.run(statement)
    if not _formats(database):
        database.insert("format", FORMAT_TYPES, [(FORMAT,)])


def _formats(database: ClickhouseDatabase) -> set[int]:
    return {version for (version,) in database.query(f"SELECT DISTINCT version FROM {database.name}.format")}
