"""Migrations: how the tables of an earlier format become those of the present one, where they are.

ClickHouse has no transaction that could hold one. So each is made of steps that may be repeated, by any number of
services at once and after any interruption: what there is to do is told by the tables that are there. `format` gets
the new number before the first step, which keeps services of the older version from starting, and loses the old one
after the last.

The statements and columns are those of their time: they do not follow `footfall.database.schema`, and a migration that
has been released never changes.
"""

import logging
import secrets
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Final

from msgspec import Struct

from footfall.database.clickhouse.ddl import FORMAT_TYPES
from footfall.database.clickhouse.server import ClickhouseDatabase
from footfall.errors import FootfallError
from footfall.failpoint import Failpoint, reach

_RANGES: Final = 20
"""A copy is made in so many statements, so that there is progress to tell."""
_BLOCK_ROWS: Final = 1_000_000
_LOOK_AGAIN_S: Final = 0.5

_log = logging.getLogger(__name__)

Progress = Callable[[float], None]
"""Called now and then with the part that is done, up to 1."""


class Migration(Struct, frozen=True):
    """One step to a newer format.

    Attributes:
        number: the format that it makes, of the one before.
        purpose: what changes, for the log.
        run: does what is left to be done of it.
    """

    number: int
    purpose: str
    run: Callable[[ClickhouseDatabase, Progress], None]


def _forget_receipt(database: ClickhouseDatabase, progress: Progress) -> None:
    """Keep the second in which something was received, and no more: see docs/security.md.

    `time` is part of the table's order, which no ALTER changes. So the table is renamed, which ends all writing to it,
    and copied. A copy gets the name `events` when it is whole; of several that are made at once, one does.
    """
    ddl = database.ddl
    events, old = ddl.local_events, f"{ddl.local_events}_format_1"
    # Nothing was ever in it.
    database.run(f"ALTER TABLE {database.name}.positions{ddl.everywhere} DROP COLUMN IF EXISTS moved_at")
    if old not in database.engines() and "received_at" in database.columns(events):
        if ddl.everywhere:
            database.run(f"DROP TABLE IF EXISTS {database.name}.events{ddl.everywhere} SYNC")
        _rename(database, events, old)
        reach(Failpoint.MIGRATION_RENAMED)
    if old not in database.engines():
        return
    if events not in database.engines():
        try:
            copy = _copied(database, old, progress)
            reach(Failpoint.MIGRATION_COPIED)
            _rename(database, copy, events)
        except (OSError, FootfallError):
            if events not in database.engines():  # else another service was first, and has dropped the old table
                raise
    if "received_at" in database.columns(events):
        raise FootfallError(
            f"The database {database.name} can't be migrated, because a Footfall of an earlier version made its table "
            f"{events} anew meanwhile. Stop that one, drop {events}, and start again: all rows are in {old}."
        )
    if ddl.everywhere:
        database.run(ddl.spread("events", events))
    _drop(database, (f"{events}_copy_", old))


def _rename(database: ClickhouseDatabase, name: str, to: str) -> None:
    """Rename a table, unless another service was first."""
    try:
        database.run(f"RENAME TABLE {database.name}.{name} TO {database.name}.{to}{database.ddl.everywhere}")
    except (OSError, FootfallError):
        if to not in database.engines():
            raise


def _drop(database: ClickhouseDatabase, prefixes: tuple[str, ...]) -> None:
    for table in database.engines():
        if table.startswith(prefixes):
            database.run(f"DROP TABLE IF EXISTS {database.name}.{table}{database.ddl.everywhere}")


def _copied(database: ClickhouseDatabase, old: str, progress: Progress) -> str:
    """Copy the rows of `events` as they were in format 1; return the name of a table that has them all."""
    ddl = database.ddl
    copy = f"{ddl.local_events}_copy_{secrets.token_hex(8)}"
    database.run(ddl.events(copy, _COLUMNS))
    source, target = f"{database.name}.{old}", f"{database.name}.{copy}"
    if ddl.everywhere:
        database.run(ddl.spread(f"{old}_all", old))
        database.run(ddl.spread(f"{copy}_all", copy))
        source, target = f"{source}_all", f"{target}_all"
    # What a service of the older version is still inserting goes into the renamed table.
    for (queue,) in database.query(f"SELECT DISTINCT toString(queue) FROM {source}"):
        while database.is_ending(f"{queue}:"):
            time.sleep(_LOOK_AGAIN_S)
    levels = ", ".join(str(number / _RANGES) for number in range(1, _RANGES))
    [(edges, wanted)] = database.query(
        f"SELECT arrayDistinct(arraySort(quantilesExact({levels})(sequence))), count() FROM {source}"
    )
    for number, (after, until) in enumerate(pairwise([-1, *edges, 2**63 - 1]), 1):
        database.run(
            f"INSERT INTO {target} ({_KEPT}, time, seen_at) SELECT {_KEPT}, "
            f"if(time = received_at, {_SECOND}, time), if(event_key = 0, fromUnixTimestamp64Micro(0), {_SECOND}) "
            f"FROM {source} WHERE toInt64(sequence) > {{after:Int64}} AND toInt64(sequence) <= {{until:Int64}}",
            {"after": after, "until": until},
            settings={"insert_deduplicate": 0, "min_insert_block_size_rows": _BLOCK_ROWS},
        )
        progress(number / (len(edges) + 1))
    [(copied,)] = database.query(f"SELECT count() FROM {target}")
    if wanted != copied:
        raise OSError(f"{copied:,} of {wanted:,} rows of {source} were copied")
    return copy


