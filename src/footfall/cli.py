"""The `footfall` command."""

import importlib
import logging
import os
import sys
import typing
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from footfall import RELEASED, __version__, config, service
from footfall.errors import FootfallError
from footfall.processes.roles import COLLECTOR, REPORTING, ROLES, STORAGE
from footfall.settings import CollectorSettings, MonitorSettings, ReportingSettings, Settings, is_loopback, local_url
from footfall.telemetry import LogFormat, configure_logging

_log = logging.getLogger(__name__)

settings_option = click.option(
    "--settings",
    "settings_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Read settings from FILE instead of {config.FILE_NAME} in the working directory.",
)

log_format_option = click.option(
    "--log-format",
    type=click.Choice(typing.get_args(LogFormat)),
    default="text",
    show_default=True,
    help="Write the log (standard error) as lines of text, or of JSON for programs.",
)

_LATER = {
    "erase": ("footfall.cli_erase", "erase"),
    "export": ("footfall.cli_contents", "export"),
    "import": ("footfall.cli_import", "import_"),
    "query": ("footfall.cli_contents", "query"),
    "rebuild": ("footfall.cli_rebuild", "rebuild"),
    "snapshot": ("footfall.cli_contents", "snapshot"),
}
"""Commands whose module is imported when they are called: `serve` must not have DuckDB in a collector's memory."""

_UMASK = 0o077
"""What libraries make (DuckDB's files, for one) is nobody else's, either."""


def progress_bar(length: int, label: str) -> AbstractContextManager[Any]:
    """A progress bar on a terminal; nothing where standard error goes elsewhere."""
    is_seen = sys.stderr.isatty() and length > 0
    return click.progressbar(length=length, label=label, file=sys.stderr, hidden=not is_seen)


