"""What a queue remembers of imported logs, moved in the transaction of the batch that holds their lines.

- `imports`: how far each log has come. A log that has grown, or was renamed or compressed, is known by its beginning.
- `imported_lines`: digests of the lines that are in, by site and minute, in a row for each batch. Any other copy is
  known by these: a shorter one, the rest of one, or several logs in one.
- `imported_sites`: how many digests a site has, how often they were added to, and up to which minute they were dropped.

Digests take `_SHARE` of `queue.max_bytes` at most. Beyond that, the oldest minutes of the site with the most lines are
dropped. The last two tables are made by the first import, so a queue that has seen none is as it always was.
"""

import sqlite3
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from footfall.errors import AlreadyInUseError

DIGEST_BYTES: Final = 8
_SHARE: Final = 1 / 8

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS imported_lines (
    site TEXT NOT NULL,
    minute INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    digests BLOB NOT NULL,
    PRIMARY KEY (site, minute, sequence)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS imported_sites (
    site TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    lines INTEGER NOT NULL,
    forgotten INTEGER NOT NULL
) WITHOUT ROWID;
"""


class ImportMark(Struct, frozen=True):
    """How far an existing log has been sent into this queue.

    Attributes:
        log: what it is known by; logs that begin alike may share it.
        number: tells those apart.
        offset: bytes done.
        line: lines done.
        digest: SHA-256 of those bytes.
    """

    log: str
    number: int
    offset: int
    line: int
    digest: bytes


class ImportedSite(Struct, frozen=True):
    """What is known of the lines that were imported for a site.

    Attributes:
        version: grows with each batch.
        lines: how many are remembered.
        forgotten: the first minute, since 1970, of which all is remembered.
    """

    version: int = 0
    lines: int = 0
    forgotten: int = -(1 << 62)


class ImportedBatch(Struct, frozen=True):
    """What a batch of an import adds to what is remembered.

    Attributes:
        site: whose lines they are.
        version: that of the `ImportedSite` they were compared with.
        digests: of lines that were not in, by minute, `DIGEST_BYTES` each.
        mark: how far the log is done with this batch; None for one that can't be read twice.
    """

    site: str
    version: int
    digests: Mapping[int, bytes]
    mark: ImportMark | None = None


def make_tables(db: sqlite3.Connection) -> None:
    """Within a transaction."""
    for statement in _SCHEMA.split(";"):
        db.execute(statement)


def restore(db: sqlite3.Connection, lines: Mapping[tuple[str, int, int], bytes]) -> None:
    """Put back what was found of `imported_lines` in a damaged queue, by site, minute and sequence."""
    if not lines:
        return
    make_tables(db)
    db.executemany("INSERT INTO imported_lines VALUES (?, ?, ?, ?)", [(*key, lines[key]) for key in lines])
    db.execute(
        "INSERT INTO imported_sites SELECT site, 1, sum(length(digests)) / ?, ? FROM imported_lines GROUP BY site",
        (DIGEST_BYTES, ImportedSite().forgotten),
    )


def remember(db: sqlite3.Connection, sequence: int, batch: ImportedBatch, max_bytes: int) -> None:
    """Add what came with the batch `sequence`, within its transaction.

    Raises:
        AlreadyInUseError: another import for this site has added lines meanwhile.
    """
    if batch.mark is not None:
        mark = batch.mark
        db.execute(
            "INSERT OR REPLACE INTO imports VALUES (?, ?, ?, ?, ?)",
            (mark.log, mark.number, mark.offset, mark.line, mark.digest),
        )
    lines = sum(map(len, batch.digests.values())) // DIGEST_BYTES
    added = db.execute(
        "INSERT INTO imported_sites VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET version = version + 1, "
        "lines = lines + excluded.lines WHERE version = ?",
        (batch.site, batch.version + 1, lines, ImportedSite().forgotten, batch.version),
    ).rowcount
    if added == 0:
        raise AlreadyInUseError(
            "Another import for this site is under way. Nothing was counted twice; start this one again when the other "
            "is done."
        )
    db.executemany(
        "INSERT INTO imported_lines VALUES (?, ?, ?, ?)",
        [(batch.site, minute, sequence, digests) for minute, digests in batch.digests.items()],
    )
    _forget(db, int(max_bytes * _SHARE) // DIGEST_BYTES)


def _forget(db: sqlite3.Connection, limit: int) -> None:
    """Drop the oldest minutes of the largest sites until no more than `limit` lines are remembered."""
    while db.execute("SELECT sum(lines) FROM imported_sites").fetchone()[0] > limit:
        site = db.execute("SELECT site FROM imported_sites ORDER BY lines DESC LIMIT 1").fetchone()[0]
        minute, size = db.execute(
            "SELECT minute, sum(length(digests)) FROM imported_lines WHERE site = :site AND minute = "
            "(SELECT min(minute) FROM imported_lines WHERE site = :site)",
            {"site": site},
        ).fetchone()
        db.execute("DELETE FROM imported_lines WHERE site = ? AND minute = ?", (site, minute))
        db.execute(
            "UPDATE imported_sites SET lines = lines - ?, forgotten = ? WHERE site = ?",
            (size // DIGEST_BYTES, minute + 1, site),
        )