_COLUMNS: Final = {
    "time": "DateTime64(6, 'UTC')",
    **dict.fromkeys(("site_id", "event_type", "source", "browser", "os", "device", "queue"), "LowCardinality(String)"),
    **dict.fromkeys(("path", "user_id", "referrer", "props"), "String"),
    "visitor": "Int128",
    "sequence": "UInt64",
    "event_key": "Int128",
    "seen_at": "DateTime64(6, 'UTC')",
}
"""Those of `events` in format 2."""
_KEPT: Final = ", ".join(name for name in _COLUMNS if name not in ("time", "seen_at"))
_SECOND: Final = "fromUnixTimestamp64Micro(intDiv(toUnixTimestamp64Micro(received_at), 1000000) * 1000000)"


def _add_sender(database: ClickhouseDatabase, progress: Progress) -> None:
    """Who sent an event that is there already is not known."""
    ddl = database.ddl
    for table in dict.fromkeys((ddl.local_events, "events")):
        database.run(f"ALTER TABLE {database.name}.{table}{ddl.everywhere} ADD COLUMN IF NOT EXISTS sender Int64")
    progress(1.0)


def _add_campaign(database: ClickhouseDatabase, progress: Progress) -> None:
    """The query that said it was dropped, so what is there already has none."""
    ddl = database.ddl
    for table in dict.fromkeys((ddl.local_events, "events")):
        for column in ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content"):
            database.run(
                f"ALTER TABLE {database.name}.{table}{ddl.everywhere} "
                f"ADD COLUMN IF NOT EXISTS {column} LowCardinality(String)"
            )
    progress(1.0)


def _add_enrichment(database: ClickhouseDatabase, progress: Progress) -> None:
    """What says them was dropped, but for bots: the browser's family is the name of one."""
    ddl = database.ddl
    columns = dict.fromkeys(("hostname", "browser_version", "os_version", "bot", "screen"), "LowCardinality(String)")
    columns |= dict.fromkeys(("language", "country", "region", "city", "click_id"), "LowCardinality(String)")
    columns |= {"user_agent": "String", "scroll_depth": "Nullable(UInt8)", "engaged_ms": "Nullable(UInt32)"}
    columns |= {"is_interactive": "Nullable(Bool)"}
    for table in dict.fromkeys((ddl.local_events, "events")):
        for column, type_ in columns.items():
            database.run(
                f"ALTER TABLE {database.name}.{table}{ddl.everywhere} ADD COLUMN IF NOT EXISTS {column} {type_}"
            )
    database.run(
        f"ALTER TABLE {database.name}.{ddl.local_events}{ddl.everywhere} "
        "UPDATE bot = if(browser = '', 'Bot', browser) WHERE device = 'bot' AND bot = ''",
        settings={"mutations_sync": 2},
    )
    progress(1.0)


MIGRATIONS: Final = (
    Migration(2, "times of receipt are kept to the second, once", _forget_receipt),
    Migration(3, "an event id that comes from another address is told apart", _add_sender),
    Migration(4, "the campaign that led to a page has columns", _add_campaign),
    Migration(5, "bots have names; places, screens, versions and engagement have columns", _add_enrichment),
)
"""Ascending, without a gap."""

FORMAT: Final = MIGRATIONS[-1].number
"""The format of tables that are made now."""


def migrate(database: ClickhouseDatabase, version: int) -> None:
    """Bring the tables up to `FORMAT`.

    Args:
        database: where they are.
        version: the oldest number in `format`.

    Raises:
        OSError: the server is away, or can't do it now; the same call goes on.
        FootfallError: somebody must act.
    """
    for migration in MIGRATIONS:
        if migration.number <= version:
            continue
        name = f"{database.name}: migration to format {migration.number}"
        _log.info("%s: %s", name, migration.purpose)
        began = time.monotonic()
        database.insert("format", FORMAT_TYPES, [(migration.number,)])
        migration.run(database, _teller(name))
        database.run(
            f"ALTER TABLE {database.name}.format{database.ddl.everywhere} DELETE WHERE version < {migration.number}",
            settings={"mutations_sync": 2},
        )
        _log.info("%s: done in %.1f s", name, time.monotonic() - began)


def _teller(name: str) -> Progress:
    """Writes to the log how far it has come."""

    def tell(part: float) -> None:
        _log.info("%s: %.0f %%", name, 100 * part)

    return tell