class _Group(click.Group):
    """Says what a person has to do, without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_LATER])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _LATER:
            return super().get_command(ctx, cmd_name)
        module, name = _LATER[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - as click has it
        os.umask(_UMASK)
        try:
            return super().invoke(ctx)
        except FootfallError as error:
            click.echo(f"footfall: {error}", err=True)
            sys.exit(error.exit_code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="footfall")
def main() -> None:
    """Self-hosted web analytics that never loses a hit.

    To try it, run `footfall serve` and follow what it prints.

    \b
    footfall serve                      run everything on this machine, on one port
    footfall run collector              run one role, or several, as one service
    footfall config                     show each setting, and where it comes from
    footfall import access.log --site-id my-site
                                        count the visits in an existing access log
    footfall query 'SELECT ...'         ask the database in SQL, while Footfall runs or not
    footfall export events.parquet      write all events to a file: .csv, .parquet or .ndjson
    footfall snapshot copy.duckdb       copy the database
    footfall erase --user-id ID         remove a user's events, or a site's, or old ones
    footfall rebuild                    make the database again from what else holds its contents

    Settings are read from appsettings.json in the working directory. An environment variable overrides a setting:
    FOOTFALL__COLLECTOR__PORT=9000 sets collector.port. `footfall COMMAND --help` explains each command.

    \b
    Exit codes:
      0  done, or stopped as asked
      1  something needs to be fixed, and the message says what
      2  a setting or the command line is wrong
    """  # noqa: D301 - the \b is click's mark for lines that are not to be wrapped


@main.command()
@log_format_option
@settings_option
def serve(log_format: LogFormat, settings_path: Path | None) -> None:
    """Run everything on this machine, on one port.

    It collects hits and events, writes the visits log and the database, and answers reports. When it is ready, it
    prints the addresses to open and the snippet to paste into your pages.

    Data is kept in the directory footfall-data, and the visits log in /tmp/visits.log. Before you rely on it, choose
    lasting places for both (data_dir, storage.path).

    Ctrl-C stops it: everything that was accepted is written first, for up to 10 seconds; the rest is written after the
    next start.
    """
    _run(config.load(settings_path).settings, ROLES, log_format)


@main.command()
@click.argument("roles", metavar="ROLE...", nargs=-1, required=True, type=click.Choice(ROLES))
@log_format_option
@settings_option
def run(roles: tuple[str, ...], log_format: LogFormat, settings_path: Path | None) -> None:
    """Run one role, or several, as one service.

    \b
    collector   takes hits and events (/track, /event, /events) into the queue
    storage     writes the visits log from the queue
    processor   writes the database from the queue
    reporting   answers reports from the database

    Services on one machine share a data_dir, and can be started and stopped in any order. Services on several machines
    share a broker: give all of them the same queue.url.

    DuckDB's file can be open in one process only, so these two roles run together:

    \b
    footfall run processor reporting
    """  # noqa: D301 - the \b is click's mark for lines that are not to be wrapped
    _run(config.load(settings_path).settings, tuple(role for role in ROLES if role in roles), log_format)


@main.command(name="config")
@settings_option
def show_config(settings_path: Path | None) -> None:
    """Show each setting, its value, and where it comes from.

    The last column is `default`, the settings file, or the variable that overrides both. A setting that is wrong is
    named, and the exit code is 2. Tokens and passwords are shown as ***.
    """
    sources = list(config.load(settings_path).sources())
    widths = [max(len(text) for text in column) for column in zip(*map(_cells, sources), strict=True)]
    for source in sources:
        click.echo("  ".join(text.ljust(width) for text, width in zip(_cells(source), widths, strict=True)).rstrip())


def _cells(source: config.Source) -> tuple[str, str, str]:
    return source.key, source.text, source.origin


def _run(settings: Settings, roles: tuple[str, ...], log_format: LogFormat) -> None:
    configure_logging("footfall", log_format)
    _warn_of_clock()

    def on_ready() -> None:
        place = _url(settings, roles) or "no port"
        if _is_open(settings, roles):
            place += ", open to the network"
        _log.info(
            "Footfall %s started: %s on %s, data in %s",
            __version__,
            ", ".join(roles),
            place,
            settings.data_path.absolute(),
        )
        click.echo(_welcome(settings, roles))

    exit_code = service.run(settings, roles, on_ready=on_ready)
    _log.info("Footfall %s stopped: %s", __version__, ", ".join(roles))
    sys.exit(exit_code)


def _warn_of_clock() -> None:
    if datetime.now(UTC).date().isoformat() < RELEASED:
        _log.warning(
            "This machine's clock says %s, which is before this version of Footfall was made (%s). Hits get that time; "
            "set the clock",
            datetime.now(UTC).isoformat(timespec="seconds"),
            RELEASED,
        )


def _listener(settings: Settings, roles: tuple[str, ...]) -> CollectorSettings | ReportingSettings | MonitorSettings:
    """The settings with the host and port that the service answers on; one without a port answers nowhere."""
    return settings.collector if COLLECTOR in roles else settings.reporting if REPORTING in roles else settings.monitor


def _url(settings: Settings, roles: tuple[str, ...]) -> str | None:
    """Where the service answers, as this machine reaches it; None for one without a port."""
    listener = _listener(settings, roles)
    return None if listener.port is None else local_url(listener.host, listener.port)


def _is_open(settings: Settings, roles: tuple[str, ...]) -> bool:
    """Whether other machines reach the service."""
    listener = _listener(settings, roles)
    return listener.port is not None and not is_loopback(listener.host)


def _addresses(host: str) -> str:
    """What a listener beyond loopback listens on, in words."""
    return "all addresses of this machine" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - it is only named


def _welcome(settings: Settings, roles: tuple[str, ...]) -> str:
    """Where to look, and what to paste."""
    lines = [f"Footfall {__version__}: {', '.join(roles)}", ""]
    url = _url(settings, roles)
    site = next(iter(settings.sites), "my-site")
    site_id = quote(site, safe="")
    if REPORTING in roles:
        lines.append(f"  pages            {url}/")
    if COLLECTOR in roles:
        lines.append(f"  hits and events  {url}/track, {url}/event and {url}/events")
    if url is not None:
        lines.append(f"  state            {url}/readyz and {url}/ledger")
    if REPORTING in roles:
        lines += [f"  reports          {url}/stats?site_id={site_id}", f"  API              {url}/docs"]
    if STORAGE in roles:
        lines.append(f"  visits log       {settings.storage.path}")
    if settings.queue.url is not None:
        lines.append(f"  queue            {config.masked_url(settings.queue.url)}")
    lines.append(f"  data             {settings.data_path.absolute()}")
    if _is_open(settings, roles):
        listener = _listener(settings, roles)
        lines.append(f"  open to          the network: port {listener.port} of {_addresses(listener.host)}")
    if COLLECTOR in roles:
        browsers_url = settings.collector.browsers_url
        lines += [
            "",
            "Paste this into your pages:",
            "",
            f'  <script defer src="{browsers_url}/script.js" data-site="{escape(site)}"></script>',
            "",
            "or, where scripts are not wanted, this image, which can't tell where a visitor came from:",
            "",
            f'  <img src="{browsers_url}/track?site_id={site_id}" referrerpolicy="no-referrer-when-downgrade" alt="">',
        ]
        if settings.collector.public_url is None:
            lines += [
                "",
                f"{url} is the address on this machine. For pages that others visit, set collector.public_url",
                "to the one that their browsers reach (FOOTFALL__COLLECTOR__PUBLIC_URL=https://stats.example.com).",
            ]
    lines += ["", "Ctrl-C stops it; nothing accepted is lost."]
    return "\n".join(lines)
