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


def test_why_something_is_left_out_is_said() -> None:
    """Events have no line in the visits log; the page says that it is because they are events."""
    skipped = {"event": 1, "no_address": 1, "duplicate": 1}
    state = QueueState(3, {}, 1, {"visit_log": SinkReport(1, 1, 0, skipped, "", None)}, {}, {}, 4096)
    status = ServiceStatus(lambda: state, sinks=("visit_log",), checks={})

    shown = page(status, has_login=False)

    assert "left out (event, no address): <b>2</b>" in shown
    assert "sent again, counted once: <b>1</b>" in shown
