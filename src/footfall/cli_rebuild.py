"""`footfall rebuild`: the database made again, or moved to another one."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import click

from footfall import config
from footfall.cli import progress_bar, settings_option
from footfall.commands.export import Export
from footfall.commands.logfile import LogFile
from footfall.commands.rebuild.account import NOT_REBUILT
from footfall.commands.rebuild.holdings import DuckdbHoldings, ExportHoldings, Holdings
from footfall.commands.rebuild.logs import find_logs
from footfall.commands.rebuild.run import NO_LOGS, Logs, RebuildReport
from footfall.commands.rebuild.run import rebuild as rebuild_database
from footfall.database.duckdb.file import open_database, upgrade
from footfall.database.erasure import FILE_NAME, ErasureFile
from footfall.database.geo import open_places
from footfall.entry import MAX_SITE_ID
from footfall.errors import BadUsageError, FootfallError
from footfall.processes.data_dir import DATABASE_LOCK, lock, open_queue, prepare
from footfall.queue.local.store import LocalQueue
from footfall.settings import DatabaseSettings, Settings


@click.command()
@click.option(
    "--from",
    "from_url",
    metavar="URL",
    help="Take the events of this database, of either kind, instead of the present one: duckdb:PATH or clickhouse://...",
)
@click.option(
    "--events",
    "export_path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Take exported events (footfall export) instead of the present database.",
)
@click.option(
    "--log",
    "log_paths",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Add the hits of this visits log, compressed or not, that the database does not have. Can be repeated.",
)
@click.option(
    "--site",
    "pairs",
    metavar="HOST=SITE_ID",
    multiple=True,
    help="Count hits of the visits log whose referrer is on HOST for the site SITE_ID. Can be repeated.",
)
@click.option(
    "--allow-fewer",
    is_flag=True,
    help="Replace the old database even if a site has fewer events on some day than before.",
)
@settings_option
def rebuild(
    from_url: str | None,
    export_path: Path | None,
    log_paths: tuple[Path, ...],
    pairs: tuple[str, ...],
    allow_fewer: bool,  # noqa: FBT001 - as click calls it
    settings_path: Path | None,
) -> None:
    """Make the database again by the present rules, or move it.

    Use it after an upgrade that recognises more sources or browsers, when the database is damaged or lost, or to move
    from DuckDB to ClickHouse or back.

    Stop Footfall first (or its processor, where the roles run apart); collecting may go on. The old database stays in
    place until the new one is whole, and is then kept under another name.

    Every event of the old database is taken over, and what has come into the queue since. The visits log is read only
    if there is no old database that can be read, if the ledger says that something is missing, or if it is named with
    --log. It does not hold everything: a hit gets the site and the page of its referrer (see --site), a hit without a
    referrer is left out, and events that were posted are not in it.

    If a site had fewer events on some day than before, the days are listed and nothing is changed, unless
    --allow-fewer is given.

    To move to another database, name that one in database.url, and the present one with --from. For ClickHouse, where
    nothing replaces a database, --from or --events is needed, and the database in database.url must be empty.
    """
    if from_url is not None and export_path is not None:
        raise BadUsageError("--events and --from both name what to begin with: leave out one.")
    sites = dict(map(_site, pairs))
    settings = config.load(settings_path).settings
    with ExitStack() as held:
        if settings.database.is_clickhouse:
            if log_paths or pairs:
                raise BadUsageError("The visits log is for DuckDB (database.url): leave out --log and --site.")
            _fill(held, settings, _first(held, from_url, export_path))
            return
        if settings.queue.is_broker and (log_paths or pairs):
            # The lines do not tell which of the broker's batches they came of, and those will come again.
            raise BadUsageError("With a broker (queue.url), no visits log is read: leave out --log and --site.")
        prepare(settings)
        held.enter_context(lock(settings, DATABASE_LOCK, purpose="the database"))
        first = _first(held, from_url, export_path)
        queue = None if settings.queue.is_broker else held.enter_context(closing(open_queue(settings)))
        logs = NO_LOGS if queue is None else Logs(_opened_logs(held, settings, log_paths), sites, bool(log_paths))
        if queue is not None:
            _refuse_nothing(settings, queue, first, logs)
        size = sum(log.size for log in logs.files) + (queue.state().bytes if queue else 0)
        size += first.size if first else _size_of(settings.database_path)
        with _bar(size) as on_progress:
            report = rebuild_database(
                settings.database_path,
                queue,
                first=first,
                logs=logs,
                settings=settings.database,
                erasures=ErasureFile(settings.data_path / FILE_NAME),
                find_place=open_places(settings.geo.database),
                may_have_fewer=allow_fewer,
                on_progress=on_progress,
            )
    click.echo("\n".join(_summary(report, _name_of(from_url, export_path))))


def _first(held: ExitStack, from_url: str | None, export_path: Path | None) -> Holdings | None:
    """What was named in place of the present database, opened."""
    if export_path is not None:
        file = held.enter_context(LogFile(export_path))
        return ExportHoldings(Export(file), file.size)
    if from_url is None:
        return None
    if from_url.startswith("duckdb:"):
        path = Path(from_url.removeprefix("duckdb:"))
        if not path.is_file():
            raise BadUsageError(f"--from {from_url}: there is no such file.")
        upgrade(path)
        return DuckdbHoldings(held.enter_context(closing(open_database(path, read_only=True))))
    if not DatabaseSettings(url=from_url).is_clickhouse:
        raise BadUsageError(f"--from {from_url}: write duckdb:PATH or clickhouse://user:password@host:8123/database.")
    # Extras, which nobody needs for DuckDB.
    from footfall.commands.rebuild.clickhouse import ClickhouseHoldings  # noqa: PLC0415
    from footfall.database.clickhouse.open import open_clickhouse  # noqa: PLC0415

    return ClickhouseHoldings(held.enter_context(closing(open_clickhouse(from_url))))


def _name_of(from_url: str | None, export_path: Path | None) -> str:
    if export_path is not None:
        return "export"
    return "old database" if from_url is None else "database named"


def _fill(held: ExitStack, settings: Settings, first: Holdings | None) -> None:
    """Fill an empty ClickHouse database."""
    if first is None:
        raise BadUsageError(
            "ClickHouse is filled from another database or an export: footfall rebuild --from URL, or --events FILE."
        )
    from footfall.commands.rebuild.clickhouse import fill  # noqa: PLC0415
    from footfall.database.clickhouse.open import open_clickhouse  # noqa: PLC0415

    assert settings.database.url is not None
    if settings.data_path.exists():
        held.enter_context(lock(settings, DATABASE_LOCK, purpose="the database"))
    try:
        database = held.enter_context(closing(open_clickhouse(settings.database.url)))
        with _bar(first.size) as on_progress:
            count = fill(database, first, settings=settings.database, on_progress=on_progress)
    except OSError as error:
        raise FootfallError(f"{error}. Run the same command again: it begins anew.") from error
    click.echo(f"The new database has {count:,} events.")


def _opened_logs(held: ExitStack, settings: Settings, named: tuple[Path, ...]) -> list[LogFile]:
    """The logs that were named, or else those in place."""
    paths = list(dict.fromkeys(path.resolve() for path in named))
    is_named = bool(paths)
    paths = paths or find_logs(Path(settings.storage.path), on_untrusted=_tell_untrusted)
    logs = [held.enter_context(LogFile(path, is_ours=not is_named)) for path in paths]
    moved = any(log.has_moved() for log in logs)
    if moved or (not is_named and paths != find_logs(Path(settings.storage.path))):
        raise FootfallError("The visits log was rotated this very moment: run this again.")
    return logs


def _refuse_nothing(settings: Settings, queue: LocalQueue, first: Holdings | None, logs: Logs) -> None:
    """An empty database would only hide that the settings point to the wrong place."""
    if first is not None or settings.database_path.exists() or logs.files or queue.last_sequence():
        return
    raise FootfallError(
        f"There is nothing to rebuild from: no {settings.database_path}, no {settings.storage.path}, and the queue "
        "is empty."
    )


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _tell_untrusted(path: Path) -> None:
    click.echo(
        f"{path} is left out: another user of this machine could have put it there. Name it to read it (--log).",
        err=True,
    )


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


def _summary(report: RebuildReport, first: str) -> Iterator[str]:
    parts = {
        first: report.from_first,
        "queue": report.from_batches,
        "visits log": report.from_log,
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
    if report.erased_lines:
        yield (
            f"{report.erased_lines:,} lines of the log left out: something was erased after them, and a line does not "
            "tell whose it is"
        )
    for path, malformed in report.malformed.items():
        numbers = ", ".join(f"{number:,}" for number in malformed.lines)
        more = ", ..." if malformed.count > len(malformed.lines) else ""
        yield f"{malformed.count:,} lines of {path} skipped: not whole, or not a visit (line {numbers}{more})"
    if report.sites:
        sites = ", ".join(f"{site_id} {count:,}" for site_id, count in report.sites)
        yield f"The log's hits went to (name sites by their hosts with --site): {sites}"
    if report.not_rebuilt:
        yield f"{report.not_rebuilt:,} entries could not be brought back; the ledger has them as {NOT_REBUILT}."
