"""The secrets that tell a day's visitors apart: which days have one, and how long it is kept.

A day around today has a secret of its own. All other days, of which a client may name three million, share one: the
salt of such a day is a keyed hash of the day's number. So what a stranger can have stored is a handful of secrets, each
of which is forgotten 48 hours after it was made, whichever day it is for.
"""

import time
from abc import abstractmethod
from collections.abc import Callable
from datetime import date, datetime, timedelta
from hashlib import blake2b
from typing import Final

from footfall.database.enrich import SALT_BYTES

SALT_AGE: Final = timedelta(hours=48)
"""How long a salt is kept: its own day, and one more for events that come late."""
JUMP: Final = timedelta(minutes=1)
"""A clock that moves this much more or less than time did was set."""

OTHER_DAYS: Final = (date.max - date(1970, 1, 1)).days
"""The day that the shared secret is stored under; no event is of it."""

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - databases hold UTC without saying so
_NEAR: Final = range(-2, 2)
"""Days from today: those for which events come late, and those that a client's clock is ahead by."""


def running_time() -> float:
    """Seconds that no one sets. Unlike `time.monotonic` they go on while the machine sleeps, as the clock does."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Steadiness:
    """Whether the clock can be believed about ages.

    A clock that is set ten days ahead by mistake, and back, must not make today's salt look old: the visitors of the
    day would count twice. So after a jump nothing is forgotten for as long as a salt is kept.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._last: tuple[datetime, float] | None = None
        self._jumped_at: float | None = None

    def holds(self, now: datetime) -> bool:
        """Ask about once a second with the clock's time."""
        monotonic = self._monotonic()
        if self._last is not None:
            last_now, last_monotonic = self._last
            if abs((now - last_now).total_seconds() - (monotonic - last_monotonic)) > JUMP.total_seconds():
                self._jumped_at = monotonic
        self._last = now, monotonic
        return self._jumped_at is None or monotonic - self._jumped_at > SALT_AGE.total_seconds()


class Salts(dict[int, bytes]):
    """Salts by day, counted from 1970. One that is asked for is looked up, or made.

    Args:
        now: the clock's time, UTC.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        super().__init__()
        self._now = now
        self._derived: set[int] = set()

    def __missing__(self, day: int) -> bytes:
        if day == OTHER_DAYS or day - (self._now() - _EPOCH).days in _NEAR:
            return self._find(day)
        secret = self[OTHER_DAYS]
        self[day] = salt = blake2b(str(day).encode(), key=secret, digest_size=SALT_BYTES).digest()
        self._derived.add(day)
        return salt

    @abstractmethod
    def _find(self, day: int) -> bytes:
        """Add the stored salt of a day to this mapping, or make one; return it."""

    def drop_derived(self) -> None:
        """Forget the salts that are not stored; call between two writes."""
        for day in self._derived:
            del self[day]
        self._derived.clear()
