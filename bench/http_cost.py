"""What a request costs, in processor time of the server, beside nginx answering with its own empty image."""

import time
from collections.abc import Sequence
from statistics import median

from bench.load import EVENT, PIXEL, Load, Request, missing, send
from bench.server import Server, footfall, nginx, uvicorn
from bench.table import Cell, Plan, Step, Table, at_least
from msgspec import Struct

_PIXEL_OF_NGINX = 0.35
_EVENT_OF_NGINX = 0.2
_COMMIT_S = 0.05
"""After the last answer, until the last hit is in the queue for sure."""

_TITLE = "HTTP: processor time a request"
_COLUMNS = ["server", "path", "requests/s", "CPU µs a request", "of nginx", "target", "met?", "p50 ms", "p99 ms"]
_NOTE = """\
wrk with 64 connections; durability=disk. Of nginx: requests for a second of the server's CPU, beside nginx in the same
round; the median of the rounds. The collector's CPU is that of its process alone. That of all processes counts until
every event is in the database and every hit in the visits log. At least {:.2%} of the requests are in the ledger."""


class _Reading(Struct, frozen=True):
    """One load.

    Attributes:
        load: as the client saw it.
        cpu_us: processor time of the process that answers, for each request.
        all_cpu_us: that of all processes, until nothing is pending.
        recorded: the part of the requests that is in the ledger.
    """

    load: Load
    cpu_us: float
    all_cpu_us: float
    recorded: float


def steps(plan: Plan) -> int:
    return 6 * plan.rounds


def run(plan: Plan, step: Step) -> Table:
    """Each server in turn, and that again."""
    why_not = missing("nginx", "wrk")
    if why_not:
        return Table(_TITLE, [], [], f"Skipped: nginx's empty_gif, GET /track and POST /event ({why_not}).")
    with (
        nginx() as reference,
        uvicorn() as framework,
        footfall("run", "collector") as collector,
        footfall("serve") as whole,
    ):
        cases = (
            (reference, PIXEL),
            (framework, PIXEL),
            (collector, PIXEL),
            (collector, EVENT),
            (whole, PIXEL),
            (whole, EVENT),
        )
        rounds = []
        for _ in range(plan.rounds):
            readings = []
            for server, request in cases:
                readings.append(
                    _measure(
                        server,
                        request,
                        plan.load_s,
                        counts=server not in {reference, framework},
                        drains=server is whole,
                    )
                )
                step()
            rounds.append(readings)
    base, image, pixel, event, serve_pixel, serve_event = zip(*rounds, strict=True)
    rows = [
        _row("nginx", "empty_gif", base, base),
        _row("uvicorn, nothing recorded", "the same image", image, base),
        _row("run collector", "/track", pixel, base, _PIXEL_OF_NGINX),
        _row("run collector", "/event", event, base, _EVENT_OF_NGINX),
        _row("serve: collector", "/track", serve_pixel, base),
        _row("serve: all processes", "/track", serve_pixel, base, of_all=True),
        _row("serve: collector", "/event", serve_event, base),
        _row("serve: all processes", "/event", serve_event, base, of_all=True),
    ]
    recorded = min(reading.recorded for readings in rounds for reading in readings)
    return Table(_TITLE, _COLUMNS, rows, _NOTE.format(recorded))


def _measure(server: Server, request: Request, seconds: int, *, counts: bool, drains: bool) -> _Reading:
    received = server.get("/ledger")["received"] if counts else 0
    before = server.cpu_ns()
    load = send(server.url, request, seconds)
    after = server.cpu_ns()
    time.sleep(_COMMIT_S)
    recorded = (server.get("/ledger")["received"] - received) / load.requests if counts else 1.0
    if drains:
        server.settle()
    in_the_end = server.cpu_ns()
    # The second process is the one that answers: the supervisor makes the collector first, nginx its only worker.
    # uvicorn is one process.
    answers = min(1, len(before) - 1)
    cpu_us = (after[answers] - before[answers]) / load.requests / 1_000
    return _Reading(load, cpu_us, (sum(in_the_end) - sum(before)) / load.requests / 1_000, min(1.0, recorded))


def _row(
    server: str,
    path: str,
    readings: Sequence[_Reading],
    base: Sequence[_Reading],
    target: float | None = None,
    *,
    of_all: bool = False,
) -> list[Cell]:
    cpu_us = [reading.all_cpu_us if of_all else reading.cpu_us for reading in readings]
    ratio = median(reference.cpu_us / cpu for reference, cpu in zip(base, cpu_us, strict=True))
    return [
        server,
        path,
        median(reading.load.per_s for reading in readings),
        median(cpu_us),
        ratio,
        *at_least(target, ratio),
        median(reading.load.p50_ms for reading in readings),
        median(reading.load.p99_ms for reading in readings),
    ]
