"""The hits that a database has, each to be found there once by its line in the visits log."""

import sqlite3
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Final

import duckdb
import msgspec

from footfall.database.agent import agent_of
from footfall.entry import PAGE_VIEW, Hit
from footfall.referrer import text_of, without_query

_CACHE_KIB: Final = 65_536
_CHUNK_ROWS: Final = 10_000
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - the database holds UTC without saying so


class KnownHits:
    """Hits that need not be taken from the visits log.

    A hit is known by its second, its user agent and its referrer up to the query: what the database and the log both
    have of it, whatever they leave out. As many lines are known as there are such rows. A row from before the user
    agent was kept is known by the other two.

    What is too much for the memory, SQLite keeps in a temporary file.
    """

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute(
            "CREATE TABLE hits (second INTEGER, core BLOB, count INTEGER, PRIMARY KEY (second, core)) WITHOUT ROWID"
        )
        self._db.execute("BEGIN")

    def add(self, database: duckdb.DuckDBPyConnection) -> None:
        """Know all page views of a database."""
        cursor = database.cursor()
        cursor.execute("SELECT time, referrer, user_agent FROM events WHERE event_type = ?", [PAGE_VIEW])
        while rows := cursor.fetchmany(_CHUNK_ROWS):
            self._count(
                ((time - _EPOCH) // timedelta(seconds=1), _core(referrer or "", user_agent))
                for time, referrer, user_agent in rows
            )
        cursor.close()

    def _count(self, keys: Iterable[tuple[int, bytes]]) -> None:
        self._db.executemany(
            "INSERT INTO hits VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
            ((*key, count) for key, count in Counter(keys).items()),
        )

    def take(self, hit: Hit) -> bool:
        """Whether the hit that a line tells of is one of them; each is found once."""
        second, referrer = hit.received_ns // 1_000_000_000, text_of(hit.referrer)
        agents = dict.fromkeys((agent_of(hit.user_agent).text, None))
        return any(
            self._db.execute(
                "UPDATE hits SET count = count - 1 WHERE second = ? AND core = ? AND count > 0",
                (second, _core(referrer, agent)),
            ).rowcount
            for agent in agents
        )

    def close(self) -> None:
        self._db.close()


def _core(referrer: str, user_agent: str | None) -> bytes:
    packed = msgspec.msgpack.encode((without_query(referrer), user_agent))
    return blake2b(packed, digest_size=16).digest()
