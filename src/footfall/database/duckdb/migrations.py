"""Migrations: how a DuckDB file of an earlier format becomes one of the present format, where it is.

Each is one transaction, which ends by noting its number in the table `format`. So a file has one format or the next,
whatever ends the process. The statements are those of their time: they do not follow `footfall.database.schema`, and
one that has been released never changes. A test brings a file of the first format here and finds the present schema.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import duckdb
from msgspec import Struct

from footfall.failpoint import Failpoint, reach

_RANGE_ROWS: Final = 1_000_000
"""A statement changes so many rows, so that there is progress to tell."""
_TELL_S: Final = 5.0
_SPARE_BYTES: Final = 16 * 1024 * 1024
"""For all that a migration writes beside its rows."""

_log = logging.getLogger(__name__)

Progress = Callable[[float], None]
"""Called now and then with the part that is done, up to 1."""


class Migration(Struct, frozen=True):
    """One step to a newer format.

    Attributes:
        number: the format that it makes, of a file that has the one before.
        purpose: what changes, for the log.
        run: does it, within a transaction.
        bytes_per_event: free disk that it takes while it runs, for each row of `events`.
    """

    number: int
    purpose: str
    run: Callable[[duckdb.DuckDBPyConnection, Progress], None]
    bytes_per_event: int = 0


def _forget_receipt(connection: duckdb.DuckDBPyConnection, progress: Progress) -> None:
    """Keep the second in which something was received, and no more: see docs/security.md.

    Where `time` differs from `received_at`, it is what a client gave, and stays.
    """
    [(end,)] = connection.execute("SELECT coalesce(max(rowid) + 1, 0) FROM events").fetchall()
    for start in range(0, end, _RANGE_ROWS):
        connection.execute(
            "UPDATE events SET time = date_trunc('second', time) WHERE time = received_at AND rowid >= ? AND rowid < ?",
            [start, start + _RANGE_ROWS],
        )
        progress(min(1.0, (start + _RANGE_ROWS) / end))
    connection.execute("ALTER TABLE events DROP COLUMN received_at")
    connection.execute("UPDATE event_ids SET seen_at = date_trunc('second', seen_at)")


def _add_sender(connection: duckdb.DuckDBPyConnection, progress: Progress) -> None:
    """Who sent an event of which the id is known already is not known."""
    connection.execute("ALTER TABLE event_ids ADD COLUMN sender BIGINT")
    progress(1.0)


def _add_campaign(connection: duckdb.DuckDBPyConnection, progress: Progress) -> None:
    """The query that said it was dropped, so what is there already has none."""
    for column in ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content"):
        connection.execute(f"ALTER TABLE events ADD COLUMN {column} VARCHAR")
    progress(1.0)


def _add_enrichment(connection: duckdb.DuckDBPyConnection, progress: Progress) -> None:
    """What says them was dropped, but for bots: the browser's family is the name of one."""
    columns = dict.fromkeys(("hostname", "browser_version", "os_version", "bot", "screen", "language"), "VARCHAR")
    columns |= dict.fromkeys(("country", "region", "city", "user_agent", "click_id"), "VARCHAR")
    columns |= {"scroll_depth": "UTINYINT", "engaged_ms": "UINTEGER", "is_interactive": "BOOLEAN"}
    for column, type_ in columns.items():
        connection.execute(f"ALTER TABLE events ADD COLUMN {column} {type_}")
    [(end,)] = connection.execute("SELECT coalesce(max(rowid) + 1, 0) FROM events").fetchall()
    for start in range(0, end, _RANGE_ROWS):
        connection.execute(
            "UPDATE events SET bot = coalesce(browser, 'Bot') WHERE device = 'bot' AND rowid >= ? AND rowid < ?",
            [start, start + _RANGE_ROWS],
        )
        progress(min(1.0, (start + _RANGE_ROWS) / end))


def _add_erasures(connection: duckdb.DuckDBPyConnection, progress: Progress) -> None:
    """Nothing was erased yet."""
    connection.execute("CREATE TABLE erasures (id VARCHAR PRIMARY KEY, record JSON NOT NULL)")
    progress(1.0)


