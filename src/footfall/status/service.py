"""What a running service says about itself: health, readiness, the ledger and the metrics."""

import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from msgspec import Struct

from footfall.queue.local.reader import QueueState
from footfall.status import metrics
from footfall.status.ledger import ledger_of
from footfall.status.metrics import Metrics
from footfall.status.readiness import Check, readiness_of
from footfall.status.refusals import RefusalCounts

PATHS: Final = frozenset({"/healthz", "/readyz", "/ledger", "/metrics"})


class Answer(Struct, frozen=True):
    """The answer to a GET of one of `PATHS`."""

    status: int
    content_type: str
    body: bytes


class ServiceStatus:
    """Answers `PATHS`; any thread may call it.

    Args:
        state: reads the queue's state; called by one thread at a time.
        sinks: the sinks that the ledger has accounts for.
        checks: by role, the check that says why it can't do its work.
        refusals: counts refused requests for reports; None if another process counts them.
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
        self._metrics = Metrics(self._read, sinks, refusals)

    def answer(self, path: str) -> Answer:
        """The answer to a GET of `path`, which is one of `PATHS`."""
        if path == "/healthz":
            return _json({"status": "alive"})
        if path == "/readyz":
            readiness = readiness_of(self._checks)
            return _json(readiness, HTTPStatus.OK if readiness.is_ready else HTTPStatus.SERVICE_UNAVAILABLE)
        if path == "/ledger":
            return _json(ledger_of(self._read(), self._sinks))
        return Answer(HTTPStatus.OK, metrics.CONTENT_TYPE, self._metrics.text())

    def _read(self) -> QueueState:
        with self._lock:
            return self._state()


def _json(content: object, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    return Answer(status, "application/json", msgspec.json.encode(content))
