"""How fast each sink is on one processor, and how that compares with the least that could be done instead."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.sample import BATCH_ENTRIES, batches
from bench.table import Cell, Plan, Step, Table, at_least

from footfall.database.duckdb.file import open_database
from footfall.database.duckdb.writer import DuckdbSink
from footfall.database.enrich import SALT_BYTES, Skip, enrich
from footfall.entry import decode_entries
from footfall.queue.base import Batch
from footfall.queue.sink import Sink
from footfall.visit_log.writer import VisitLog

_EVENTS_PER_S = 100_000
_LINES_PER_S = 200_000
_GATHERED = 20
"""Batches in a large call: what comes together at 100,000/s between two writes of a consumer, a tenth of a second."""

_COLUMNS = ["sink", "entries a call", "entries/s", "target", "met?", "reference, entries/s", "of the reference"]
_NOTE = """\
From encoded batches to synced output. The reference of DuckDB is its appender with rows that are ready, in transactions
of the same size; both include the checkpoint at the end. That of the visits log is a plain file that takes the same
bytes, with one fdatasync a call."""


def steps(plan: Plan) -> int:
    return 4 * plan.rounds


def run(plan: Plan, step: Step) -> Table:
    """Both sinks, with calls as a busy consumer makes them, and with the smallest."""
    rows: list[list[Cell]] = []
    for name, measure, gathered, target in (
        ("DuckDB", _measure_database, _GATHERED, _EVENTS_PER_S),
        ("DuckDB", _measure_database, 1, None),
        ("visits log", _measure_log, _GATHERED, _LINES_PER_S),
        ("visits log", _measure_log, 1, None),
    ):
        calls = plan.sink_calls if gathered > 1 else 5 * plan.sink_calls
        rounds = []
        # A process that has no threads yet: each stays on the processor on which it is made.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_stay_on_one_processor) as child:
            for _ in range(plan.rounds):
                rounds.append(child.submit(measure, calls, gathered).result())
                step()
        entries = calls * gathered * BATCH_ENTRIES
        speed, reference = (median(entries / seconds for seconds in column) for column in zip(*rounds, strict=True))
        ratio = median(reference_s / sink_s for sink_s, reference_s in rounds)
        rows.append([name, gathered * BATCH_ENTRIES, speed, *at_least(target, speed), reference, ratio])
    return Table("Sinks, on one processor", _COLUMNS, rows, _NOTE)


def _stay_on_one_processor() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _measure_database(calls: int, gathered: int) -> tuple[float, float]:
    """Seconds of the sink, and of the reference."""
    work = _calls(calls, gathered, hits_only=False)
    # Made first, so that the sink finds the names of browsers in its cache, as it does once it has run for a while.
    salts = dict.fromkeys([time.time_ns() // (86_400 * 10**9) - days for days in range(2)], bytes(SALT_BYTES))
    rows = {}
    for payload in {batch.payload for call in work for batch in call}:
        found = [enrich(entry, salts) for entry in decode_entries(payload)]
        rows[payload] = [row for row in found if not isinstance(row, Skip)]
    with TemporaryDirectory() as directory:
        with open_database(Path(directory, "sink.duckdb")) as database:
            sink_s = _seconds(partial(_write_all, DuckdbSink(database), work))
        with open_database(Path(directory, "reference.duckdb")) as database:

            def append_all() -> None:
                for call in work:
                    database.begin()
                    with database.appender("events") as events:
                        for batch in call:
                            events.append_rows(rows[batch.payload])
                    database.commit()
                database.execute("CHECKPOINT")

            return sink_s, _seconds(append_all)


def _measure_log(calls: int, gathered: int) -> tuple[float, float]:
    """Seconds of the sink, and of the reference."""
    work = _calls(calls, gathered, hits_only=True)
    with TemporaryDirectory() as directory:
        log = Path(directory, "visits.log")
        sink_s = _seconds(partial(_write_all, VisitLog(log, Path(directory)), work))
        lines = log.read_bytes().splitlines(keepends=True)
        ends = range(0, len(lines) + 1, gathered * BATCH_ENTRIES)
        texts = [b"".join(lines[start:end]) for start, end in pairwise(ends)]

        def append_all() -> None:
            with Path(directory, "reference.log").open("ab", buffering=0) as file:
                for text in texts:
                    file.write(text)
                    os.fdatasync(file.fileno())

        return sink_s, _seconds(append_all)


def _write_all(sink: Sink, work: Sequence[Sequence[Batch]]) -> None:
    for call in work:
        sink.write(call)
    sink.close()


def _calls(calls: int, gathered: int, *, hits_only: bool) -> list[list[Batch]]:
    made = batches(calls * gathered, hits_only=hits_only)
    return [made[start : start + gathered] for start in range(0, len(made), gathered)]


def _seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
