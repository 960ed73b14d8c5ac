"""An export is restored into ClickHouse: the way there from DuckDB.

Rows are inserted some thousand at a time. Each part has a token made from the file, so the same command, run again
after an interruption, resumes and adds nothing twice; another file is refused. Positions are inserted last, so a
database that is not whole can't be taken for one. A processor that is started afterwards resumes behind the last batch
that DuckDB had.

An export does not say which event had which `event_id`. So an event that was counted before, and is sent again within
24 hours, counts again.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Final

import msgspec

from footfall.commands.export import Export
from footfall.database.clickhouse.ddl import EVENT_TYPES, POSITION_TYPES
from footfall.database.clickhouse.server import ClickhouseDatabase
from footfall.database.clickhouse.values import stored
from footfall.database.schema import Row
from footfall.errors import BadUsageError
from footfall.settings import DatabaseSettings

_PART_ROWS: Final = 50_000


def fill_from_export(
    database: ClickhouseDatabase,
    export: Export,
    *,
    settings: DatabaseSettings = DatabaseSettings(),
    on_progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Add what was exported to a database that has nothing else; return how many events.

    Args:
        database: no processor writes to it yet.
        export: at its beginning.
        settings: what rows hold.
        on_progress: called now and then with the bytes that were read since the last call.

    Raises:
        BadUsageError: the database is not empty, or the file is not a whole export.
        OSError, FootfallError: as `ClickhouseDatabase`; the same call goes on.
    """
    # What `events.queue` says of them: they came from no queue that is known here.
    source = f"export {export.header.made_at.isoformat()}"
    [(others,)] = database.query(
        f"SELECT count() FROM {database.name}.events WHERE queue != {{source:String}}", {"source": source}
    )
    [(positions,)] = database.query(f"SELECT count() FROM {database.name}.positions")
    if others or positions:
        raise BadUsageError(
            f"The database {database.name} has events already, and an export goes into an empty one (database.url)."
        )
    for _ in export.event_ids():
        pass
    done = read = 0
    for number, part in enumerate(_parts(export.rows(settings=settings))):
        rows = [(*stored(row), source, number, 0, 0, 0) for row in part]
        database.insert_once(
            "events", EVENT_TYPES, rows, f"{source}:{number}", partial(_count, database, source, number)
        )
        done += len(rows)
        on_progress(export.consumed() - read)
        read = export.consumed()
    account = [
        (name, progress.sequence, progress.written, msgspec.json.encode(progress.skipped).decode())
        for name, progress in export.progress().items()
    ]
    if account:
        database.insert("positions", POSITION_TYPES, account)
    return done


def _count(database: ClickhouseDatabase, source: str, number: int) -> int:
    [(count,)] = database.query(
        f"SELECT count() FROM {database.name}.events WHERE queue = {{source:String}} AND sequence = {{number:UInt64}}",
        {"source": source, "number": number},
    )
    return int(count)


def _parts(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while part := list(islice(rows, _PART_ROWS)):
        yield part
