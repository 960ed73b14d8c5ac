"""Those commands of `footfall` that take out what the database holds, whether Footfall runs or not."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

import click

from footfall import config
from footfall.cli import settings_option
from footfall.commands.contents import open_contents
from footfall.commands.export import format_of, restorable_path, write_export
from footfall.commands.table import Form, printed
from footfall.database.contents import EVERYTHING, Format, Selection
from footfall.durable.files import replacing
from footfall.errors import BadUsageError, FootfallError

_INTERRUPTED: Final = 130
"""The exit code of a program that was ended by Ctrl-C, as shells have it."""
_STANDARD: Final = "-"
_TOLD_EVERY_S: Final = 0.2
_MEGABYTE: Final = 1_000_000

_force_option = click.option("--force", is_flag=True, help="Replace a file that is there.")


@click.command()
@click.argument("sql", metavar="SQL")
@click.option(
    "--format",
    "form",
    type=click.Choice([form.value for form in Form]),
    help="How the answer is printed. Without it: a table on a terminal, else csv.",
)
@settings_option
def query(sql: str, form: str | None, settings_path: Path | None) -> None:
    """Ask the database in SQL, and print the answer.

    \b
    footfall query "SELECT path, count(*) AS views FROM events WHERE event_type = 'page_view'
                    GROUP BY path ORDER BY views DESC LIMIT 10"
    footfall query "DESCRIBE events"
    footfall query --format csv "FROM events WHERE site_id = 'my-site'" > events.csv
    footfall query - < report.sql

    It works while Footfall runs, for the user that runs it and for root. SQL is one statement that reads: SELECT, WITH,
    FROM, VALUES, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN, in DuckDB's words (with database.url=clickhouse://..., in
    ClickHouse's). While Footfall runs, it may take 60 seconds; for more, query a copy (footfall snapshot).

    In CSV, a text that a spreadsheet would take for a formula has a ' in front. NDJSON has it as it is.
    """  # noqa: D301 - \b keeps the lines as they are
    chosen = Form(form) if form else (Form.TABLE if sys.stdout.isatty() else Form.CSV)
    text = sys.stdin.read() if sql == _STANDARD else sql
    settings = config.load(settings_path).settings
    with _told(), open_contents(settings) as contents, contents.query(text) as answer:
        for lines in printed(answer, chosen):
            _write(lines.encode())


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--site-id", help="Only the events of this site.")
@click.option("--from", "first", type=click.DateTime(["%Y-%m-%d"]), help="Only events from this UTC day on.")
@click.option("--to", "last", type=click.DateTime(["%Y-%m-%d"]), help="Only events up to this UTC day, inclusive.")
@click.option(
    "--format",
    "form",
    type=click.Choice([form.value for form in Format]),
    help="How events are written. Without it, the name of FILE says it.",
)
@_force_option
@settings_option
def export(
    file: Path,
    site_id: str | None,
    *,
    first: datetime | None,
    last: datetime | None,
    form: str | None,
    force: bool,
    settings_path: Path | None,
) -> None:
    """Write the events to FILE, as CSV, Parquet or NDJSON (a JSON object a line).

    \b
    footfall export events.parquet                     all events
    footfall export events.csv.gz --site-id my-site --from 2025-11-01 --to 2025-11-30
    footfall export - --format ndjson | jq .path       on standard output

    The name of FILE says the format: .csv, .parquet or .ndjson, with .gz behind it to compress the text formats.

    It works while Footfall runs, for the user that runs it and for root, and has the events of one moment. FILE appears
    when it is whole.

    With all events of DuckDB in FILE.ndjson comes FILE.ndjson.rebuild. Keep it beside FILE: `footfall rebuild --events
    FILE` needs it. Addresses are not in the database, so they are not in FILE.
    """  # noqa: D301 - \b keeps the lines as they are
    settings = config.load(settings_path).settings
    selection = _selection(site_id, first, last)
    is_standard = str(file) == _STANDARD
    if is_standard and form is None:
        raise BadUsageError("Say which format standard output is to have: --format.")
    chosen = Format(form) if form else format_of(file)
    is_restorable = (
        chosen is Format.NDJSON and selection == EVERYTHING and not is_standard and not settings.database.is_clickhouse
    )
    if is_standard:
        if chosen is Format.PARQUET and sys.stdout.isatty():
            raise BadUsageError("Parquet is not for a terminal. Name a file.")
        with _told(), open_contents(settings) as contents, contents.export(selection, chosen) as exported:
            for part in exported.parts:
                _write(part)
        return
    _check_is_free(file, is_forced=force)
    if is_restorable:
        _check_is_free(restorable_path(file), is_forced=force)
    with _told(), open_contents(settings) as contents, _progress() as on_progress:
        count = write_export(contents, file, chosen, selection, is_restorable=is_restorable, on_progress=on_progress)
    click.echo(f"{count:,} events exported")


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@_force_option
@settings_option
def snapshot(path: Path, *, force: bool, settings_path: Path | None) -> None:
    """Copy the database to PATH, a DuckDB file to ask as much as you like.

    \b
    footfall snapshot today.duckdb
    duckdb -readonly today.duckdb

    It works while Footfall runs, for the user that runs it and for root, and has the database of one moment. For that
    moment it needs as much free disk beside the database as that has. PATH appears when it is whole.

    The copy has everything but the salts, which Footfall forgets after 48 hours and which must not outlive that.
    """  # noqa: D301 - \b keeps the lines as they are
    settings = config.load(settings_path).settings
    _check_is_free(path, is_forced=force)
    with _told(), open_contents(settings) as contents, contents.snapshot() as parts, _progress() as on_progress:
        try:
            with replacing(path) as file:
                for part in _read(parts):
                    file.write(part)
                    on_progress(len(part))
        except OSError as error:
            raise FootfallError(f"{path} can't be written: {error.strerror or error}.") from error
    click.echo(f"{path} is a copy of the database")


def _read(parts: Iterator[bytes]) -> Iterator[bytes]:
    """The parts; if they can't be read, that is no error of the file that they are written to."""
    try:
        yield from parts
    except OSError as error:
        raise FootfallError(f"The database can't be copied: {error}.") from error


