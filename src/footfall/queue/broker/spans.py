"""Spans by OpenTelemetry, in the terms of its messaging conventions.

They are at https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/, and are not called stable yet.

The relay's `send` is the root of a trace, and its context travels with the message. A consumer's `process` writes many
messages at once, so it is a trace of its own and has a *link* to each message's `send`. Beside the conventions'
attributes are

- `footfall.source`, `footfall.sequence`, `footfall.entries`: the batch that a message holds, at `send`;
- `footfall.source`, `footfall.sequence` at each link, and at `process` the `footfall.entries` of all.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract, inject
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanKind, get_current_span
from opentelemetry.util.types import AttributeValue

from footfall.queue.base import Batch
from footfall.queue.broker.drivers import place_of
from footfall.queue.broker.tracing import Tracing

GRACE_S: Final = 2.0
"""How long the last spans may take to be sent. The SDK would try for 30 s, and a stop is over after 10."""


class Spans(Tracing):
    """A `Tracing` that makes spans.

    Args:
        provider: receives them; handed over.
        url: `queue.url`.
    """

    def __init__(self, provider: TracerProvider, url: str) -> None:
        system, self._destination = place_of(url)
        self._provider = provider
        self._tracer = provider.get_tracer("footfall")
        self._common = {"messaging.system": system, "messaging.destination.name": self._destination}

    @contextmanager
    def sending(self, batch: Batch) -> Iterator[dict[str, str]]:
        attributes = _place(batch) | {"footfall.entries": batch.count}
        with self._span("send", SpanKind.PRODUCER, attributes):
            context: dict[str, str] = {}
            inject(context)
            yield context

    @contextmanager
    def writing(self, sink: str, batches: Sequence[Batch]) -> Iterator[None]:
        if not batches:
            yield  # only the sink's own upkeep
            return
        attributes: dict[str, AttributeValue] = {
            "messaging.batch.message_count": len(batches),
            "messaging.consumer.group.name": f"footfall-{sink}",
            "footfall.entries": sum(batch.count for batch in batches),
        }
        with self._span("process", SpanKind.CONSUMER, attributes, _links(batches)):
            yield

    def close(self) -> None:
        closing = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        closing.start()
        closing.join(GRACE_S)

    @contextmanager
    def _span(
        self, operation: str, kind: SpanKind, attributes: dict[str, AttributeValue], links: Sequence[Link] = ()
    ) -> Iterator[Span]:
        of_operation = {"messaging.operation.name": operation, "messaging.operation.type": operation}
        with self._tracer.start_as_current_span(
            f"{operation} {self._destination}",
            kind=kind,
            attributes=self._common | of_operation | attributes,
            links=links,
        ) as span:
            try:
                yield span
            except Exception as error:
                span.set_attribute("error.type", type(error).__qualname__)
                raise


def _place(batch: Batch) -> dict[str, AttributeValue]:
    return {"footfall.source": batch.source, "footfall.sequence": batch.sequence}


def _links(batches: Sequence[Batch]) -> list[Link]:
    """To the `send` of each batch, if that was traced."""
    links = []
    for batch in batches:
        sent = get_current_span(extract(batch.context)).get_span_context()
        if sent.is_valid:
            links.append(Link(sent, _place(batch)))
    return links


def open_spans(url: str, name: str) -> Spans:
    """Spans that are sent by OTLP over HTTP, as OpenTelemetry's variables say.

    Args:
        url: `queue.url`.
        name: the sink; `service.name` is `footfall-` and this, unless a variable gives it.

    Raises:
        ValueError: a variable can't be used.
    """
    given = OTELResourceDetector().detect().attributes
    resource = Resource.create({"service.name": f"footfall-{name}", **given})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)  # from now on it warns of what it will try again
    return Spans(provider, url)
