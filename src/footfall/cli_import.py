"""`footfall import`, as a person meets it: what it says before, meanwhile and afterwards."""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import click

from footfall import config
from footfall.cli import progress_bar, settings_option
from footfall.commands.import_log import AS_ASKED, ImportReport, Layout, check_site_id, import_log, layout_of
from footfall.commands.logfile import LogFile
from footfall.errors import BadUsageError, FootfallError
from footfall.processes.data_dir import open_queue, prepare
from footfall.queue.local.store import LocalQueue
from footfall.settings import Settings

_IMPORT_SHARE = 0.75
"""Of `queue.max_bytes`: when an import fills the queue, it is the import that waits, and hits find room."""
_INTERRUPTED = 130
"""The exit code of a program that was ended by Ctrl-C, as shells have it."""


@click.command(name="import")
@click.argument("log_paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--site-id", required=True, help="The site whose log this is, 1 to 128 characters.")
@click.option(
    "--host",
    "hosts",
    metavar="HOST",
    multiple=True,
    help="Import only the lines of this virtual host. In a log without virtual hosts: say which host its pages are on. "
    "Can be repeated.",
)
@click.option(
    "--only-pages",
    is_flag=True,
    help="Count only successful GETs of documents: no images, styles, scripts, redirects or errors.",
)
@click.option("--again", is_flag=True, help="Count lines that an earlier import has counted once more.")
@settings_option
def import_(
    log_paths: tuple[Path, ...],
    site_id: str,
    *,
    hosts: tuple[str, ...],
    only_pages: bool,
    again: bool,
    settings_path: Path | None,
) -> None:
    """Count the visits in existing access logs.

    FILE is in Combined or Common Log Format, as Apache and nginx write them, with the virtual host in front or
    without:

    \b
    192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET /about HTTP/1.1" 200 512 "https://news.example/" "Mozilla/5.0"
    www.example.com:443 192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET /about HTTP/1.1" 200 512

    It may be compressed with gzip, bzip2, xz or Zstandard. For standard input, write -.

    Each line becomes one page view with its own time, address, referrer and user agent. A line that can't be read is
    skipped; the summary says how many there are, why, and where.

    Import while Footfall runs, if you like. If the import is interrupted, run the same command again: it resumes where
    it stopped. No line is counted twice, not even in a log that has grown, or in a copy that is shorter, renamed or
    compressed.
    """  # noqa: D301 - \b keeps the lines as they are
    check_site_id(site_id)
    settings = config.load(settings_path).settings
    _check_site(settings, site_id)
    with ExitStack() as held:
        logs = [held.enter_context(LogFile(path)) for path in log_paths]
        layouts = [layout_of(log) for log in logs]  # before anything is sent
        queue = held.enter_context(closing(_queue_for_import(settings)))
        stop = held.enter_context(_stop_at_signals())
        for log, layout in zip(logs, layouts, strict=True):
            if layout is None:
                click.echo(f"{log.name} is empty")
                continue
            own_hosts = hosts or _domains(settings, site_id, layout)
            click.echo(_introduction(log, layout, own_hosts), err=True)
            with progress_bar(log.size, log.name) as bar:
                report = import_log(
                    log,
                    queue,
                    site_id=site_id,
                    layout=layout,
                    hosts=own_hosts,
                    only_pages=only_pages,
                    again=again,
                    on_progress=bar.update,
                    on_wait=_tell_wait,
                    should_stop=stop.is_set,
                )
            click.echo(_summary(report) if len(logs) == 1 else f"{log.name}: {_summary(report)}")
            if report.error is not None:
                raise FootfallError(report.error)
            if report.is_interrupted:
                click.echo(
                    "footfall: interrupted. What was sent is in. To go on, run the same command again"
                    f"{', without --again' if again else ''}: it counts no line twice.",
                    err=True,
                )
                raise SystemExit(_INTERRUPTED)


def _check_site(settings: Settings, site_id: str) -> None:
    """Say so where a log is about to count for a site that nobody has listed: the id may be misspelt."""
    is_strict = settings.collector.only_known_sites
    if site_id in settings.sites or not (settings.sites or is_strict):
        return
    known = ", ".join(settings.sites) or "none"
    if is_strict:
        raise BadUsageError(
            f"The site {site_id} is not among the sites in the settings, and collector.only_known_sites is on. Known "
            f"are: {known}. Add it under sites, or correct --site-id."
        )
    click.echo(
        f"footfall: {site_id} is not among the sites in the settings (sites: {known}); importing all the same", err=True
    )


def _domains(settings: Settings, site_id: str, layout: Layout) -> tuple[str, ...]:
    """Where the settings say that the site's pages are; a log with virtual hosts says it itself."""
    site = settings.sites.get(site_id)
    return () if site is None or layout.format.has_host else tuple(site.domains)


def _queue_for_import(settings: Settings) -> LocalQueue:
    prepare(settings)
    return open_queue(settings, share=_IMPORT_SHARE)


@contextmanager
def _stop_at_signals() -> Iterator[threading.Event]:
    """Set by the first Ctrl-C or SIGTERM, so that what was read is sent; a second one ends the program at once."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(_number: int, _frame: object) -> None:
        stop.set()
        put_back()

    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        put_back()


def _tell_wait(error: FootfallError) -> None:
    click.echo(f"waiting for a running Footfall to make room: {error}", err=True)


def _introduction(log: LogFile, layout: Layout, hosts: tuple[str, ...]) -> str:
    """What was taken for granted of a log, for somebody who knows better."""
    own = ", ".join(hosts) or layout.host
    if layout.format.has_host:
        return f"{log.name}: {layout.format.name}{f', only {own}' if own else ''}"
    if own:
        return f"{log.name}: {layout.format.name}. Its pages are on {own}, which is no source (--host)."
    return f"{log.name}: {layout.format.name}"


def _summary(report: ImportReport) -> str:
    lines = ["1 hit sent" if report.sent == 1 else f"{report.sent:,} hits sent"]
    if report.already:
        lines[0] += f"; {report.already:,} lines had been imported before (--again counts them again)"
    if report.uncompared:
        lines.append(
            f"{report.uncompared:,} of these are so old that it is forgotten whether they had been imported before "
            "(docs/operations.md, Importing)"
        )
    for reason, skipped in sorted(report.skipped.items()):
        lines.append(f"{skipped.count:,} skipped: {reason}")
        if reason not in AS_ASKED:
            numbers = ", ".join(f"{number:,}" for number in skipped.lines)
            more = ", ..." if skipped.count > len(skipped.lines) else ""
            lines[-1] += f" (line {numbers}{more})"
    return "\n".join(lines)
