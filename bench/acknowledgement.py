"""What a commit of the queue costs beside writing the same bytes to a plain file and syncing it."""

import os
import time
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

from bench.sample import entries
from bench.table import Cell, Plan, Step, Table

from footfall.entry import encode_entries
from footfall.queue.local.file import FILE_NAME
from footfall.queue.local.store import LocalQueue
from footfall.queue.sink import SINKS

_SIZES = (1, 50, 500)
_COLUMNS = ["entries", "bytes", "commit µs, p50", "p99", "plain file µs, p50", "p99", "times the plain file"]
_NOTE = "The plain file takes one write and one fdatasync for the same bytes; the two take turns on one disk."


def steps(_plan: Plan) -> int:
    return len(_SIZES)


def run(plan: Plan, step: Step) -> Table:
    """Commits of some sizes, each followed by its reference."""
    rows = []
    for size in _SIZES:
        rows.append(_measure(size, plan.commits))
        step()
    return Table("Acknowledgement: one commit of the queue", _COLUMNS, rows, _NOTE)


def _measure(size: int, commits: int) -> list[Cell]:
    made = entries(size * commits)
    payloads = [encode_entries(made[start : start + size]) for start in range(0, len(made), size)]
    commit_us, plain_us = [], []
    with TemporaryDirectory() as directory, Path(directory, "plain").open("ab", buffering=0) as file:
        queue = LocalQueue(Path(directory, FILE_NAME), sinks=SINKS)
        for payload in payloads:
            started = time.perf_counter()
            queue.append(payload, size)
            committed = time.perf_counter()
            file.write(payload)
            os.fdatasync(file.fileno())
            commit_us.append((committed - started) * 1e6)
            plain_us.append((time.perf_counter() - committed) * 1e6)
        queue.close()
    p50, plain_p50 = median(commit_us), median(plain_us)
    mean_bytes = sum(map(len, payloads)) // commits
    return [size, mean_bytes, p50, _p99(commit_us), plain_p50, _p99(plain_us), p50 / plain_p50]


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98]
