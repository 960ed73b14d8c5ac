"""The salts: the secrets that key a day's visitor numbers. Says which days have one, and how long it is kept.

Each day around today has a secret of its own. All other days share one, because a client may name three million of
them. The salt of such a day is a hash of the day's number, keyed with that secret. So a stranger can make the database
store only a handful of secrets. Each is forgotten 48 hours after it was made, whichever day it is for.
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
"""If the clock has moved this much more or less than time has, somebody has set it."""

OTHER_DAYS: Final = (date.max - date(1970, 1, 1)).days
"""The day under which the shared secret is stored. No event is on that day."""

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - databases hold UTC without saying so
_NEAR: Final = range(-2, 2)
"""The days around today, counted from it: some events come late, and some clients' clocks are ahead."""


def running_time() -> float:
    """Seconds of a clock that nobody can set. Unlike `time.monotonic`, it also runs while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Steadiness:
    """Says whether the clock can be trusted to tell the age of a salt.

    If the clock is set ten days ahead by mistake, and back, today's salt must not look old: with a new salt, the day's
    visitors would count twice. So after a jump, no salt is forgotten for `SALT_AGE`.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._last: tuple[datetime, float] | None = None
        self._jumped_at: float | None = None

    def holds(self, now: datetime) -> bool:
        """Whether the clock can be trusted now. Call it about once a second, with the clock's time."""
        monotonic = self._monotonic()
        if self._last is not None:
            last_now, last_monotonic = self._last
            if abs((now - last_now).total_seconds() - (monotonic - last_monotonic)) > JUMP.total_seconds():
                self._jumped_at = monotonic
        self._last = now, monotonic
        return self._jumped_at is None or monotonic - self._jumped_at > SALT_AGE.total_seconds()


class Salts(dict[int, bytes]):
    """Salts by day, in days since 1970. A salt is looked up or made when it is first asked for.

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
        """Find the stored salt of a day, or make one; add it to this mapping and return it."""

    def drop_derived(self) -> None:
        """Forget the salts that are not stored. Call this between two writes."""
        for day in self._derived:
            del self[day]
        self._derived.clear()