def _add_derived(connection: duckdb.DuckDBPyConnection, progress: Progress) -> None:
    """They are filled in the background, while reports are answered from the events themselves."""
    connection.execute("""
        CREATE TABLE rolled_days (day DATE NOT NULL);
        CREATE TABLE dirty_days (site_id VARCHAR NOT NULL, day DATE NOT NULL);
        CREATE TABLE rolled_months (site_id VARCHAR NOT NULL, month DATE NOT NULL);
        CREATE TABLE visits (
            site_id VARCHAR NOT NULL, day DATE NOT NULL, visitor HUGEINT NOT NULL, is_known BOOLEAN NOT NULL,
            bot VARCHAR NOT NULL, visit_start BIGINT NOT NULL, duration BIGINT NOT NULL, is_bounce UTINYINT NOT NULL,
            visit_pageviews INTEGER NOT NULL, visit_events INTEGER NOT NULL,
            entry_page VARCHAR, entry_page_hostname VARCHAR, source VARCHAR, referrer VARCHAR, utm_source VARCHAR,
            utm_medium VARCHAR, utm_campaign VARCHAR, utm_content VARCHAR, utm_term VARCHAR, device VARCHAR,
            screen VARCHAR,
            language VARCHAR, browser VARCHAR, browser_version VARCHAR, os VARCHAR, os_version VARCHAR, country VARCHAR,
            region VARCHAR, city VARCHAR, click_id VARCHAR, exit_page VARCHAR, exit_page_hostname VARCHAR
        );
        CREATE TABLE page_views (
            site_id VARCHAR NOT NULL, day DATE NOT NULL, path VARCHAR NOT NULL, is_bot BOOLEAN NOT NULL,
            pageviews INTEGER NOT NULL
        );
        CREATE TABLE month_pages (
            site_id VARCHAR NOT NULL, month DATE NOT NULL, path VARCHAR NOT NULL, is_bot BOOLEAN NOT NULL,
            pageviews BIGINT NOT NULL
        );
        CREATE TABLE month_visitors (
            site_id VARCHAR NOT NULL, month DATE NOT NULL, is_bot BOOLEAN NOT NULL, visitor HUGEINT
        );
        CREATE TABLE month_anonymous (
            site_id VARCHAR NOT NULL, month DATE NOT NULL, visitors BIGINT NOT NULL, visitors_with_bots BIGINT NOT NULL
        );
    """)
    progress(1.0)


MIGRATIONS: Final = (
    Migration(2, "times of receipt are kept to the second, once", _forget_receipt, bytes_per_event=32),
    Migration(3, "an event id that comes from another address is told apart", _add_sender),
    Migration(4, "the campaign that led to a page has columns", _add_campaign),
    Migration(5, "bots have names; places, screens, versions and engagement have columns", _add_enrichment, 32),
    Migration(6, "erasures are recorded", _add_erasures),
    Migration(7, "visits and views of pages are kept by days and months, for reports", _add_derived),
)
"""Ascending, without a gap."""

FORMAT: Final = MIGRATIONS[-1].number
"""The format of a file that is made now."""


def bytes_needed(connection: duckdb.DuckDBPyConnection, version: int) -> int:
    """How much free disk it takes to bring a file of that format up to date; the arguments are those of `migrate`."""
    [(events,)] = connection.execute("SELECT count(*) FROM events").fetchall()
    per_event = sum(migration.bytes_per_event for migration in MIGRATIONS if migration.number > version)
    return int(events) * per_event + _SPARE_BYTES


def migrate(connection: duckdb.DuckDBPyConnection, path: Path, version: int) -> None:
    """Bring a file up to `FORMAT`; after an error it is as the last migration that was done left it.

    Args:
        connection: to the file, for writing.
        path: of the file, for the log.
        version: the format that it has.

    Raises:
        duckdb.Error: that can't be done now.
    """
    for migration in MIGRATIONS:
        if migration.number <= version:
            continue
        name = f"{path}: migration to format {migration.number}"
        _log.info("%s: %s", name, migration.purpose)
        began = time.monotonic()
        connection.begin()
        try:
            migration.run(connection, _teller(name))
            connection.execute("UPDATE format SET version = ?", [migration.number])
            reach(Failpoint.MIGRATION_MADE)
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        reach(Failpoint.MIGRATION_COMMITTED)
        connection.execute("CHECKPOINT")
        _log.info("%s: done in %.1f s", name, time.monotonic() - began)


def _teller(name: str) -> Progress:
    """Writes to the log how far it has come, every few seconds."""
    told_at = time.monotonic()

    def tell(part: float) -> None:
        nonlocal told_at
        if time.monotonic() - told_at > _TELL_S:
            _log.info("%s: %.0f %%", name, 100 * part)
            told_at = time.monotonic()

    return tell
