"""A disk that stands still for a while under full load: answers wait, and nothing is dropped."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from footfall.queue.local.file import FILE_NAME
from harness import Footfall, eventually
from raw_http import get, parse_answers, post

CONNECTIONS = 300
"""Each may be owed 64 answers: so many requests are more than may wait for a commit."""
REQUESTS = 100
"""Of each connection, sent without waiting for an answer."""
MIB = 1024 * 1024


@contextmanager
def stopped_disk(footfall: Footfall) -> Iterator[None]:
    """No commit of the queue comes to its end: another process holds its lock."""
    with closing(sqlite3.connect(footfall.data_dir / FILE_NAME, timeout=60, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            holder.execute("ROLLBACK")


def request(connection: int, number: int) -> bytes:
    """A hit or an event; which of them it is and where it comes from is in its path."""
    if connection % 2 == 0:
        return get(b"/track?site_id=stall&path=/%03d/%03d" % (connection, number))
    return post(b'{"site_id":"stall","event_type":"page_view","path":"/%03d/%03d"}' % (connection, number))


async def ask(port: int, wire: bytes) -> Counter[int]:
    """Send all, and then read what comes until there is an answer for each request; their statuses."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(wire)
    writer.write_eof()
    statuses = Counter(answer.status for answer in parse_answers(await reader.read()))
    writer.close()
    return statuses


async def crowd(footfall: Footfall, stall_s: float) -> Counter[int]:
    """All statuses that many clients get, while the disk stands still from before their first request on."""
    with stopped_disk(footfall):
        clients = [
            asyncio.ensure_future(ask(footfall.port, b"".join(request(number, turn) for turn in range(REQUESTS))))
            for number in range(CONNECTIONS)
        ]
        await asyncio.sleep(stall_s)
    async with asyncio.timeout(100):
        return sum(await asyncio.gather(*clients), Counter())


def collector_bytes(footfall: Footfall) -> int:
    """The memory of the one process that is neither sink's."""
    pid = footfall.process.pid
    children = set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()))
    [collector] = children - {footfall.holder("visit_log.lock"), footfall.holder("database.lock")}
    peak = next(line for line in Path(f"/proc/{collector}/status").read_text("ascii").splitlines() if "VmHWM" in line)
    return int(peak.split()[1]) * 1024


@pytest.mark.parametrize("stall_s", [0.1, 1.0, 4.0])
def test_a_disk_that_stands_still_costs_nothing(footfall: Footfall, stall_s: float) -> None:
    """All is answered and recorded in the order it was sent, nothing is refused, and memory stays bounded."""
    httpx.get(footfall.start().url + "/track")
    footfall.settle()
    total = CONNECTIONS * REQUESTS
    assert {200: total // 2, 202: total // 2} == asyncio.run(crowd(footfall, stall_s))
    footfall.settle(60)
    ledger = footfall.ledger()
    assert (total + 1, {}) == (ledger["received"], ledger["refused"])
    assert total // 2 + 1 == len(footfall.lines())
    assert collector_bytes(footfall) < 250 * MIB
    footfall.stop()
    recorded: dict[str, list[str]] = {}
    for path, _, _ in footfall.rows("stall"):
        recorded.setdefault(path[:4], []).append(path[5:])
    numbers = [f"{number:03}" for number in range(REQUESTS)]
    assert {f"/{number:03}": numbers for number in range(CONNECTIONS)} == recorded


def test_the_queue_that_fell_behind_answers_at_once_again(footfall: Footfall) -> None:
    """While a commit does not end an image waits for its own; afterwards it waits for nothing."""
    with httpx.Client(base_url=footfall.start().url) as client, stopped_disk(footfall):
        client.get("/track?site_id=first")  # whose commit begins, and does not end
        with pytest.raises(httpx.ReadTimeout):
            eventually(None, lambda: client.get("/track?site_id=next", timeout=0.5).status_code)
    assert 200 == httpx.get(footfall.url + "/track?site_id=last").status_code
    footfall.settle()
    assert 1 == footfall.stats("last")["total_views"]
    assert {} == footfall.ledger()["refused"]