def _selection(site_id: str | None, first: datetime | None, last: datetime | None) -> Selection:
    if first is not None and last is not None and first > last:
        raise BadUsageError("--from is after --to.")
    end = None if last is None or last.date() == date.max else last + timedelta(days=1)
    return Selection(site_id, first, end)


def _check_is_free(path: Path, *, is_forced: bool) -> None:
    if not is_forced and path.is_file() and not path.is_symlink():  # which is not replaced at all
        raise BadUsageError(f"{path} is there already. Name another file, or replace it with --force.")


@contextmanager
def _told() -> Iterator[None]:
    """Say what went wrong in a sentence; end quietly where Ctrl-C, or whoever reads the output, ends it."""
    try:
        yield
    except BrokenPipeError:
        # What is still in the buffer has no reader, either.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except KeyboardInterrupt:
        raise SystemExit(_INTERRUPTED) from None
    except TimeoutError as error:
        raise FootfallError(
            f"Given up: {error}. Ask for less, or ask a copy of the database (footfall snapshot)."
        ) from error
    except OSError as error:
        raise FootfallError(f"{error}.") from error


def _write(part: bytes) -> None:
    sys.stdout.buffer.write(part)
    sys.stdout.buffer.flush()


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """On a terminal, how much was written so far; nobody knows how much it will be."""
    written = 0
    told_at = time.monotonic()

    def add(size: int) -> None:
        nonlocal written, told_at
        written += size
        if sys.stderr.isatty() and time.monotonic() - told_at > _TOLD_EVERY_S:
            click.echo(f"\r{written / _MEGABYTE:,.0f} MB", err=True, nl=False)
            told_at = time.monotonic()

    try:
        yield add
    finally:
        if sys.stderr.isatty():
            click.echo("\r\x1b[K", err=True, nl=False)
