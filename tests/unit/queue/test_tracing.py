"""Traces from a relay through a message into a consumer, kept in memory; tests/integration sends them."""

import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from footfall.entry import Hit, encode_entries
from footfall.errors import BadSettingError
from footfall.extras import how_to_install
from footfall.queue.base import Batch, Progress, SinkReport
from footfall.queue.broker.envelope import decode_envelope
from footfall.queue.broker.relay import MESSAGE_BYTES, RELAY, Relay
from footfall.queue.broker.spans import Spans
from footfall.queue.broker.tracing import OFF, open_tracing
from footfall.queue.consumer import Consumer
from footfall.queue.sink import VISIT_LOG

KAFKA = "kafka://127.0.0.1:9/hits"
RABBITMQ = "amqp://user:secret@127.0.0.1/?name=visits"
LARGE = b"x" * MESSAGE_BYTES


class Log:
    """A broker that does not answer, as often as it is told to, and then confirms."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.failures = 0

    def publish(self, key: str, value: bytes) -> None:
        del key
        if self.failures:
            self.failures -= 1
            raise OSError("no answer")
        self.messages.append(value)

    def close(self) -> None:
        pass


class Once:
    """A feed with one read in it, and the sink for that."""

    name = VISIT_LOG

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = batches

    def wait_for_assignment(self, stop: threading.Event) -> bool:
        return not stop.is_set()

    def memory(self) -> None:
        return None

    def read(self, positions: Mapping[str, Progress]) -> Sequence[Batch]:
        del positions
        return self._batches

    def report(self, positions: Mapping[str, Progress], trouble: str | None, mark: str) -> None:
        del positions, trouble, mark

    def rest(self, seconds: float, stop: threading.Event) -> None:
        del seconds
        stop.set()

    def may_stop(self, positions: Mapping[str, Progress]) -> bool:
        del positions
        return True

    def progress(self) -> Mapping[str, Progress]:
        return {}

    def mark(self) -> str:
        return ""

    def resume(self, source: str, report: SinkReport | None, read: object) -> None:
        del source, report, read

    def write(self, batches: Sequence[Batch]) -> None:
        assert self._batches == batches

    def close(self) -> None:
        pass


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture(params=[(KAFKA, "kafka", "hits"), (RABBITMQ, "rabbitmq", "visits")], ids=["kafka", "rabbitmq"])
def place(request: pytest.FixtureRequest) -> tuple[str, str, str]:
    """An address, and what the conventions call its system and destination."""
    found: tuple[str, str, str] = request.param
    return found


def spans_into(exporter: InMemorySpanExporter, url: str = KAFKA) -> Spans:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Spans(provider, url)


def publish(log: Log, spans: Spans, *batches: Batch) -> None:
    Relay(log, lambda *_: None, lambda _: None, spans).write(batches)


def batch(sequence: int, before: int, agent: bytes = b"") -> Batch:
    return Batch("here", sequence, 1, 1, encode_entries([Hit(1, None, b"", agent)]), before=before)


def test_a_write_is_linked_to_each_message_that_it_writes(
    exporter: InMemorySpanExporter, place: tuple[str, str, str]
) -> None:
    """Two messages and one write: three traces, and from the last a link into each of the others."""
    url, system, destination = place
    log, spans = Log(), spans_into(exporter, url)
    publish(log, spans, batch(1, 0), batch(2, 1), batch(3, 2, LARGE))
    once = Once([decode_envelope(message).batch() for message in log.messages])
    Consumer(once, once, spans).run(threading.Event())

    first, second, write = exporter.get_finished_spans()

    common = {"messaging.system": system, "messaging.destination.name": destination}
    sending = {"messaging.operation.name": "send", "messaging.operation.type": "send", "footfall.source": "here"}
    assert [
        (f"send {destination}", SpanKind.PRODUCER, common | sending | {"footfall.sequence": 2, "footfall.entries": 2}),
        (f"send {destination}", SpanKind.PRODUCER, common | sending | {"footfall.sequence": 3, "footfall.entries": 1}),
        (
            f"process {destination}",
            SpanKind.CONSUMER,
            common
            | {
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.batch.message_count": 2,
                "messaging.consumer.group.name": "footfall-visit_log",
                "footfall.entries": 3,
            },
        ),
    ] == [(span.name, span.kind, span.attributes) for span in (first, second, write)]
    assert [
        (*identity(first), {"footfall.source": "here", "footfall.sequence": 2}),
        (*identity(second), {"footfall.source": "here", "footfall.sequence": 3}),
    ] == [(link.context.trace_id, link.context.span_id, link.attributes) for link in write.links]
    assert 3 == len({identity(span)[0] for span in (first, second, write)})


def identity(span: ReadableSpan) -> tuple[int, int]:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


def test_a_message_that_is_not_confirmed_is_an_error(exporter: InMemorySpanExporter) -> None:
    """When it is published again, that is another trace."""
    log, spans = Log(), spans_into(exporter)
    log.failures = 1
    with pytest.raises(OSError, match="no answer"):
        publish(log, spans, batch(1, 0))

    publish(log, spans, batch(1, 0))

    failed, sent = exporter.get_finished_spans()
    assert (StatusCode.ERROR, StatusCode.UNSET) == (failed.status.status_code, sent.status.status_code)
    assert failed.attributes is not None
    assert "OSError" == failed.attributes["error.type"]
    assert identity(failed)[0] != identity(sent)[0]


def test_a_sink_s_own_upkeep_is_no_span(exporter: InMemorySpanExporter) -> None:
    """Else each would make one every second for nothing."""
    with spans_into(exporter).writing(VISIT_LOG, []):
        pass

    assert () == exporter.get_finished_spans()


def test_messages_without_a_context_are_written_without_a_link(exporter: InMemorySpanExporter) -> None:
    """Their relay does not trace, or a stranger's text stands there."""
    strange = Batch("here", 1, 1, 0, b"", context={"traceparent": "from here"})

    with spans_into(exporter).writing(VISIT_LOG, [batch(1, 0), strange]):
        pass

    [span] = exporter.get_finished_spans()
    assert () == tuple(span.links)


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """None of OpenTelemetry's, to set some."""
    for name in ("OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_SERVICE_NAME": "web"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        {"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
    ],
    ids=str,
)
def test_off_unless_asked_for(variables: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    """By OpenTelemetry's own variables."""
    for name, value in environment.items():
        variables.setenv(name, value)

    assert OFF is open_tracing(KAFKA, RELAY)


def test_nothing_to_trace_without_a_broker(variables: pytest.MonkeyPatch) -> None:
    """The variables may be there for other programs."""
    variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")

    assert OFF is open_tracing(None, VISIT_LOG)


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER: must be otlp"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL: must be http/protobuf",
        ),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_BSP_MAX_QUEUE_SIZE": "0"}, "OTEL_ can't be used: max_queue_size"),
    ],
)
def test_what_can_not_be_is_refused(variables: pytest.MonkeyPatch, environment: dict[str, str], text: str) -> None:
    """At the start, by the variable's name."""
    for name, value in environment.items():
        variables.setenv(name, value)

    with pytest.raises(BadSettingError, match=text):
        open_tracing(KAFKA, RELAY)


def test_a_missing_extra_is_named(variables: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    variables.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    variables.delitem(sys.modules, "footfall.queue.broker.spans")

    command = re.escape(how_to_install("opentelemetry"))
    with pytest.raises(BadSettingError, match=f"OTEL_EXPORTER_OTLP_ENDPOINT: .* install it with: {command}"):
        open_tracing(KAFKA, RELAY)


def test_off_costs_no_import(variables: pytest.MonkeyPatch) -> None:
    """In none of the processes."""
    variables.setenv("OTEL_SERVICE_NAME", "web")
    program = (
        "import importlib, pkgutil, sys, footfall.processes as p\n"
        "for m in pkgutil.iter_modules(p.__path__): importlib.import_module(f'footfall.processes.{m.name}')\n"
        "from footfall.queue.broker.tracing import OFF, open_tracing\n"
        f"assert open_tracing({KAFKA!r}, 'relay') is OFF\n"
        "print(*(name for name in sys.modules if name.startswith(('opentelemetry', 'google.protobuf'))))\n"
    )

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert ("\n", "") == (ran.stdout, ran.stderr)
