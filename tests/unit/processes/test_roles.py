import pytest

from footfall.processes import roles
from footfall.processes.roles import ROLES, validate
from footfall.settings import Settings


@pytest.mark.parametrize("tells", [True, False])
def test_reports_that_answer_nobody_are_told(
    tells: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without a token, and with a kernel that does not tell whose connection it is, the log says what to set."""
    monkeypatch.setattr(roles, "tells_owners", lambda: tells)

    validate(Settings(), ROLES)

    assert tells is ("reporting.token" not in caplog.text)
