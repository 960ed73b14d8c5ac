"""How long the secret that tells a day's visitors apart is kept, and when that may be judged by the clock."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

SALT_AGE: Final = timedelta(hours=48)
"""How long a salt is kept: its own day, and one more for events that come late."""
JUMP: Final = timedelta(minutes=1)
"""A clock that moves this much more or less than time did was set."""


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
