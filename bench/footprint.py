"""What `footfall serve` takes of a machine on which nothing happens, and how soon it is there."""

import time
from statistics import median

from bench.server import footfall
from bench.table import Cell, Plan, Step, Table, below

_START_S = 3
_MEMORY_MB = 250
_MB = 1_000_000
_NOTE = "Memory once it has taken an event, answered a report and rested. PSS counts pages that processes share once."


def steps(plan: Plan) -> int:
    return plan.rounds


def run(plan: Plan, step: Step) -> Table:
    """Start it a few times, and look at it."""
    starts_s, rss_mb, pss_mb = [], [], []
    for _ in range(plan.rounds):
        with footfall("serve") as server:
            starts_s.append(server.first_answer_s)
            server.client.post("/event", json={"site_id": "a", "event_type": "page_view"}).raise_for_status()
            server.get("/stats", site_id="a")
            time.sleep(plan.idle_s)
            rss_mb.append(server.memory_bytes("Rss") / _MB)
            pss_mb.append(server.memory_bytes("Pss") / _MB)
            processes = len(server.pids())
        step()
    start, rss = median(starts_s), median(rss_mb)
    rows: list[list[Cell]] = [
        ["from the command to the first answered hit, s", start, *below(_START_S, start, "s")],
        [f"resident memory of its {processes} processes, sum of RSS, MB", rss, *below(_MEMORY_MB, rss, "MB")],
        ["the same, sum of PSS, MB", median(pss_mb), None, None],
    ]
    return Table("Footprint of footfall serve, idle", ["what", "median", "target", "met?"], rows, _NOTE)
