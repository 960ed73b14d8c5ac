"""`footfall erase`: a site's or a user's events, or old ones, removed from the database."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

import click

from footfall import config
from footfall.cli import settings_option
from footfall.commands.contents import open_contents
from footfall.commands.erase import carry_out, named, order, wait_for_processor
from footfall.database.contents import Answer
from footfall.database.duckdb.contents import DuckdbContents
from footfall.database.duckdb.file import open_database, upgrade
from footfall.database.erasure import FILE_NAME, ErasureFile, make_erasure
from footfall.durable.lock import FileLock
from footfall.errors import AlreadyInUseError, BadUsageError, FootfallError
from footfall.processes.data_dir import DATABASE_LOCK, lock, open_queue
from footfall.settings import Settings

_SHOWN_DAYS = 100
_ERASURES_LOCK = "erasures.lock"


@click.command()
@click.option("--site-id", help="Events of this site.")
@click.option("--user-id", help="Events of this user, on --site-id or on all sites.")
@click.option(
    "--before", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE", help="Events that happened before this UTC day."
)
@click.option("--yes", is_flag=True, help="Remove them. Without it, nothing is changed.")
@settings_option
def erase(
    site_id: str | None,
    user_id: str | None,
    before: datetime | None,
    yes: bool,  # noqa: FBT001 - as click calls it
    settings_path: Path | None,
) -> None:
    """Remove events from the database, for good.

    Those go to which all options apply. Without --yes, it says how many there are, by site and day, and changes
    nothing. Footfall may run.

    What was removed does not come back: not by a rebuild, not from a backup of the database, and not from what the
    queue still has. Events that are received afterwards count again.
    """
    if site_id is None and user_id is None and before is None:
        raise BadUsageError("Say what to erase: --site-id, --user-id, --before, or several of them.")
    settings = config.load(settings_path).settings
    if settings.database.is_clickhouse:
        raise BadUsageError("footfall erase works on DuckDB (database.url).")
    path = settings.database_path
    if not path.exists():
        raise FootfallError(f"There is no database at {path.absolute()} (data_dir, database.url).")
    with ExitStack() as held:
        # From here on no other erasure is ordered, so none gets lost.
        held.enter_context(lock(settings, _ERASURES_LOCK, purpose="another erasure"))
        queue = None if settings.queue.is_broker else held.enter_context(closing(open_queue(settings)))
        now_us = time.time_ns() // 1_000
        until = {} if queue is None else {queue.source: max(now_us, queue.last_sequence())}
        day = None if before is None else before.date()
        erasure = make_erasure(until, now_us, site_id=site_id, user_id=user_id, before=day)
        file = ErasureFile(settings.data_path / FILE_NAME)
        database_lock = _free_lock(held, settings)
        if database_lock is not None:
            upgrade(path)
            with closing(open_database(path, read_only=True)) as database:
                _show(named(DuckdbContents(database, query_s=None).query, erasure), is_done=yes)
        elif not yes:
            _show(named(partial(_ask_running, settings), erasure), is_done=False)
        if yes:
            order(file, erasure)
            if database_lock is not None:
                carry_out(path, file, settings.database)
            elif queue is not None:
                wait_for_processor(queue, erasure)
            click.echo("It is done." if database_lock or queue else "The processor does it within seconds.")
    for line in _what_stays(settings):
        click.echo(line)


def _free_lock(held: ExitStack, settings: Settings) -> FileLock | None:
    """The lock of the database; None where a processor has it."""
    try:
        return held.enter_context(lock(settings, DATABASE_LOCK, purpose="the database"))
    except AlreadyInUseError:
        return None


@contextmanager
def _ask_running(settings: Settings, sql: str) -> Iterator[Answer]:
    try:
        with open_contents(settings) as contents, contents.query(sql) as answer:
            yield answer
    except OSError as error:  # a time-out, too
        raise FootfallError(f"What would be removed can't be shown now: {error}") from error


def _show(days: Iterator[tuple[str, str, int]], *, is_done: bool) -> None:
    total = shown = 0
    for site_id, day, count in days:
        total += count
        shown += 1
        if shown <= _SHOWN_DAYS:
            click.echo(f"{site_id} {day}: {count:,}")
    if shown > _SHOWN_DAYS:
        click.echo(f"... and {shown - _SHOWN_DAYS:,} more days")
    events, them = ("event", "it") if total == 1 else ("events", "them")
    if is_done:
        click.echo(f"Removing {total:,} {events}.")
    elif total:
        click.echo(f"{total:,} {events} would be removed. Nothing was changed: add --yes to remove {them}.")
    else:
        click.echo("The database has no such event.")


def _what_stays(settings: Settings) -> Iterator[str]:
    yield (
        f"The visits log ({settings.storage.path}) and its rotated files keep their lines: they tell neither site nor "
        "user. Delete the files when you don't need them."
    )
    kept = f"The queue keeps what it received for up to {settings.queue.margin_hours} hours (queue.margin_hours)"
    if settings.queue.is_broker:
        kept = "The broker keeps its messages as long as it is told to"
    yield f"{kept}; the database takes nothing of what was erased from there."
    copies = sorted(settings.database_path.parent.glob(f"{settings.database_path.name}.before-*"))
    for copy in copies:
        yield f"{copy} is a copy from before a rebuild, and keeps everything: delete it."
    yield "Backups, snapshots and exports keep what they have."
