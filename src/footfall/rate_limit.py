"""Rate limits by address: one token bucket for each, in a table of bounded size.

A bucket holds up to `burst` tokens and gains `per_second` of them; what is asked costs tokens. A bucket is kept as one
number, the time at which it will be full again: the generic cell rate algorithm (ITU-T I.371, annex A), which needs no
timer and no second field. A bucket that is full says no more than one that is absent.

It does not decide whose address counts (`footfall.collector.address` does), and it counts nothing for the ledger.
"""

import ipaddress
import math
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Final

MAX_ADDRESSES: Final = 50_000
"""Buckets in one table, some 10 MB. Beyond it, the one that was asked for least recently is forgotten."""


class RateLimiter:
    """All methods are for one thread.

    Args:
        per_second: tokens that each address gains.
        burst: tokens that it may have at most; at least 1.
        max_addresses: buckets to keep.
        clock: seconds, never going back.
    """

    def __init__(
        self,
        per_second: float,
        *,
        burst: float,
        max_addresses: int = MAX_ADDRESSES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds_each = 1 / per_second
        self._room_s = (burst - 1) / per_second
        self._max_addresses = max_addresses
        self._clock = clock
        self._full_at: dict[str, float] = {}  # the most recently asked for last

    def take(self, address: str | None, cost: int = 1) -> float:
        """Take tokens from an address's bucket, if it holds at least one.

        What costs more than there is leaves the bucket in debt, so that a large request is not refused for ever.

        Args:
            address: in canonical form; without one there is no limit.
            cost: how many tokens.

        Returns:
            0 when they were taken; else the seconds until there is a token again, and nothing was taken.
        """
        if address is None:
            return 0.0
        sender = sender_of(address)
        now = self._clock()
        # Moved to the end in any case: else whoever is refused all the time would soon be forgotten.
        full_at = max(self._full_at.pop(sender, now), now)
        wait_s = max(0.0, full_at - now - self._room_s)
        self._full_at[sender] = full_at if wait_s else full_at + cost * self._seconds_each
        if len(self._full_at) > self._max_addresses:
            del self._full_at[next(iter(self._full_at))]
        return wait_s

    def __len__(self) -> int:
        """How many buckets there are."""
        return len(self._full_at)


def retry_after(wait_s: float) -> str:
    """A wait as the `Retry-After` header has it, in whole seconds (RFC 9110, section 10.2.3)."""
    return str(max(1, math.ceil(wait_s)))


def sender_of(address: str) -> str:
    """Who an address stands for: itself, or the /64 network of an IPv6 one, of which a subscriber has all."""
    return address if ":" not in address else _network_of(address)


@lru_cache(maxsize=4_096)
def _network_of(address: str) -> str:
    prefix = int(ipaddress.IPv6Address(address)) >> 64 << 64
    return f"{ipaddress.IPv6Address(prefix)}/64"
