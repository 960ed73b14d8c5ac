"""Which days the derived tables have: `rolled_days` and `dirty_days`, and who may change them when.

A day of a site is *clean* if `rolled_days` has the day and `dirty_days` does not have the site's. Only then do the
derived tables hold it as `events` has it. A month of a site is in the tables by month if `rolled_months` has it and
none of its days is dirty. Any other day is worked out from `events` when somebody asks. So an answer never depends on
what has been rolled up, and whoever empties `rolled_days` loses nothing.

Whoever changes events marks the days of those events within the same transaction (`RolledDays.mark`), so nobody sees
the change without the mark. That takes a statement only where a clean day is touched: today is not rolled up, and a
day that is dirty already needs no second mark.

Two things must not happen: that a roll-up declares a day clean whose events have changed since it read them, and that a
change takes a day for one that is not rolled up while a roll-up declares it to be. So changes hold a lock from before
their transaction begins until it is over (`changing`), and a roll-up holds it for two moments: when its snapshot
begins, and when it commits. What was touched in between becomes dirty.
"""

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Final

import duckdb

SiteDay = tuple[str, date]

BY_DAY: Final = ("visits", "page_views")
"""Derived tables with the columns `site_id` and `day`."""
BY_MONTH: Final = ("month_pages", "month_visitors", "month_anonymous")
"""Derived tables with the columns `site_id` and `month`, which is its first day."""

_MONTHS: Final = "rolled_months"
_GIVEN: Final = "SELECT unnest($sites::VARCHAR[]) AS site_id, unnest($days::DATE[]) AS day"


def _bound(days: Collection[SiteDay]) -> dict[str, list[str] | list[date]]:
    """The parameters of `_GIVEN`."""
    return {"sites": [site_id for site_id, _ in days], "days": [day for _, day in days]}


class RolledDays:
    """The tables in memory, for all threads that change events or roll them up; they share one object.

    Args:
        database: each call that needs one takes a cursor of its own from it.
    """

    def __init__(self, database: duckdb.DuckDBPyConnection) -> None:
        self._lock = threading.Lock()
        self._marked: set[SiteDay] = set()
        self._noticed: set[SiteDay] = set()
        self._touched: set[SiteDay] = set()
        with database.cursor() as cursor:
            self._rolled = {day for (day,) in cursor.execute("SELECT day FROM rolled_days").fetchall()}
            self._dirty: set[SiteDay] = set(cursor.execute("SELECT DISTINCT site_id, day FROM dirty_days").fetchall())

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock for one transaction that changes events, and that ends within the block."""
        with self._lock:
            self._marked, self._noticed = set(), set()
            yield
            # Only now are the marks in the table.
            self._dirty |= self._marked
            self._touched |= self._noticed

    def mark(self, cursor: duckdb.DuckDBPyConnection, days: Collection[SiteDay]) -> None:
        """Say within a transaction (`changing`) that it changes the events of some days."""
        self._noticed.update(days)
        new = {one for one in days if one[1] in self._rolled} - self._dirty - self._marked
        if new:
            cursor.execute(f"INSERT INTO dirty_days {_GIVEN}", _bound(new))
            self._marked |= new

    def drop(self, cursor: duckdb.DuckDBPyConnection, days: Collection[SiteDay]) -> None:
        """As `mark`, and take what is derived of those days out of the tables: for what must not stay anywhere."""
        self.mark(cursor, days)
        months = {(site_id, day.replace(day=1)) for site_id, day in days}
        tables = dict.fromkeys(BY_DAY, ("day", days)) | dict.fromkeys((*BY_MONTH, _MONTHS), ("month", months))
        for name, (column, gone) in tables.items():
            cursor.execute(
                f"DELETE FROM {name} USING ({_GIVEN}) AS gone "
                f"WHERE {name}.site_id = gone.site_id AND {name}.{column} = gone.day",
                _bound(gone),
            )

    def dirty(self) -> dict[date, list[str]]:
        """The sites of each day that is to be rolled up again."""
        found: dict[date, list[str]] = {}
        with self._lock:
            for site_id, day in self._dirty:
                found.setdefault(day, []).append(site_id)
        return found

    def touched_days(self) -> set[date]:
        """Days that are not rolled up and had events since the last call of `begin_reading`."""
        with self._lock:
            return {day for _, day in self._touched} - self._rolled

    def is_rolled(self, day: date) -> bool:
        return day in self._rolled

    def begin_reading(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Begin the transaction in which a roll-up reads events, while nobody changes them."""
        with self._lock:
            self._touched.clear()
            cursor.begin()
            # A snapshot begins with the first statement.
            cursor.execute("SELECT 1 FROM rolled_days LIMIT 1").fetchall()

    @contextmanager
    def finishing(self, cursor: duckdb.DuckDBPyConnection, day: date, sites: Collection[str] | None) -> Iterator[None]:
        """Declare a day clean within a transaction that has its derived rows, and hold the lock until it is over.

        Args:
            cursor: of the transaction, which the block commits.
            day: which day.
            sites: those that were rolled up again; None for the whole day.
        """
        with self._lock:
            again = {one for one in self._touched if one[1] == day}
            if sites is None:
                cursor.execute("DELETE FROM dirty_days WHERE day = ?", [day])
                cursor.execute("INSERT INTO rolled_days VALUES (?)", [day])
                left = again
                cursor.execute(f"INSERT INTO dirty_days {_GIVEN}", _bound(left))
                done = {one for one in self._dirty if one[1] == day}
            else:
                done = {(site_id, day) for site_id in sites} - again
                left = set()
                for site_id, _ in done:
                    cursor.execute("DELETE FROM dirty_days WHERE site_id = ? AND day = ?", [site_id, day])
            yield
            self._dirty -= done
            self._dirty |= left
            self._rolled.add(day)

    @contextmanager
    def finishing_month(self, month: date) -> Iterator[set[str]]:
        """Hold the lock, and give the sites that had events of a month since `begin_reading`."""
        with self._lock:
            yield {site_id for site_id, day in self._touched if day.replace(day=1) == month}
