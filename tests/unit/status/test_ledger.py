from footfall.queue.base import SinkReport
from footfall.queue.local.reader import QueueState
from footfall.status.ledger import Ledger, SinkLedger, ledger_of

STATE = QueueState(
    received=10,
    refused={"invalid": 2},
    last_sequence=7,
    sinks={"database": SinkReport(7, 7, 6, {"no_site": 3}, "", None)},
    lag_batches={},
    lag_seconds={},
    bytes=4096,
)


def test_what_is_neither_written_nor_skipped_is_pending() -> None:
    """Received = written + skipped + pending, and what was refused is no part of it."""
    assert Ledger(10, {"invalid": 2}, {"database": SinkLedger(6, {"no_site": 3}, 1)}) == ledger_of(STATE, ("database",))


def test_all_is_pending_in_a_sink_that_has_not_begun() -> None:
    """Its account is there from the first entry on."""
    assert {"visit_log": SinkLedger(0, {}, 10)} == ledger_of(STATE, ("visit_log",)).sinks
