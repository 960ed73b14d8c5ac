"""Salts that all processors of a ClickHouse database share.

They agree on a day's salt by its token: of two that are made at once, one is stored. A salt is forgotten 48 hours after
it was made. Its text is overwritten, and leaves the disk a minute later.
"""

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from footfall.database.clickhouse.ddl import SALT_TYPES
from footfall.database.clickhouse.server import ClickhouseDatabase
from footfall.database.enrich import SALT_BYTES
from footfall.database.moments import EPOCH, microseconds, moment
from footfall.database.salts import Salts

LOOK_AGE: Final = timedelta(minutes=10)
"""How often to look for salts that other processors have made, and nobody may have forgotten."""


class ClickhouseSalts(Salts):
    """What this process has used of the table `salts`, by days since 1970."""

    def __init__(self, db: ClickhouseDatabase, now: Callable[[], datetime]) -> None:
        super().__init__(now)
        self._db = db
        self._looked_at = EPOCH
        self._made_at: dict[int, datetime] = {}

    def _find(self, day: int) -> bytes:
        """The salt that all processors have for a day; made when there is none."""
        generation = self._fetch(day)
        if day not in self:
            # Of two that come at once, the first has made the salt.
            made = (day, generation, secrets.token_hex(SALT_BYTES), microseconds(self._now()))
            self._db.insert_once(
                "salts", SALT_TYPES, [made], f"{day}:{generation}", lambda: self._fetch(day) > generation
            )
        if day not in self:
            raise OSError("the salt of a day is being made")
        return self[day]

    def forget(self, until: datetime) -> None:
        """Forget what was made until then, by whichever process."""
        if self._now() < self._looked_at + LOOK_AGE and all(made_at > until for made_at in self._made_at.values()):
            return
        old = f"salt != '' AND made_at <= fromUnixTimestamp64Micro({microseconds(until)})"
        [(count,)] = self._db.query(f"SELECT count() FROM {self._db.name}.salts WHERE {old}")
        if count:
            self._db.run(
                f"ALTER TABLE {self._db.name}.salts UPDATE salt = '' WHERE {old}", settings={"mutations_sync": 1}
            )
        for day in [day for day, made_at in self._made_at.items() if made_at <= until]:
            del self[day], self._made_at[day]
        self._looked_at = self._now()

    def _fetch(self, day: int) -> int:
        """Take over the salt of a day, if there is one; how many there ever were."""
        rows = self._db.query(
            f"SELECT salt, toUnixTimestamp64Micro(made_at) FROM {self._db.name}.salts WHERE day = {{day:Int32}} "
            "ORDER BY generation",
            {"day": day},
        )
        if rows and rows[-1][0]:
            self[day] = bytes.fromhex(rows[-1][0])
            self._made_at[day] = moment(rows[-1][1])
        return len(rows)
