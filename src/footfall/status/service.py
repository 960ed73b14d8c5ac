"""What a running Footfall says of itself: alive, ready, the ledger, the metrics."""

import threading
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from footfall import telemetry
from footfall.queue.broker.relay import RELAY
from footfall.queue.local.store import QueueState
from footfall.status.refusals import RefusalCounts

PATHS: Final = frozenset({"/healthz", "/readyz", "/ledger", "/metrics"})

READY: Final = "ready"
"""What `/readyz` says of a role that can do its work."""

Check = Callable[[], str | None]
"""Why a role can't do its work now, or None."""


class Answer(Struct, frozen=True):
    status: int
    content_type: str
    body: bytes


class SinkLedger(Struct, frozen=True):
    """What became of the received entries in one sink; `pending` is what it has not dealt with yet."""

    written: int
    skipped: dict[str, int]
    pending: int


class Ledger(Struct, frozen=True):
    """The account of everything: for each sink, received = written + skipped + pending."""

    received: int
    refused: dict[str, int]
    sinks: dict[str, SinkLedger]


def ledger_of(state: QueueState, sinks: tuple[str, ...]) -> Ledger:
    accounts = {}
    for name in sinks:
        report = state.sinks.get(name)
        written = report.written if report else 0
        skipped = report.skipped if report else {}
        accounts[name] = SinkLedger(written, skipped, state.received - written - sum(skipped.values()))
    return Ledger(state.received, state.refused, accounts)


class ServiceStatus:
    """Answers `PATHS`; any thread may call it.

    Args:
        state: reads the queue's state; called by one thread at a time.
        sinks: the sinks the ledger has accounts for.
        checks: by role, why it can't do its work.
        refusals: of reports; None where they are told elsewhere.
    """

    def __init__(
        self,
        state: Callable[[], QueueState],
        *,
        sinks: tuple[str, ...],
        checks: Mapping[str, Check],
        refusals: RefusalCounts | None = None,
    ) -> None:
        self._state = state
        self._sinks = sinks
        self._checks = checks
        self._lock = threading.Lock()
        self._registry = CollectorRegistry()
        self._registry.register(_QueueMetrics(self._read, sinks))
        if refusals is not None:
            self._registry.register(_ReportMetrics(refusals))

    def answer(self, path: str) -> Answer:
        """The answer to a GET of one of `PATHS`."""
        if path == "/healthz":
            return _json(HTTPStatus.OK, {"status": "alive"})
        if path == "/readyz":
            return self._readiness()
        if path == "/ledger":
            return _json(HTTPStatus.OK, ledger_of(self._read(), self._sinks))
        return Answer(HTTPStatus.OK, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self._registry))

    def _readiness(self) -> Answer:
        troubles = {role: trouble for role, check in self._checks.items() if (trouble := check()) is not None}
        if troubles:
            return _json(HTTPStatus.SERVICE_UNAVAILABLE, {"status": "not ready", "roles": troubles})
        return _json(HTTPStatus.OK, {"status": "ready", "roles": dict.fromkeys(self._checks, READY)})

    def _read(self) -> QueueState:
        with self._lock:
            return self._state()


class _QueueMetrics(Collector):
    """The metrics, made from one reading of the queue's state: they can't disagree with the ledger."""

    def __init__(self, state: Callable[[], QueueState], sinks: tuple[str, ...]) -> None:
        self._state = state
        self._sinks = sinks

    def collect(self) -> Iterator[Metric]:
        state = self._state()
        ledger = ledger_of(state, self._sinks)
        yield CounterMetricFamily(telemetry.RECEIVED, "Hits and events in the queue for good.", ledger.received)
        refused = CounterMetricFamily(telemetry.REFUSED, "Requests that were not recorded.", labels=["reason"])
        for reason, count in ledger.refused.items():
            refused.add_metric([reason], count)
        yield refused
        written = CounterMetricFamily(telemetry.SINK_WRITTEN, "Entries in the sink's output.", labels=["sink"])
        skipped = CounterMetricFamily(
            telemetry.SINK_SKIPPED, "Entries without a place in the sink's output.", labels=["sink", "reason"]
        )
        pending = GaugeMetricFamily(telemetry.SINK_PENDING, "Entries not dealt with yet.", labels=["sink"])
        batches = GaugeMetricFamily(telemetry.SINK_LAG_BATCHES, "Batches not dealt with yet.", labels=["sink"])
        seconds = GaugeMetricFamily(
            telemetry.SINK_LAG_SECONDS, "Age of the oldest batch not dealt with yet.", labels=["sink"]
        )
        for name, account in ledger.sinks.items():
            written.add_metric([name], account.written)
            for reason, count in account.skipped.items():
                skipped.add_metric([name, reason], count)
            pending.add_metric([name], account.pending)
        # The relay's, too, which has an account of its own only where there is no sink.
        for name, lag in state.lag_batches.items():
            batches.add_metric([name], lag)
            seconds.add_metric([name], state.lag_seconds[name])
        assignments = GaugeMetricFamily(
            telemetry.SINK_HAS_ASSIGNMENT, "Whether a consumer here has an assignment.", labels=["sink"]
        )
        for name, has_assignment in state.has_assignment.items():
            assignments.add_metric([name], has_assignment)
        yield from (written, skipped, pending, batches, seconds, assignments)
        if state.relay is not None:
            report = state.sinks.get(RELAY)
            entries = 0 if report is None else report.written
            yield CounterMetricFamily(telemetry.RELAY_CONFIRMED, "Messages that the broker has.", state.relay.confirmed)
            yield CounterMetricFamily(telemetry.RELAY_CONFIRMED_ENTRIES, "Entries that the broker has.", entries)
            yield CounterMetricFamily(telemetry.RELAY_FAILED, "Messages that are published again.", state.relay.failed)
        yield GaugeMetricFamily(telemetry.QUEUE_BYTES, "What the queue takes on disk.", state.bytes)


class _ReportMetrics(Collector):
    def __init__(self, refusals: RefusalCounts) -> None:
        self._refusals = refusals

    def collect(self) -> Iterator[Metric]:
        refused = CounterMetricFamily(
            telemetry.REPORTS_REFUSED, "Requests for reports that were not answered.", labels=["reason"]
        )
        for reason, count in self._refusals.totals().items():
            refused.add_metric([reason], count)
        yield refused


def _json(status: HTTPStatus, content: object) -> Answer:
    return Answer(status, "application/json", msgspec.json.encode(content))
