"""Rows are removed from a DuckDB database: some at a time, each time in a transaction that counts them.

The count is in `positions`, under the source `REMOVED` and by reason, so that rows are always what was written less
what was removed. Rows leave the file as checkpoints write over them.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

import duckdb
import msgspec

from footfall.database.duckdb.days import RolledDays
from footfall.database.erasure import ERASED, RETENTION, Erasure
from footfall.queue.sink import REMOVED

REMOVED_ROWS: Final = 100_000
"""At a time: some tenths of a second, in which nothing else is written."""


def remove_old(db: duckdb.DuckDBPyConnection, oldest: datetime, days: RolledDays) -> int:
    """Remove some rows from before a moment, within a transaction (`RolledDays.changing`); return how many."""
    return _remove(db, "time < $oldest", {"oldest": oldest}, RETENTION, days)


def remove_erased(
    db: duckdb.DuckDBPyConnection, erasure: Erasure, *, until: datetime | None = None, days: RolledDays | None = None
) -> bool:
    """Remove some rows that an erasure names, within a transaction, and note the erasure when it was the last.

    Args:
        db: in the transaction.
        erasure: not noted yet.
        until: leave out what happened after this.
        days: the transaction is `RolledDays.changing`; None where nothing has been rolled up.

    Returns:
        whether it was the last.
    """
    condition, parameters = condition_of(partial(sites_of, db), erasure)
    if until is not None:
        condition, parameters = f"{condition} AND time <= $until", {**parameters, "until": until}
    is_last = _remove(db, condition, parameters, ERASED, days) < REMOVED_ROWS
    if is_last:
        note(db, erasure)
    return is_last


def note(db: duckdb.DuckDBPyConnection, erasure: Erasure) -> None:
    """Note that all that an erasure names is gone."""
    db.execute("INSERT INTO erasures VALUES (?, ?)", [erasure.id, msgspec.json.encode(erasure).decode()])


def erasures_in(db: duckdb.DuckDBPyConnection) -> list[Erasure]:
    """The erasures that are done."""
    return [
        msgspec.json.decode(record, type=Erasure)
        for (record,) in db.execute("SELECT record FROM erasures ORDER BY id").fetchall()
    ]


def condition_of(all_sites: Callable[[], list[str]], erasure: Erasure, number: int = 0) -> tuple[str, dict[str, Any]]:
    """What the rows that an erasure names have in common, as SQL with its parameters, whose names end in `number`.

    Args:
        all_sites: looks up the sites that have events.
        erasure: which.
        number: tells several apart.
    """
    parts, parameters = [], dict[str, Any]()
    if erasure.site_id is not None:
        parts.append(f"site_id = $site_id{number}")
        parameters[f"site_id{number}"] = erasure.site_id
    if erasure.user_id is not None:
        sites = [erasure.site_id] if erasure.site_id is not None else all_sites()
        user = f"user_id IS NOT DISTINCT FROM $user_id{number}"
        parts.append(f"({user} OR visitor IN (SELECT unnest($visitors{number}::HUGEINT[])))")
        parameters |= {f"user_id{number}": erasure.user_id, f"visitors{number}": erasure.visitors(sites)}
    if erasure.end is not None:
        parts.append(f"time < $end{number}")
        parameters[f"end{number}"] = erasure.end
    return " AND ".join(parts), parameters


def sites_of(db: duckdb.DuckDBPyConnection) -> list[str]:
    """The sites that have events."""
    return [site_id for (site_id,) in db.execute("SELECT DISTINCT site_id FROM events").fetchall()]


def _remove(
    db: duckdb.DuckDBPyConnection,
    condition: str,
    parameters: Mapping[str, Any],
    reason: str,
    days: RolledDays | None,
) -> int:
    rows = db.execute(
        f"DELETE FROM events WHERE rowid IN (SELECT rowid FROM events WHERE {condition} LIMIT {REMOVED_ROWS}) "
        "RETURNING site_id, CAST(time AS DATE)",
        dict(parameters),
    ).fetchall()
    if rows:
        if days is not None:
            days.drop(db, set(rows))
        found = db.execute("SELECT skipped FROM positions WHERE source = ?", [REMOVED]).fetchall()
        removed = msgspec.json.decode(found[0][0], type=dict[str, int]) if found else {}
        removed[reason] = removed.get(reason, 0) + len(rows)
        db.execute("DELETE FROM positions WHERE source = ?", [REMOVED])
        db.execute("INSERT INTO positions VALUES (?, 0, 0, ?)", [REMOVED, msgspec.json.encode(removed).decode()])
    return len(rows)
