"""An erasure is shown, ordered and carried out.

What it would remove is asked for as any other SQL. It is carried out by whoever has the database open: the running
processor, which looks for orders before each write, or this command where none runs.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from footfall.database.contents import Answer
from footfall.database.duckdb.file import open_database
from footfall.database.duckdb.removal import condition_of
from footfall.database.duckdb.writer import DuckdbSink
from footfall.database.erasure import Erasure, ErasureFile
from footfall.errors import FootfallError
from footfall.failpoint import Failpoint, reach
from footfall.queue.local.store import LocalQueue
from footfall.queue.sink import DATABASE
from footfall.settings import DatabaseSettings

_SITES: Final = "SELECT DISTINCT site_id FROM events"
_DAYS: Final = "SELECT site_id, time::DATE AS day, count(*) FROM events"
_POLL_S: Final = 0.1
WAIT_S: Final = 600
"""How long to wait for the processor."""


def named(ask: Callable[[str], AbstractContextManager[Answer]], erasure: Erasure) -> Iterator[tuple[str, str, int]]:
    """Site, UTC day and number of the events that an erasure names, in this order.

    Args:
        ask: as `Contents.query`.
        erasure: which.

    Raises:
        TimeoutError, OSError, FootfallError: as `Contents.query`.
    """
    condition, parameters = condition_of(lambda: [site_id for (site_id,) in _rows(ask, _SITES)], erasure)
    condition = re.sub(r"\$(\w+)", lambda name: _literal(parameters[name[1]]), condition)
    yield from _rows(ask, f"{_DAYS} WHERE {condition} GROUP BY ALL ORDER BY ALL")


def _rows(ask: Callable[[str], AbstractContextManager[Answer]], sql: str) -> Iterator[tuple[Any, ...]]:
    with ask(sql) as answer:
        for rows in answer.rows:
            for row in rows:
                yield tuple(msgspec.json.decode(cell) for cell in row if cell is not None)


def _literal(value: str | datetime | list[int]) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_literal(str(number)) for number in value)}]"
    return "'{}'".format(str(value).replace("'", "''"))


def order(file: ErasureFile, erasure: Erasure) -> None:
    """Record an erasure, so that it is carried out whatever happens next.

    Raises:
        FootfallError: it can't be recorded.
    """
    try:
        file.add(erasure)
    except OSError as error:
        raise FootfallError(f"The erasure can't be recorded (data_dir): {error}") from error
    reach(Failpoint.ERASURE_ORDERED)


def carry_out(path: Path, file: ErasureFile, settings: DatabaseSettings) -> None:
    """Remove what was ordered to be from a database that nobody has open.

    Raises:
        FootfallError: it can't be done now; the next processor does it.
    """
    try:
        with (
            closing(open_database(path)) as database,
            closing(DuckdbSink(database, settings=settings, erasures=file)) as sink,
        ):
            sink.write([])
    except OSError as error:
        raise FootfallError(f"{error}. The erasure is recorded; the processor carries it out when it runs.") from error


def wait_for_processor(queue: LocalQueue, erasure: Erasure) -> None:
    """Wait until the running processor has carried out an erasure.

    Raises:
        FootfallError: it takes too long.
    """
    deadline = time.monotonic() + WAIT_S
    while (report := queue.sink_reports().get(DATABASE)) is None or report.mark != erasure.id:
        if time.monotonic() > deadline:
            raise FootfallError("The erasure is recorded, and not carried out yet: see whether the processor works.")
        time.sleep(_POLL_S)
