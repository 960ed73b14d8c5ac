"""Where commands find what the database holds: in the process that has it open, in its file, or on a server."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from footfall.database.contents import Contents
from footfall.database.duckdb.contents import DuckdbContents
from footfall.database.duckdb.contents_socket import RunningContents
from footfall.database.duckdb.file import open_database, upgrade
from footfall.errors import FootfallError
from footfall.processes.data_dir import DATABASE_LOCK, lock
from footfall.settings import Settings


@contextmanager
def open_contents(settings: Settings) -> Iterator[Contents]:
    """What the database holds, for one call.

    Raises:
        FootfallError: there is no database, or it can't be reached.
    """
    if settings.database.is_clickhouse:
        with _on_server(settings) as contents:
            yield contents
        return
    running = RunningContents.connect(settings.data_path, settings.database_path)
    if running is not None:
        with closing(running):
            yield running
        return
    path = settings.database_path
    _check_is_there(path)
    with lock(settings, DATABASE_LOCK, purpose="the database"):
        upgrade(path)
        with closing(open_database(path, read_only=True)) as database:
            yield DuckdbContents(database, query_s=None)


def _check_is_there(path: Path) -> None:
    try:
        is_there = path.exists()
    except OSError as error:
        raise FootfallError(f"{path} can't be read (database.url): {error.strerror}.") from error
    if not is_there:
        raise FootfallError(f"There is no database at {path.absolute()} (data_dir, database.url).")


@contextmanager
def _on_server(settings: Settings) -> Iterator[Contents]:
    # Extras, which nobody needs for DuckDB.
    from footfall.database.clickhouse.contents import ClickhouseContents  # noqa: PLC0415
    from footfall.database.clickhouse.server import ClickhouseDatabase  # noqa: PLC0415
    from footfall.database.clickhouse.url import parse_url  # noqa: PLC0415

    assert settings.database.url is not None
    with closing(ClickhouseDatabase(parse_url(settings.database.url))) as database:
        yield ClickhouseContents(database)
