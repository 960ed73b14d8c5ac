"""How long until what was accepted can be seen: an event in `/stats`, a hit in the visits log."""

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from statistics import median
from typing import Final

from bench.load import EVENT, missing, send
from bench.server import Server, footfall
from bench.table import Cell, Plan, Step, Table, below

_IDLE_MS: Final = 1_000
_LOADED_MS: Final = 5_000
_MARK_EVERY_S: Final = 0.5
_GIVE_UP_S: Final = 60
_COLUMNS = ["load", "seen", "marks", "median ms", "max ms", "target", "met?"]
_NOTE = "From the moment it is sent until it is seen; a mark is one event and one hit."

_Mark = tuple[Future[float], Future[float]]
"""Milliseconds of its event, and of its hit."""


def steps(plan: Plan) -> int:
    return plan.samples + 1


def run(plan: Plan, step: Step) -> Table:
    """While nothing else happens, and under full load."""
    note = _NOTE
    with footfall("serve") as server, ThreadPoolExecutor(64) as pool:
        idle: list[_Mark] = []
        for number in range(plan.samples):
            # The sinks look for work at intervals of their own; the marks must not fall in step with them.
            time.sleep(random.uniform(0.1, 0.4))
            idle.append(_mark(server, pool, f"idle-{number}", poll_s=0.002))
            wait(idle[-1])
            step()
        rows = _rows("none", idle, _IDLE_MS)
        why_not = missing("wrk")
        if why_not:
            note += f"\nSkipped: full load ({why_not})."
        else:
            rows += _under_load(server, pool, plan.fresh_load_s)
        step()
    return Table("Freshness of footfall serve", _COLUMNS, rows, note)


def _under_load(server: Server, pool: ThreadPoolExecutor, seconds: int) -> list[list[Cell]]:
    loading = pool.submit(send, server.url, EVENT, seconds)

    def settle_ms() -> float:
        wait([loading])
        return server.settle() * 1_000

    settling = pool.submit(settle_ms)
    marks: list[_Mark] = []
    while not loading.done():
        marks.append(_mark(server, pool, f"loaded-{len(marks)}", poll_s=0.05))
        time.sleep(_MARK_EVERY_S)
    rows = _rows(f"{loading.result().per_s:,.0f} events/s", marks, _LOADED_MS)
    return [*rows, ["just over", "nothing pending in the ledger", 1, settling.result(), settling.result(), None, None]]


def _mark(server: Server, pool: ThreadPoolExecutor, name: str, poll_s: float) -> _Mark:
    """Send an event and a hit of that name, and look for each."""
    agent = f"mark {name} here"

    def send_event() -> None:
        server.client.post("/event", json={"site_id": name, "event_type": "page_view"}).raise_for_status()

    def send_hit() -> None:
        server.client.get("/track", headers={"User-Agent": agent}).raise_for_status()

    def event_is_there() -> bool:
        return bool(server.get("/stats", site_id=name)["total_views"])

    def hit_is_there() -> bool:
        return agent.encode() in (server.directory / "visits.log").read_bytes()

    return pool.submit(_time_ms, send_event, event_is_there, poll_s), pool.submit(
        _time_ms, send_hit, hit_is_there, poll_s
    )


def _time_ms(send_it: Callable[[], None], is_there: Callable[[], bool], poll_s: float) -> float:
    started = time.monotonic()
    send_it()
    while not is_there():
        if time.monotonic() - started > _GIVE_UP_S:
            raise TimeoutError(f"not seen after {_GIVE_UP_S} s")
        time.sleep(poll_s)
    return (time.monotonic() - started) * 1_000


def _rows(load: str, marks: Sequence[_Mark], target_ms: int) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for seen, times in zip(("event in /stats", "hit in the visits log"), zip(*marks, strict=True), strict=True):
        took_ms = [time_ms.result() for time_ms in times]
        rows.append([load, seen, len(marks), median(took_ms), max(took_ms), *below(target_ms, max(took_ms), "ms")])
    return rows
