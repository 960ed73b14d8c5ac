"""Those commands of `footfall` that open the database, which nobody else may have open meanwhile."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import click
import duckdb

from footfall import config
from footfall.cli import progress_bar, settings_option
from footfall.commands.export import Export, count_events, write_export
from footfall.commands.logfile import LogFile
from footfall.commands.rebuild.account import NOT_REBUILT
from footfall.commands.rebuild.logs import find_logs
from footfall.commands.rebuild.run import RebuildReport, rebuild_from_export, rebuild_from_logs
from footfall.database.duckdb.file import open_database, upgrade
from footfall.durable.lock import FileLock
from footfall.entry import MAX_SITE_ID
from footfall.errors import BadUsageError, FootfallError
from footfall.processes.data_dir import DATABASE_LOCK, lock, open_queue, prepare
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


@click.command()
@click.option(
    "--log",
    "log_paths",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Read this visits log, compressed or not, instead of storage.path and its rotated files. Can be repeated.",
)
@click.option(
    "--events",
    "export_path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Read exported events (footfall export) instead of the visits log.",
)
@click.option(
    "--site",
    "pairs",
    metavar="HOST=SITE_ID",
    multiple=True,
    help="Count hits of the visits log whose referrer is on HOST for the site SITE_ID. Can be repeated.",
)
@settings_option
def rebuild(
    log_paths: tuple[Path, ...], export_path: Path | None, pairs: tuple[str, ...], settings_path: Path | None
) -> None:
    """Make the database again, from what else holds its contents.

    Use it when the database is damaged or lost, or after an upgrade that recognises more sources or browsers.

    Stop Footfall first (or its processor, where the roles run apart); collecting may go on. The old database stays in
    place until the new one is whole, and is then kept under another name.

    Without options, the new database is made from the queue and the visits log. What the queue still holds comes back
    as it was sent. Older hits come from the visits log, which does not hold everything: a hit gets the site and the
    page of its referrer (see --site), a hit without a referrer is left out, and events that were posted are not in it.

    With --events, it is made from an export and from what came into the queue after it. Nothing is missing then: export
    first whenever the database can still be read. With a broker, or for ClickHouse, --events is the only way.
    """
    if export_path is not None and (log_paths or pairs):
        raise BadUsageError("--events replaces the visits log: leave out --log and --site.")
    sites = dict(map(_site, pairs))
    settings = config.load(settings_path).settings
    if settings.database.is_clickhouse:
        _fill(settings, export_path)
        return
    if settings.queue.is_broker and export_path is None:
        # The lines do not tell which of the broker's batches they came of, and those will come again.
        raise BadUsageError(
            "With a broker (queue.url), the database is rebuilt from an export only: footfall rebuild --events FILE. "
            "Or move the database away and start the processor: it reads again what the broker still has."
        )
    prepare(settings)
    with (
        _database_lock(settings),
        closing(open_queue(settings)) as queue,
        ExitStack() as files,
    ):
        if export_path is not None:
            export = files.enter_context(LogFile(export_path))
            with _bar(export.size + queue.state().bytes) as on_progress:
                report = rebuild_from_export(
                    settings.database_path, queue, Export(export), settings=settings.database, on_progress=on_progress
                )
        else:
            named = dict.fromkeys(path.resolve() for path in log_paths)
            paths = list(named) or find_logs(Path(settings.storage.path), on_untrusted=_tell_untrusted)
            if not paths and not queue.last_sequence():
                raise FootfallError(
                    f"There is nothing to rebuild from: no {settings.storage.path}, and the queue is empty."
                )
            logs = [files.enter_context(LogFile(path, is_ours=not named)) for path in paths]
            moved = any(log.has_moved() for log in logs)
            if moved or (not named and paths != find_logs(Path(settings.storage.path))):
                raise FootfallError("The visits log was rotated this very moment: run this again.")
            with _bar(sum(log.size for log in logs) + queue.state().bytes) as on_progress:
                report = rebuild_from_logs(
                    settings.database_path,
                    queue,
                    logs,
                    sites=sites,
                    settings=settings.database,
                    on_progress=on_progress,
                )
    click.echo("\n".join(_summary(report)))


def _opened(path: Path) -> duckdb.DuckDBPyConnection:
    """The database for reading, migrated first where its format is an older one."""
    upgrade(path)
    return open_database(path, read_only=True)


def _fill(settings: Settings, export_path: Path | None) -> None:
    if export_path is None:
        raise BadUsageError(
            "ClickHouse is filled from an export: footfall rebuild --events FILE. To make one from the visits log and "
            "the queue, run footfall rebuild and footfall export with database.url=duckdb:PATH."
        )
    # Extras, which nobody needs for DuckDB.
    from footfall.commands.restore import fill_from_export  # noqa: PLC0415
    from footfall.database.clickhouse.open import open_clickhouse  # noqa: PLC0415

    assert settings.database.url is not None
    try:
        with (
            LogFile(export_path) as file,
            closing(open_clickhouse(settings.database.url)) as database,
            _bar(file.size) as on_progress,
        ):
            count = fill_from_export(database, Export(file), settings=settings.database, on_progress=on_progress)
    except OSError as error:
        raise FootfallError(f"{error}. The same command goes on where this one ended.") from error
    click.echo(f"ClickHouse has {count:,} events from the export.")


def _tell_untrusted(path: Path) -> None:
    click.echo(
        f"{path} is left out: another user of this machine could have put it there. Name it to read it (--log).",
        err=True,
    )


def _database_lock(settings: Settings) -> FileLock:
    return lock(settings, DATABASE_LOCK, purpose="the database")


def _site(pair: str) -> tuple[str, str]:
    """The host and the site id of a `--site`."""
    host, _, site_id = pair.partition("=")
    if not host or not 1 <= len(site_id) <= MAX_SITE_ID:
        raise BadUsageError(
            f"--site {pair}: write HOST=SITE_ID, as in blog.example=my-site. "
            f"A site id has 1 to {MAX_SITE_ID} characters."
        )
    return host.lower(), site_id


@contextmanager
def _bar(length: int) -> Iterator[Callable[[int], None]]:
    """A progress bar of `length` bytes, and what moves it on by so many; it is full when the block is done."""
    with progress_bar(length, "rebuild") as bar:
        yield bar.update
        # What the queue takes on disk is more than what is read out of it.
        bar.update(max(0, length - bar.pos))


def _summary(report: RebuildReport) -> Iterator[str]:
    parts = {
        "export": report.from_export,
        "visits log": report.from_log,
        "queue": report.from_batches,
    }
    made_of = ", ".join(f"{count:,} from the {origin}" for origin, count in parts.items() if count)
    yield f"The new database has {report.events:,} events" + (f": {made_of}." if made_of else ".")
    if report.kept is not None:
        if report.old_events is None:
            had = "can't be read, so visitors without a user id may count again in the last two days"
        else:
            had = f"has {report.old_events:,} events"
        yield f"The old one {had}. It is kept as {report.kept}: delete it when you don't need it."
    for reason, count in sorted(report.skipped.items()):
        yield f"{count:,} hits of the log skipped: {reason}"
    for path, malformed in report.malformed.items():
        numbers = ", ".join(f"{number:,}" for number in malformed.lines)
        more = ", ..." if malformed.count > len(malformed.lines) else ""
        yield f"{malformed.count:,} lines of {path} skipped: not whole, or not a visit (line {numbers}{more})"
    if report.sites:
        sites = ", ".join(f"{site_id} {count:,}" for site_id, count in report.sites)
        yield f"The log's hits went to (name sites by their hosts with --site): {sites}"
    if report.not_rebuilt:
        yield f"{report.not_rebuilt:,} entries could not be brought back; the ledger has them as {NOT_REBUILT}."
