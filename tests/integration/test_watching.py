"""What a Footfall with a real broker tells those who watch it: metrics, and traces to a real receiver."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

from brokers import BROKERS, require, some_topic
from footfall import telemetry
from harness import Footfall, eventually


class Receiver:
    """OTLP over HTTP: what a program sends to `url` is in `spans`, by the program's `service.name`."""

    def __init__(self) -> None:
        self.spans: dict[str, list[Span]] = {}
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.take(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def take(self, body: bytes) -> None:
        for of_service in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = [a.value.string_value for a in of_service.resource.attributes if a.key == "service.name"]
            for of_scope in of_service.scope_spans:
                self.spans.setdefault(names[0], []).extend(of_scope.spans)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture(params=sorted(BROKERS))
def footfall(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Footfall]:
    """`footfall serve` with a broker, not started yet."""
    instance = Footfall(tmp_path, FOOTFALL__QUEUE__URL=require(request.param).url(some_topic()))
    yield instance
    instance.kill()


def test_a_write_is_traced_back_to_the_relay(footfall: Footfall, receiver: Receiver) -> None:
    """Both outputs wrote what the relay sent; the last spans are sent when Footfall stops."""
    footfall.set(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url).start()
    assert 202 == footfall.post().status_code
    footfall.settle()
    assert 0 == footfall.stop()

    sent = {(span.trace_id, span.span_id) for span in receiver.spans.pop("footfall-relay")}

    assert 1 == len(sent)
    assert dict.fromkeys(("footfall-visit_log", "footfall-database"), sent) == {
        name: {(link.trace_id, link.span_id) for span in spans for link in span.links}
        for name, spans in receiver.spans.items()
    }


def test_a_variable_that_can_not_be_used_ends_the_start(footfall: Footfall) -> None:
    """With its name, and no traceback."""
    process = footfall.set(OTEL_TRACES_EXPORTER="zipkin").spawn()

    assert 2 == process.wait(30)
    assert "OTEL_TRACES_EXPORTER: must be otlp" in footfall.output()
    assert "Traceback" not in footfall.output()


def test_metrics_tell_what_the_relay_did_and_whose_turn_it_is(footfall: Footfall) -> None:
    """The relay and both consumers are processes of their own; the collector tells of them."""
    footfall.start()
    assert 202 == footfall.post().status_code
    footfall.settle()

    def metrics() -> dict[tuple[str, str | None], float]:
        families = text_string_to_metric_families(httpx.get(f"{footfall.url}/metrics").text)
        return {
            (family.name, sample.labels.get("sink")): sample.value
            for family in families
            if family.name.startswith("footfall_relay_") or family.name == telemetry.SINK_HAS_ASSIGNMENT
            for sample in family.samples
        }

    expected: dict[tuple[str, str | None], float] = {
        (telemetry.RELAY_CONFIRMED, None): 1,
        (telemetry.RELAY_CONFIRMED_ENTRIES, None): 1,
        (telemetry.RELAY_FAILED, None): 0,
        (telemetry.SINK_HAS_ASSIGNMENT, "visit_log"): 1,
        (telemetry.SINK_HAS_ASSIGNMENT, "database"): 1,
    }
    eventually(expected, metrics)
