"""Logging, and the name of every metric.

WARNING: something is not as it should be, nothing was lost. ERROR: something was lost, or somebody must act.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

RECEIVED = "footfall_received"
"""Counter: hits and events that are in the queue for good."""
REFUSED = "footfall_refused"
"""Counter by reason: requests that were not recorded."""
REPORTS_REFUSED = "footfall_reports_refused"
"""Counter by reason: requests for reports that were not answered, since the service was started."""
SINK_WRITTEN = "footfall_sink_written"
"""Counter by sink: entries in its output."""
SINK_SKIPPED = "footfall_sink_skipped"
SINK_REMOVED = "footfall_sink_removed"
"""Counter by sink and reason: entries that have no place in its output."""
SINK_PENDING = "footfall_sink_pending"
"""Gauge by sink: entries received that it has not dealt with yet."""
SINK_LAG_BATCHES = "footfall_sink_lag_batches"
"""Gauge by sink: batches it has not dealt with yet."""
SINK_LAG_SECONDS = "footfall_sink_lag_seconds"
"""Gauge by sink: age of the oldest batch it has not dealt with yet."""
SINK_HAS_ASSIGNMENT = "footfall_sink_has_assignment"
"""Gauge by sink, with a broker: 1 while a consumer here has an assignment, 0 while it stands by."""
RELAY_CONFIRMED = "footfall_relay_confirmed"
"""Counter: messages that the broker has confirmed, since the relay was started."""
RELAY_CONFIRMED_ENTRIES = "footfall_relay_confirmed_entries"
"""Counter: entries that the broker has confirmed."""
RELAY_FAILED = "footfall_relay_failed"
"""Counter: messages that it did not confirm and that are published again, since the relay was started."""
QUEUE_BYTES = "footfall_queue_bytes"
"""Gauge: what the queue takes of `queue.max_bytes`."""


LogFormat = Literal["text", "json"]


def configure_logging(process: str, log_format: LogFormat | None = None) -> None:
    """Log to standard error, one line a message, with the process it comes from.

    Args:
        process: its name.
        log_format: None keeps the one of the process that this one was forked from.
    """
    root = logging.getLogger()
    if log_format is None:
        is_json = any(isinstance(handler.formatter, _JsonFormatter) for handler in root.handlers)
    else:
        is_json = log_format == "json"
    text = logging.Formatter(f"%(asctime)s %(levelname)s {process}: %(message)s")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter(process) if is_json else text)
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # it announces starts and stops, as the supervisor does


class _JsonFormatter(logging.Formatter):
    """A JSON object a line: `time` (ISO 8601, UTC), `level`, `process`, `message`, and `exception` with a traceback."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "process": self._process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
