"""The metrics of a service, as Prometheus reads them."""

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from footfall import telemetry
from footfall.queue.broker.relay import RELAY
from footfall.queue.local.reader import QueueState
from footfall.status.ledger import Ledger, ledger_of
from footfall.status.refusals import RefusalCounts

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4


class Metrics:
    """Makes the text of `/metrics`; any thread may call it.

    Args:
        state: reads the queue's state.
        sinks: the sinks that the ledger has accounts for.
        refusals: counts refused requests for reports; None if another process counts them.
    """

    def __init__(self, state: Callable[[], QueueState], sinks: tuple[str, ...], refusals: RefusalCounts | None) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_QueueMetrics(state, sinks))
        if refusals is not None:
            self._registry.register(_ReportMetrics(refusals))

    def text(self) -> bytes:
        """All metrics as they are now, in Prometheus' text format."""
        return generate_latest(self._registry)


class _QueueMetrics(Collector):
    """Metrics that are all made from one reading of the queue's state, so that they agree with the ledger."""

    def __init__(self, state: Callable[[], QueueState], sinks: tuple[str, ...]) -> None:
        self._state = state
        self._sinks = sinks

    def collect(self) -> Iterator[Metric]:
        state = self._state()
        yield from _of_ledger(ledger_of(state, self._sinks))
        yield from _of_lag(state)
        yield from _of_relay(state)
        yield GaugeMetricFamily(telemetry.QUEUE_BYTES, "What the queue takes on disk.", state.bytes)


def _of_ledger(ledger: Ledger) -> Iterator[Metric]:
    yield CounterMetricFamily(telemetry.RECEIVED, "Hits and events in the queue for good.", ledger.received)
    yield _counters(telemetry.REFUSED, "Requests that were not recorded.", ledger.refused)
    written = CounterMetricFamily(telemetry.SINK_WRITTEN, "Entries in the sink's output.", labels=["sink"])
    skipped = CounterMetricFamily(
        telemetry.SINK_SKIPPED, "Entries without a place in the sink's output.", labels=["sink", "reason"]
    )
    removed = CounterMetricFamily(
        telemetry.SINK_REMOVED, "Entries that are no longer in the sink's output.", labels=["sink", "reason"]
    )
    pending = GaugeMetricFamily(telemetry.SINK_PENDING, "Entries not dealt with yet.", labels=["sink"])
    for name, account in ledger.sinks.items():
        written.add_metric([name], account.written)
        for reason, count in account.skipped.items():
            skipped.add_metric([name, reason], count)
        for reason, count in account.removed.items():
            removed.add_metric([name, reason], count)
        pending.add_metric([name], account.pending)
    yield from (written, skipped, removed, pending)


def _of_lag(state: QueueState) -> Iterator[Metric]:
    """The lag of each sink, and of the relay, even where the ledger has no account for it."""
    batches = GaugeMetricFamily(telemetry.SINK_LAG_BATCHES, "Batches not dealt with yet.", labels=["sink"])
    seconds = GaugeMetricFamily(
        telemetry.SINK_LAG_SECONDS, "Age of the oldest batch not dealt with yet.", labels=["sink"]
    )
    for name, lag in state.lag_batches.items():
        batches.add_metric([name], lag)
        seconds.add_metric([name], state.lag_seconds[name])
    assignments = GaugeMetricFamily(
        telemetry.SINK_HAS_ASSIGNMENT, "Whether a consumer here has an assignment.", labels=["sink"]
    )
    for name, has_assignment in state.has_assignment.items():
        assignments.add_metric([name], has_assignment)
    yield from (batches, seconds, assignments)


def _of_relay(state: QueueState) -> Iterator[Metric]:
    if state.relay is None:
        return
    report = state.sinks.get(RELAY)
    entries = 0 if report is None else report.written
    yield CounterMetricFamily(telemetry.RELAY_CONFIRMED, "Messages that the broker has.", state.relay.confirmed)
    yield CounterMetricFamily(telemetry.RELAY_CONFIRMED_ENTRIES, "Entries that the broker has.", entries)
    yield CounterMetricFamily(telemetry.RELAY_FAILED, "Messages that are published again.", state.relay.failed)


class _ReportMetrics(Collector):
    def __init__(self, refusals: RefusalCounts) -> None:
        self._refusals = refusals

    def collect(self) -> Iterator[Metric]:
        yield _counters(
            telemetry.REPORTS_REFUSED, "Requests for reports that were not answered.", self._refusals.totals()
        )


def _counters(name: str, description: str, counts: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, description, labels=["reason"])
    for reason, count in counts.items():
        family.add_metric([reason], count)
    return family
