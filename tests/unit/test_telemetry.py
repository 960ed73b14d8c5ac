"""What is logged, as text and as JSON."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from footfall.telemetry import configure_logging

_log = logging.getLogger("footfall.test")


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """Give the root logger back as it was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])


def test_text_says_when_how_bad_and_which_process(capsys: pytest.CaptureFixture[str]) -> None:
    """One line a message."""
    configure_logging("storage", "text")
    _log.warning("the disk is %s", "full")
    assert capsys.readouterr().err.endswith("WARNING storage: the disk is full\n")


def test_json_is_an_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A line feed in a message, or a traceback, ends no line; a process that is forked goes on with the format."""
    configure_logging("footfall", "json")
    configure_logging("storage")
    _log.warning("a\nb \N{EURO SIGN}")
    try:
        int("c")
    except ValueError:
        _log.exception("failed")

    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert ("WARNING", "storage", "a\nb \N{EURO SIGN}") == (first["level"], first["process"], first["message"])
    assert abs(datetime.now(UTC) - datetime.fromisoformat(first["time"])) < timedelta(minutes=1)
    assert "exception" not in first
    assert second["exception"].endswith("'c'")
