"""Fills the derived tables in the background, a day at a time; `footfall.database.duckdb.days` says what that promises.

A day is rolled up when it is over: first the newest, because that is asked for most. Then the dirty ones are made
again, only the sites that are dirty. A step reads a day in a transaction that changes nothing but a temporary table,
and writes its result in another, short one; so neither the sink nor a checkpoint waits for long. While days wait, it
rests as long as a step took; after that nine times as long.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from datetime import UTC, date, datetime, timedelta
from typing import Final

import duckdb

from footfall.database.duckdb.days import RolledDays
from footfall.database.visits import FIRST, GAP, IS_EVENT, IS_VIEW, LAST
from footfall.failpoint import Failpoint, reach

_GAP_US: Final = GAP // timedelta(microseconds=1)
_LOOK_S: Final = 5.0
_REST: Final = 9.0
_TELL_S: Final = 10.0
_GRACE: Final = timedelta(minutes=5)
"""Events of a day that is over may still be in the queue; to wait a little saves making the day twice."""

_IN_MONTH: Final = "day >= $month::DATE AND day < $month::DATE + INTERVAL 1 MONTH"
_MONTHS: Final = {
    "month_pages": "SELECT site_id, $month::DATE AS month, path, is_bot, sum(pageviews)::BIGINT AS pageviews "
    f"FROM page_views WHERE {_IN_MONTH} GROUP BY ALL ORDER BY site_id",
    "month_visitors": "SELECT DISTINCT site_id, $month::DATE AS month, bot <> '' AS is_bot, visitor "
    f"FROM visits WHERE {_IN_MONTH} AND is_known AND visit_pageviews > 0 ORDER BY site_id",
    "month_anonymous": "SELECT site_id, $month::DATE AS month, count(DISTINCT visitor) FILTER (WHERE bot = '') "
    "AS visitors, count(DISTINCT visitor) AS visitors_with_bots "
    f"FROM visits WHERE {_IN_MONTH} AND NOT is_known AND visit_pageviews > 0 GROUP BY ALL ORDER BY site_id",
}
"""The rows of the tables by month."""

_log = logging.getLogger(__name__)


class RollUp:
    """Rolls days up; needs a thread of its own.

    Args:
        database: it works on a cursor of its own.
        days: shared with whoever changes events.
        now: the time, UTC without a zone.
    """

    def __init__(
        self,
        database: duckdb.DuckDBPyConnection,
        days: RolledDays,
        now: Callable[[], datetime] = lambda: datetime.now(UTC).replace(tzinfo=None),
    ) -> None:
        self._database = database
        self._days = days
        self._now = now
        self._waiting: set[date] | None = None

    def run(self, stop: threading.Event) -> None:
        """Step until `stop` is set. What fails is tried again: answers do not need it."""
        rest_s = 0.0
        told_at = time.monotonic()
        while not stop.wait(rest_s):
            began = time.monotonic()
            try:
                is_more = self.step()
            except duckdb.Error as error:
                _log.warning("a day can't be rolled up now, retrying: %s", str(error).partition("\n")[0])
                rest_s = 12 * _LOOK_S
                continue
            took_s = time.monotonic() - began
            first_time = bool(self._waiting)
            rest_s = took_s if is_more and first_time else max(_LOOK_S, _REST * took_s)
            if first_time and time.monotonic() - told_at > _TELL_S:
                told_at = time.monotonic()
                _log.info("rolling up days for reports: %d to go", len(self._waiting or ()))

    def step(self) -> bool:
        """Roll up one day, or some sites of one; return whether there was any."""
        with closing(self._database.cursor()) as cursor:
            if self._waiting is None:
                found = cursor.execute("SELECT DISTINCT CAST(time AS DATE) FROM events").fetchall()
                self._waiting = {day for (day,) in found if not self._days.is_rolled(day)}
            self._waiting |= self._days.touched_days()
            over = (self._now() - _GRACE).date()
            if closed := [day for day in self._waiting if day < over]:
                day = max(closed)
                self._roll(cursor, day, None)
                self._waiting.discard(day)
                return True
            if dirty := self._days.dirty():
                day = max(dirty)
                self._roll(cursor, day, sorted(dirty[day]))
                return True
            return self._roll_month(cursor, over)

    def _roll_month(self, cursor: duckdb.DuckDBPyConnection, over: date) -> bool:
        """Roll up the newest month of which all days are, if there is one that is not; return whether there was."""
        found = cursor.execute(
            "SELECT max(date_trunc('month', day)) FROM (SELECT site_id, day FROM page_views GROUP BY ALL) days "
            "WHERE day < date_trunc('month', $over::DATE) AND (site_id, date_trunc('month', day)::DATE) NOT IN "
            "(SELECT (site_id, month) FROM rolled_months)",
            {"over": over},
        ).fetchone()
        if found is None or found[0] is None:
            return False
        month = found[0] if type(found[0]) is date else found[0].date()
        try:
            self._days.begin_reading(cursor)
            for name, statement in _MONTHS.items():
                cursor.execute(f"CREATE OR REPLACE TEMP TABLE new_{name} AS {statement}", {"month": month})
            cursor.commit()
            cursor.begin()
            for name in _MONTHS:
                cursor.execute(f"DELETE FROM {name} WHERE month = ?", [month])
                cursor.execute(f"INSERT INTO {name} SELECT * FROM temp.new_{name}")
            cursor.execute("DELETE FROM rolled_months WHERE month = ?", [month])
            cursor.execute("INSERT INTO rolled_months SELECT DISTINCT site_id, month FROM temp.new_month_pages", [])
            with self._days.finishing_month(month) as touched:
                for site_id in touched:
                    cursor.execute("DELETE FROM rolled_months WHERE site_id = ? AND month = ?", [site_id, month])
                reach(Failpoint.ROLL_UP_MADE, "month")
                cursor.commit()
        except BaseException:
            with suppress(duckdb.Error):
                cursor.rollback()
            raise
        return True

    def _roll(self, cursor: duckdb.DuckDBPyConnection, day: date, sites: Sequence[str] | None) -> None:
        try:
            self._days.begin_reading(cursor)
            parameters = {"start": datetime.combine(day, datetime.min.time()), "sites": sites}
            of_sites = "" if sites is None else "AND site_id IN (SELECT unnest($sites::VARCHAR[]))"
            if sites is None:
                del parameters["sites"]
            hits = f"SELECT * FROM events WHERE time >= $start AND time < $start + INTERVAL 1 DAY {of_sites}"
            cursor.execute(f"CREATE OR REPLACE TEMP TABLE new_visits AS {visits_of(hits)} ORDER BY site_id", parameters)
            cursor.execute(
                f"CREATE OR REPLACE TEMP TABLE new_page_views AS {page_views_of(hits)} ORDER BY site_id", parameters
            )
            cursor.commit()
            reach(Failpoint.ROLL_UP_READ)
            cursor.begin()
            condition = "" if sites is None else "AND site_id IN (SELECT unnest($sites::VARCHAR[]))"
            bound = {"day": day} | ({} if sites is None else {"sites": sites})
            for table in ("visits", "page_views"):
                cursor.execute(f"DELETE FROM {table} WHERE day = $day {condition}", bound)
                cursor.execute(f"INSERT INTO {table} SELECT * FROM temp.new_{table}")
            cursor.execute(
                f"DELETE FROM rolled_months WHERE month = date_trunc('month', $day::DATE) {condition}", bound
            )
            with self._days.finishing(cursor, day, sites):
                reach(Failpoint.ROLL_UP_MADE)
                cursor.commit()
            reach(Failpoint.ROLL_UP_COMMITTED)
        except BaseException:
            with suppress(duckdb.Error):
                cursor.rollback()
            raise


def visits_of(hits: str) -> str:
    """The rows of `visits`, of a relation that has whole days of `events`."""
    texts = sorted({"path", "referrer", *FIRST.values(), *LAST.values()})
    of_visitor = "PARTITION BY site_id, visitor, bot"
    of_visit = f"{of_visitor}, visit_start"
    views = f"count(*) FILTER (WHERE {IS_VIEW})"
    others = f"count(*) FILTER (WHERE {IS_EVENT} AND NOT {IS_VIEW} AND is_interactive)"
    first = ", ".join(f"min({column}) FILTER (WHERE from_first = 1) AS {name}" for name, column in FIRST.items())
    last = ", ".join(f"max({column}) FILTER (WHERE from_last = 1) AS {name}" for name, column in LAST.items())
    return f"""
        WITH hits AS (
            SELECT site_id, CAST(time AS DATE) AS day, visitor, coalesce(bot, '') AS bot, epoch_us(time) AS moment,
                event_type, coalesce(is_interactive, TRUE) AS is_interactive, user_id IS NOT NULL AS is_known,
                {", ".join(f"coalesce({name}, '') AS {name}" for name in texts)}
            FROM ({hits})
        ), steps AS (
            SELECT *, lag(moment) OVER ({of_visitor}, day ORDER BY moment) AS previous FROM hits
        ), starts AS (
            SELECT *, max(CASE WHEN moment - previous < {_GAP_US} THEN NULL ELSE moment END)
                OVER ({of_visitor}, day ORDER BY moment) AS visit_start
            FROM steps
        ), ranked AS (
            SELECT *, rank() OVER ({of_visit} ORDER BY {IS_VIEW} DESC, moment, path, referrer) AS from_first,
                rank() OVER ({of_visit} ORDER BY {IS_VIEW} DESC, moment DESC, path DESC) AS from_last
            FROM starts
        )
        SELECT site_id, day, visitor, bool_or(is_known) AS is_known, bot, visit_start,
            max(moment) - visit_start AS duration,
            CAST({views} = 1 AND {others} = 0 AS UTINYINT) AS is_bounce,
            CAST({views} AS INTEGER) AS visit_pageviews,
            CAST(count(*) FILTER (WHERE {IS_EVENT}) AS INTEGER) AS visit_events, {first}, {last}
        FROM ranked GROUP BY site_id, day, visitor, bot, visit_start
    """


def page_views_of(hits: str) -> str:
    """The rows of `page_views`, likewise."""
    return f"""
        SELECT site_id, CAST(time AS DATE) AS day, path, bot IS NOT NULL AND bot <> '' AS is_bot,
            CAST(count(*) AS INTEGER) AS pageviews
        FROM ({hits}) WHERE {IS_VIEW} GROUP BY ALL
    """
