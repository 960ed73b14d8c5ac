from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families

from footfall.queue.account import RelayAccount
from footfall.queue.base import SinkReport
from footfall.queue.local.reader import QueueState
from footfall.status.metrics import Metrics
from footfall.status.refusals import RefusalCounts

STATE = QueueState(
    received=10,
    refused={"invalid": 2},
    last_sequence=7,
    sinks={"visit_log": SinkReport(7, 7, 6, {"no_address": 3}, "", None), "relay": SinkReport(7, 7, 9, {}, "", None)},
    lag_batches={"visit_log": 1},
    lag_seconds={"visit_log": 0.5},
    bytes=4096,
    has_assignment={"visit_log": True},
    relay=RelayAccount(4, 1),
)


def read(metrics: Metrics) -> dict[str, float]:
    """Each sample by its name and labels."""
    return {
        ",".join([sample.name, *sorted(sample.labels.values())]): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def always(state: QueueState) -> Callable[[], QueueState]:
    return lambda: state


def test_the_state_of_a_queue() -> None:
    """Every figure of it under the name that the operations guide gives."""
    assert {
        "footfall_received_total": 10,
        "footfall_refused_total,invalid": 2,
        "footfall_sink_written_total,visit_log": 6,
        "footfall_sink_skipped_total,no_address,visit_log": 3,
        "footfall_sink_pending,visit_log": 1,
        "footfall_sink_lag_batches,visit_log": 1,
        "footfall_sink_lag_seconds,visit_log": 0.5,
        "footfall_sink_has_assignment,visit_log": 1,
        "footfall_relay_confirmed_total": 4,
        "footfall_relay_confirmed_entries_total": 9,
        "footfall_relay_failed_total": 1,
        "footfall_queue_bytes": 4096,
    } == read(Metrics(always(STATE), ("visit_log",), None))


def test_refused_reports_are_among_them_where_they_are_counted() -> None:
    """Each reason from the start, so that a rate can be made of its first."""
    refusals = RefusalCounts()
    refusals.count("wrong_token")

    figures = read(Metrics(always(STATE), (), refusals))

    assert 1 == figures["footfall_reports_refused_total,wrong_token"]
    assert 0 == figures["footfall_reports_refused_total,not_local"]


def test_the_state_is_read_once_for_each_text() -> None:
    """So the figures are of one moment."""
    reads = []

    def read_state() -> QueueState:
        reads.append(1)
        return STATE

    metrics = Metrics(read_state, ("visit_log",), None)
    before = len(reads)
    metrics.text()

    assert 1 == len(reads) - before
