"""`footfall serve` with a broker between its roles, and without: events end to end, and what a dead broker changes."""

import http.client
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from bench.load import EVENT, missing, send
from bench.server import Server, footfall, free_port
from bench.table import Cell, Plan, Step, Table, below
from msgspec import Struct

_DEPLOY: Final = Path(__file__).parent.parent / "deploy"
_CALM_RATIO: Final = 1.5
_PAUSE_S: Final = 0.002
"""Between two events of the quiet load: the collector is never the bottleneck."""
_COLUMNS = ["queue", "events/s accepted", "events/s end to end", "of embedded", "p99 ms", "p99 ms, stopped", "ratio"]
_NOTE: Final = (
    "Accepted: by wrk's count. End to end: all accepted, until both sinks have them. p99: of acknowledgements to one "
    "client that sends some hundred events a second, with the broker and while it is stopped; rounds in turn."
)


class _Broker(Struct, frozen=True):
    """How one is started: the script, the variables for its address and its data, and its addresses by port."""

    script: str
    address_variable: str
    directory_variable: str
    address: Callable[[int], str]
    url: Callable[[int], str]


_BROKERS: Final = {
    "Kafka": _Broker(
        "services-kafka",
        "FOOTFALL_TEST_KAFKA",
        "FOOTFALL_TEST_KAFKA_DIR",
        lambda port: f"127.0.0.1:{port}",
        lambda port: f"kafka://127.0.0.1:{port}/bench",
    ),
    "RabbitMQ": _Broker(
        "services-rabbitmq",
        "FOOTFALL_TEST_RABBITMQ",
        "FOOTFALL_TEST_RABBITMQ_DIR",
        lambda port: f"amqp://guest:guest@127.0.0.1:{port}/",
        lambda port: f"amqp://guest:guest@127.0.0.1:{port}/",
    ),
}


class _Switch:
    """A broker of the bench's own."""

    def __init__(self, broker: _Broker, port: int, directory: str) -> None:
        self._script = _DEPLOY / broker.script
        self._environment = os.environ | {
            broker.address_variable: broker.address(port),
            broker.directory_variable: directory,
        }

    def turn(self, state: str) -> None:
        """`start` or `stop` it."""
        subprocess.run([self._script, state], env=self._environment, check=True, stdout=subprocess.DEVNULL)


def steps(plan: Plan) -> int:
    return (1 + len(_BROKERS)) * plan.rounds


def run(plan: Plan, step: Step) -> Table:
    """One after the other, in rounds."""
    why_not = missing("wrk")
    if why_not:
        return Table("With a broker in between", _COLUMNS, [], f"Skipped ({why_not}).")
    names = ["embedded", *_BROKERS]
    accepted: dict[str, list[float]] = {name: [] for name in names}
    ended: dict[str, list[float]] = {name: [] for name in names}
    calm: dict[str, list[tuple[float, float]]] = {name: [] for name in _BROKERS}
    for _ in range(plan.rounds):
        for name in names:
            with _started(name) as (server, switch):
                first, last = _full_load(server, plan.load_s)
                accepted[name].append(first)
                ended[name].append(last)
                if switch is not None:
                    with_it = _p99_ms(server, plan.load_s)
                    switch.turn("stop")
                    calm[name].append((with_it, _p99_ms(server, plan.load_s)))
            step()
    rows: list[list[Cell]] = []
    for name in names:
        share = median(one / other for one, other in zip(ended[name], ended["embedded"], strict=True))
        row: list[Cell] = [name, median(accepted[name]), median(ended[name]), share]
        if name in calm:
            up, down = (median(values) for values in zip(*calm[name], strict=True))
            ratio = median(stopped / running for running, stopped in calm[name])
            row += [up, down, ratio, *below(_CALM_RATIO, ratio, "times")]
        else:
            row += [None] * 5
        rows.append(row)
    return Table("With a broker in between", [*_COLUMNS, "target", "met?"], rows, _NOTE)


@contextmanager
def _started(name: str) -> Iterator[tuple[Server, _Switch | None]]:
    if name not in _BROKERS:
        with footfall("serve") as server:
            yield server, None
        return
    broker = _BROKERS[name]
    with TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        port = free_port()
        switch = _Switch(broker, port, directory)
        switch.turn("start")
        try:
            with footfall("serve", FOOTFALL__QUEUE__URL=broker.url(port)) as server:
                yield server, switch
        finally:
            switch.turn("stop")


def _full_load(server: Server, seconds: int) -> tuple[float, float]:
    """Events a second that were accepted, and that came out at the end."""
    started = time.monotonic()
    load = send(server.url, EVENT, seconds)
    server.settle()
    return load.per_s, load.requests / (time.monotonic() - started)


def _p99_ms(server: Server, seconds: int) -> float:
    """Of acknowledgements, as one client sees them that is in no hurry."""
    connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]), timeout=10)
    body = json.dumps({"site_id": "shop.example", "event_type": "page_view", "path": "/pricing"})
    took = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        started = time.perf_counter()
        connection.request("POST", "/event", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        took.append(time.perf_counter() - started)
        if response.status != http.client.ACCEPTED:
            raise RuntimeError(f"an event was answered {response.status}")
        time.sleep(_PAUSE_S)
    connection.close()
    return sorted(took)[int(len(took) * 0.99)] * 1_000
