"""A move into ClickHouse that crashes at each of its named places (`footfall.failpoint`)."""

from contextlib import closing
from pathlib import Path
from secrets import token_hex

import pytest

from clickhouse_server import ClickhouseServer
from footfall.commands.rebuild.clickhouse import ClickhouseHoldings
from footfall.commands.rebuild.holdings import DuckdbHoldings, Holdings
from footfall.database.clickhouse.open import open_clickhouse
from footfall.database.duckdb.file import open_database
from footfall.database.duckdb.writer import DuckdbSink
from footfall.entry import Event, encode_entries
from footfall.failpoint import VARIABLE, Failpoint
from footfall.queue.base import Batch
from footfall.settings import DatabaseSettings
from harness import Footfall

EVENTS = {Failpoint.MOVE_INSERTED: 50_010, Failpoint.MOVE_DONE: 10}
"""One part of a move is there, and some events are not; or all are."""


def held(contents: Holdings) -> tuple[object, ...]:
    """All there is, in an order that does not depend on the database."""
    rows = sorted(contents.rows(DatabaseSettings()), key=str)
    return rows, sorted(contents.event_ids()), sorted(contents.salts()), contents.progress()


@pytest.mark.crash
@pytest.mark.xdist_group("clickhouse")
@pytest.mark.parametrize("point", EVENTS)
def test_crash_of_a_move(tmp_path: Path, clickhouse: ClickhouseServer, point: Failpoint) -> None:
    """The same command begins anew, unless everything was there already; nothing is lost or there twice."""
    url = clickhouse.url(f"crash_{token_hex(8)}")
    (tmp_path / "data").mkdir(mode=0o750)
    events = [Event(number, "::1", b"", "shop", "page_view", f"/{number}") for number in range(EVENTS[point])]
    with closing(open_database(tmp_path / "data" / "footfall.duckdb")) as database:
        with closing(DuckdbSink(database)) as sink:
            sink.write([Batch("a", 1, 0, len(events), encode_entries(events))])
        before = held(DuckdbHoldings(database))
    footfall = Footfall(tmp_path, FOOTFALL__DATABASE__URL=url)
    move = ["rebuild", "--from", "duckdb:data/footfall.duckdb"]

    crashed = footfall.set(**{VARIABLE: f"{point}:1"}).command(*move)
    assert -9 == crashed.returncode, crashed.stderr
    again = footfall.unset(VARIABLE).command(*move)

    is_whole = point == Failpoint.MOVE_DONE
    assert ((2, True) if is_whole else (0, False)) == (again.returncode, "has events already" in again.stderr), again
    with closing(open_clickhouse(url)) as moved:
        assert before == held(ClickhouseHoldings(moved))
