"""Logging in: what becomes of a wrong token."""

import logging
from pathlib import Path

import pytest

from footfall.database.duckdb.file import open_database
from footfall.web.pages import session
from web_api import serving


def test_wrong_tokens_of_the_login_page_are_logged_but_not_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody who tries tokens is seen in the log, can't fill it, and what was tried is not there."""
    monkeypatch.setattr(session, "DELAY_S", 0.0)
    with (
        caplog.at_level(logging.WARNING),
        open_database(tmp_path / "footfall.duckdb") as database,
        serving(database, token="open-sesame-and-more") as client,
    ):
        statuses = [client.post("/session", data={"token": f"open-barley-{number}"}).status_code for number in range(3)]

    assert [401] * 3 == statuses
    assert ["a wrong token for reports was given on the login page"] == caplog.messages
