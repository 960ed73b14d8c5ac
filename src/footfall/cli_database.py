"""Those commands of `footfall` that open the database, which nobody else may have open meanwhile."""

from contextlib import closing
from pathlib import Path

import click
import duckdb

from footfall import config
from footfall.cli import progress_bar, settings_option
from footfall.commands.export import count_events, write_export
from footfall.database.duckdb.file import open_database, upgrade
from footfall.durable.lock import FileLock
from footfall.errors import BadUsageError, FootfallError
from footfall.processes.data_dir import DATABASE_LOCK, lock
from footfall.settings import Settings


@click.command()
@click.argument("export_path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@settings_option
def export(export_path: Path, settings_path: Path | None) -> None:
    """Write all events to FILE, one JSON object a line.

    If the name of FILE ends in .gz, it is compressed. FILE appears when it is whole; one that is there is replaced.

    Stop Footfall first (or its processor, where the roles run apart), because one process at a time can have the
    database open.

    The first line describes the export, for `footfall rebuild --events FILE`. Addresses and user agents are not in the
    database, so they are not in FILE.
    """
    settings = config.load(settings_path).settings
    if settings.database.is_clickhouse:
        raise BadUsageError(
            "footfall export reads DuckDB. ClickHouse exports by its own means: SELECT ... INTO OUTFILE (database.url)."
        )
    path = settings.database_path
    try:
        is_there = path.exists()
    except OSError as error:
        raise FootfallError(f"{path} can't be read (database.url): {error.strerror}.") from error
    if not is_there:
        raise FootfallError(f"There is no database at {path.absolute()} (data_dir, database.url).")
    with (
        _database_lock(settings),
        closing(_opened(path)) as database,
        progress_bar(count_events(database), export_path.name) as bar,
    ):
        count = write_export(database, export_path, on_progress=bar.update)
    click.echo(f"{count:,} events exported")


def _opened(path: Path) -> duckdb.DuckDBPyConnection:
    """The database for reading, migrated first where its format is an older one."""
    upgrade(path)
    return open_database(path, read_only=True)


def _database_lock(settings: Settings) -> FileLock:
    return lock(settings, DATABASE_LOCK, purpose="the database")
