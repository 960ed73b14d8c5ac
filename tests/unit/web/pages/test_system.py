"""The page that shows what became of every hit."""

import pytest

from footfall.queue.base import SinkReport
from footfall.queue.local.reader import QueueState
from footfall.status.service import ServiceStatus
from footfall.web.pages.system import page


@pytest.mark.parametrize(
    ("written", "skipped", "verdict"),
    [
        (3, {}, "Nothing that was accepted is lost. Every hit and event is accounted for."),
        (2, {}, "Nothing that was accepted is lost. On the way from the queue: 1."),
        (1, {"event": 1, "duplicate": 1}, "Nothing that was accepted is lost. Every hit and event is accounted for."),
        (2, {"lost": 1}, "Lost: 1. The log says why."),
        (1, {"unreadable": 1, "lost": 1}, "Lost: 2. The log says why."),
    ],
)
def test_what_is_lost_is_said(written: int, skipped: dict[str, int], verdict: str) -> None:
    """The page says that nothing is lost where the ledger says so, too, and otherwise how much is."""
    state = QueueState(3, {}, 1, {"database": SinkReport(1, 1, written, skipped, "", None)}, {}, {}, 4096)
    status = ServiceStatus(lambda: state, sinks=("database",), checks={})

    assert verdict in page(status, has_login=False)
