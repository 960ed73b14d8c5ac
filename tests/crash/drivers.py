"""Small programs that write what Footfall writes, each in one process, to be killed at any system call.

`python drivers.py NAME DIRECTORY SOCKET` goes on in DIRECTORY from where its state says until `LAST`. It tells the
Unix socket SOCKET (an inherited descriptor) how far it has come: once at its start, as it finds it, then after every
step that is done. So what it tells never goes down, however often it is killed and started again.
"""

import socket
import sys
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import NamedTuple

from footfall.commands.import_log import import_log
from footfall.commands.logfile import LogFile
from footfall.database.duckdb.file import open_database
from footfall.database.duckdb.writer import DuckdbSink
from footfall.entry import Event, Hit, decode_entries, encode_entries
from footfall.queue.base import Batch, Progress
from footfall.queue.local.store import LocalQueue
from footfall.queue.sink import SINKS, Sink
from footfall.visit_log.line import parse_line
from footfall.visit_log.writer import VisitLog

LAST = 12
"""Steps that a driver takes in all."""

Tell = Callable[[int], None]

_SOURCE = "a"
_ADDRESS = "192.0.2.1"
_QUEUE_BYTES = 1024 * 1024
_BATCH_BYTES = 30_000
"""So that the queue holds more than its margin, a quarter of that limit, and drops batches."""
_KEPT = 3
"""Batches that the sinks have not passed yet."""

_LINES = 4_500
_LINE = '{address} - - [12/Nov/2025:09:30:00 +0000] "GET / HTTP/1.1" 200 1 "-" "{number}"\n'
_CLOCK_STEP_NS = 20 * 10**9
"""From one look at the clock to the next: a checkpoint is due after 60 seconds, so every few writes make one."""


class Driver(NamedTuple):
    """One sort of work.

    Attributes:
        prepare: put into an empty directory what the work needs.
        run: do it, from where the directory's state says.
        check: assert that all of it is done once, after a `run` that came to its end.
    """

    prepare: Callable[[Path], None]
    run: Callable[[Path, Tell], None]
    check: Callable[[Path], None]


def _prepare_nothing(_directory: Path) -> None:
    pass


# The queue: each batch holds its own number, and a payload of its own length.


def _payload(number: int) -> bytes:
    return b"%05d " % number * (_BATCH_BYTES // 6 + number)


def _open_queue(directory: Path) -> LocalQueue:
    return LocalQueue(directory / "queue.sqlite", sinks=SINKS, max_bytes=_QUEUE_BYTES)


def _append(directory: Path, tell: Tell) -> None:
    with closing(_open_queue(directory)) as queue:
        done = queue.state().received
        tell(done)
        for number in range(done + 1, LAST + 1):
            queue.append(_payload(number), 1)
            tell(number)
            passed = [batch.sequence for batch in queue.read(0)][:-_KEPT]
            for sink in SINKS if passed else ():
                queue.report(sink, Progress(passed[-1], passed[-1]))
            queue.trim()


def _check_queue(directory: Path) -> None:
    with closing(_open_queue(directory)) as queue:
        payloads = [batch.payload for batch in queue.read(0)]
        assert LAST == queue.state().received
        assert LAST > len(payloads) >= _KEPT
        assert [_payload(number) for number in range(LAST - len(payloads) + 1, LAST + 1)] == payloads


# A sink: most batches are small, one takes many pages; each hit and event tells where it belongs.


def _names(sequence: int) -> list[str]:
    return [f"{sequence}:{number}" for number in range(2_000 if sequence == LAST // 2 else 1 + sequence % 3)]


def _batch(sequence: int) -> Batch:
    entries: list[Hit | Event] = []
    for name in _names(sequence):
        entries.append(Hit(0, _ADDRESS, b"", name.encode(), "site", name))
        entries.append(Event(0, _ADDRESS, b"", "site", "page_view", name, event_id=name))
    return Batch(_SOURCE, sequence, 0, len(entries), encode_entries(entries))


def _fill(sink: Sink, tell: Tell, after: Callable[[int], None] = lambda _: None) -> None:
    done = sink.progress().get(_SOURCE, Progress()).sequence
    tell(done)
    for sequence in range(done + 1, LAST + 1):
        sink.write([_batch(sequence)])
        tell(sequence)
        after(sequence)


def _all_names() -> list[str]:
    return [name for sequence in range(1, LAST + 1) for name in _names(sequence)]


def _write_log(directory: Path, tell: Tell) -> None:
    path = directory / "visits.log"

    def rotate(sequence: int) -> None:
        if sequence % 5 == 0:
            path.rename(directory / f"visits.log.{sequence:03}")

    with closing(VisitLog(path, directory)) as sink:
        _fill(sink, tell, rotate)


def _check_log(directory: Path) -> None:
    files = [*sorted(directory.glob("visits.log.0*")), directory / "visits.log"]
    lines = "".join(path.read_text("utf-8") for path in files).split("\n")
    assert "" == lines.pop()
    assert _all_names() == [parse_line(line).user_agent.decode() for line in lines]


def _write_database(directory: Path, tell: Tell) -> None:
    clock = count(1, _CLOCK_STEP_NS)
    with (
        closing(open_database(directory / "footfall.duckdb")) as database,
        closing(DuckdbSink(database, clock=lambda: next(clock))) as sink,
    ):
        _fill(sink, tell)


def _check_database(directory: Path) -> None:
    with closing(open_database(directory / "footfall.duckdb")) as database:
        paths = [path for (path,) in database.execute("SELECT path FROM events ORDER BY rowid").fetchall()]
    assert [f"/{name}" for name in _all_names() for _ in ("hit", "event")] == paths


# An import: one step.


def _prepare_import(directory: Path) -> None:
    lines = (_LINE.format(address=_ADDRESS, number=number) for number in range(_LINES))
    (directory / "access.log").write_text("".join(lines), "utf-8")


def _import(directory: Path, tell: Tell) -> None:
    with LogFile(directory / "access.log") as log, closing(LocalQueue(directory / "queue", sinks=SINKS)) as queue:
        tell(queue.state().received)
        import_log(log, queue, site_id="site")
        tell(_LINES)


def _check_import(directory: Path) -> None:
    with closing(LocalQueue(directory / "queue", sinks=SINKS)) as queue:
        hits = [hit for batch in queue.read(0) for hit in decode_entries(batch.payload)]
    assert [b"%d" % number for number in range(_LINES)] == [hit.user_agent for hit in hits]


DRIVERS = {
    "queue": Driver(_prepare_nothing, _append, _check_queue),
    "visit_log": Driver(_prepare_nothing, _write_log, _check_log),
    "database": Driver(_prepare_nothing, _write_database, _check_database),
    "import": Driver(_prepare_import, _import, _check_import),
}


def main(name: str, directory: Path, told: socket.socket) -> None:
    def tell(number: int) -> None:
        told.send(b"%d\n" % number)  # none of the system calls that are killed at

    DRIVERS[name].run(directory, tell)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), socket.socket(fileno=int(sys.argv[3])))
