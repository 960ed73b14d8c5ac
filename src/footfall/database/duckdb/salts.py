"""The table `salts` of a DuckDB database."""

import secrets
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Final

import duckdb

from footfall.database.enrich import SALT_BYTES
from footfall.database.salts import Salts

_EPOCH_DAY: Final = date(1970, 1, 1)
_NEVER: Final = datetime.max  # noqa: DTZ901 - the database holds UTC without saying so


class DuckdbSalts(Salts):
    """The table `salts` in memory."""

    def __init__(self, db: duckdb.DuckDBPyConnection, now: Callable[[], datetime]) -> None:
        super().__init__(now)
        self._db = db
        self._saved: set[int] = set()
        self._oldest = _NEVER

    def _find(self, day: int) -> bytes:
        """Make a day's salt, which is then to be saved."""
        self[day] = salt = secrets.token_bytes(SALT_BYTES)
        return salt

    def load(self) -> None:
        self.drop_derived()
        self.clear()
        self._saved.clear()
        self._oldest = _NEVER
        for day, salt, made_at in self._db.execute("SELECT day, salt, made_at FROM salts").fetchall():
            number = (day - _EPOCH_DAY).days
            self[number] = salt
            self._saved.add(number)
            self._oldest = min(self._oldest, made_at)

    def save(self, now: datetime) -> None:
        """Add those made since the last time to the table; call within the transaction that they serve."""
        self.drop_derived()
        made = self.keys() - self._saved
        if made:
            with self._db.appender("salts") as salts:
                salts.append_rows((_EPOCH_DAY + timedelta(days=day), self[day], now) for day in made)
            self._saved |= made
            self._oldest = min(self._oldest, now)

    def forget(self, until: datetime) -> bool:
        """Forget what was made until then; whether there was any."""
        if self._oldest > until:
            return False
        self._db.execute("DELETE FROM salts WHERE made_at <= ?", [until])
        self.load()
        return True
