"""Traces across a broker: which write came of which message, and how long each step took.

Off unless OpenTelemetry's own variables
(https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/) ask for them; then nothing of
OpenTelemetry is imported.
"""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from footfall.errors import BadSettingError
from footfall.extras import how_to_install
from footfall.queue.base import Batch

_EXPORTER: Final = "OTEL_TRACES_EXPORTER"
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


class Tracing:
    """Makes spans; this one makes none."""

    def sending(self, batch: Batch) -> AbstractContextManager[dict[str, str]]:
        """A span while a message is published; gives the context that travels with it."""
        del batch
        return nullcontext({})

    def writing(self, sink: str, batches: Sequence[Batch]) -> AbstractContextManager[None]:
        """A span while a sink writes what came from the broker."""
        del sink, batches
        return nullcontext()

    def close(self) -> None:
        """Send what is not sent yet."""


OFF: Final = Tracing()


def open_tracing(url: str | None, name: str) -> Tracing:
    """The tracing that OpenTelemetry's variables ask for.

    Args:
        url: `queue.url`; without a broker there is nothing to trace.
        name: the sink whose spans these are.

    Raises:
        BadSettingError: a variable can't be used; the text names it.
    """
    asks = _asking()
    if url is None or asks is None:
        return OFF
    if os.environ.get(_EXPORTER, "otlp") != "otlp":
        raise BadSettingError(f"{_EXPORTER}: must be otlp, or none for no traces")
    protocol = next((variable for variable in _PROTOCOLS if os.environ.get(variable)), None)
    if protocol is not None and os.environ[protocol] != "http/protobuf":
        raise BadSettingError(f"{protocol}: must be http/protobuf")
    try:
        from footfall.queue.broker.spans import open_spans  # noqa: PLC0415 - an extra

        return open_spans(url, name)
    except ModuleNotFoundError as error:
        raise BadSettingError(
            f"{asks}: traces need {error.name}; install it with: {how_to_install('opentelemetry')}"
        ) from None
    except ValueError as error:
        raise BadSettingError(f"a variable that begins with OTEL_ can't be used: {error}") from None


def _asking() -> str | None:
    """The variable that asks for traces; an empty one counts as none."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    exporter = os.environ.get(_EXPORTER)
    if exporter:
        return None if exporter == "none" else _EXPORTER
    return next((variable for variable in _ENDPOINTS if os.environ.get(variable)), None)
