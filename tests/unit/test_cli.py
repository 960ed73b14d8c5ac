"""The `footfall` command: what it says to somebody who is new to it."""

from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from footfall.cli import main
from footfall.settings import local_url

LINE = '192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET /about HTTP/1.1" 200 512 "https://news.example/" "Mozilla/5.0"'


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without settings."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="footfall")


def commands() -> list[str]:
    return main.list_commands(click.Context(main))


def test_every_command_is_shown_with_what_it_is_for() -> None:
    """The first page names each one twice: among the examples, and in the list."""
    shown = call("--help").output
    for command in commands():
        assert f"footfall {command}" in shown
        assert f"\n  {command} " in shown


@pytest.mark.parametrize("command", commands())
def test_every_command_explains_itself(command: str) -> None:
    """How it is called, what each option does, and more than one sentence."""
    shown = call(command, "--help").output
    assert shown.startswith(f"Usage: footfall {command}")
    assert "Read settings from FILE" in shown
    assert shown.count(".") > 2


@pytest.mark.parametrize(
    ("host", "public_url", "address"),
    [
        (None, None, "http://127.0.0.1:8000"),
        ("0.0.0.0", None, "http://127.0.0.1:8000"),
        ("::", None, "http://[::1]:8000"),
        ("192.0.2.1", None, "http://192.0.2.1:8000"),
        ("0.0.0.0", "https://stats.example", "https://stats.example"),
        (None, "https://stats.example/footfall/", "https://stats.example/footfall"),
    ],
)
def test_the_snippet_has_the_address_that_browsers_reach(
    monkeypatch: pytest.MonkeyPatch, host: str | None, public_url: str | None, address: str
) -> None:
    """Where it is not known, the start says so, and which setting to change."""

    def run(_settings: object, _roles: object, *, on_ready: Callable[[], None]) -> int:
        on_ready()
        return 0

    monkeypatch.setattr("footfall.cli.service.run", run)
    for key, value in (("HOST", host), ("PUBLIC_URL", public_url)):
        if value is not None:
            monkeypatch.setenv(f"FOOTFALL__COLLECTOR__{key}", value)

    shown = call("run", "collector", "reporting").output

    assert f"  pages            {local_url(host or '127.0.0.1', 8000)}/\n" in shown
    assert (host is not None) == ("open to          the network: port 8000 of " in shown)
    assert (host is not None) == ("8000, open to the network, data in" in shown)
    assert f'<script defer src="{address}/script.js"' in shown
    assert f'<img src="{address}/track?site_id=my-site"' in shown
    assert (public_url is None) == ("\n\nhttp" in shown and "set collector.public_url\n" in shown)


def test_the_line_that_is_shown_can_be_imported(place: Path) -> None:
    """Whoever compares their log with it is not misled."""
    assert LINE in call("import", "--help").output
    (place / "access.log").write_text(LINE + "\n")
    assert call("import", "access.log", "--site-id", "my-site").output.endswith("1 hit sent\n")


def test_a_file_that_is_no_access_log_is_told(place: Path) -> None:
    """Nothing is sent, of other files neither, and the formats that are understood are named."""
    (place / "notes.txt").write_text("hello\nworld\n")
    (place / "access.log").write_text(LINE + "\n")
    result = call("import", "access.log", "notes.txt", "--site-id", "my-site")
    assert (2, "") == (result.exit_code, result.stdout)
    assert "notes.txt is in no format that is understood" in result.stderr
    assert "Combined Log Format" in result.stderr


def test_an_import_says_what_it_took_for_granted(place: Path) -> None:
    """The format, and which host is the site's own; each of several files has its summary."""
    (place / "one.log").write_text(LINE + "\n" + LINE.replace("/about", "/a.css") + "\n")
    (place / "two.log").write_text("www.example.com:80 " + LINE + "\n")
    (place / "none.log").touch()
    result = call("import", "one.log", "two.log", "none.log", "--site-id", "my-site")
    assert "one.log: 2 hits sent\ntwo.log: 1 hit sent\nnone.log is empty\n" == result.stdout
    assert [
        "one.log: Combined Log Format. Its pages are on news.example, which is no source (--host).",
        "two.log: Combined Log Format behind a virtual host",
    ] == result.stderr.splitlines()


def test_lines_that_were_to_be_left_out_are_counted_and_not_listed(place: Path) -> None:
    """Nothing is wrong with them; a line that can't be read is named."""
    lines = [LINE, LINE.replace("/about", "/a.css"), LINE.rstrip('"')]
    (place / "access.log").write_text("\n".join(lines) + "\n")
    result = call("import", "access.log", "--site-id", "my-site", "--only-pages")
    assert [
        "1 hit sent",
        "1 skipped: no closing quote of the user agent (line 3)",
        "1 skipped: not a document",
    ] == result.stdout.splitlines()


def test_an_import_takes_a_sites_hosts_from_the_settings(place: Path) -> None:
    """What its owner has listed is not guessed at; `--host` says otherwise."""
    (place / "appsettings.json").write_text('{"sites": {"my-site": {"domains": ["blog.example"]}}}')
    (place / "access.log").write_text(LINE.replace("/about", "/a.css") + "\n")
    assert "Its pages are on blog.example," in call("import", "access.log", "--site-id", "my-site").stderr
    assert (
        "Its pages are on a.example,"
        in call("import", "access.log", "--site-id", "my-site", "--host", "a.example").stderr
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serv"], "No such command 'serv'"),
        (["run"], "Choose from"),
        (["run", "web"], "'web' is not one of 'collector', 'storage', 'processor', 'reporting'"),
        (["run", "reporting"], "footfall run processor reporting"),
        (["import", "access.log"], "Missing option '--site-id'"),
        (["import", "absent.log", "--site-id", "a"], "absent.log can't be read: No such file or directory"),
        (["import", ".", "--site-id", "a"], "is not a regular file"),
        (["serve", "--settings", "absent.json"], "absent.json: there is no such file (--settings)"),
        (["serve", "--port", "9000"], "No such option '--port'"),
    ],
)
def test_a_wrong_call_is_told(arguments: list[str], said: str) -> None:
    """In one sentence, without a traceback, and with the exit code of wrong usage."""
    result = call(*arguments)
    assert (2, True) == (result.exit_code, said in result.stderr), result.stderr
