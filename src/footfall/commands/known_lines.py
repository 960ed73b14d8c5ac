"""Which lines of a site's logs are in already, whatever files they came in.

A line is known by a digest of all that its format names. Lines that are alike are told by their number: of these, as
many count as the copy with the most of them has. So each line of a log counts once, however it was cut, joined, renamed
or compressed. What can't be known: a client that asks for the same page twice within one second leaves two lines that
are alike, and if a log is cut just between them, the second is taken for the first.
"""

from array import array
from collections import Counter, OrderedDict
from hashlib import blake2b
from typing import Final

from footfall.queue.local.imports import DIGEST_BYTES, ImportedBatch, ImportMark
from footfall.queue.local.store import LocalQueue

_MINUTE_NS: Final = 60 * 1_000_000_000
_KEPT_LINES: Final = 500_000
"""Digests held in memory: lines of a log are nearly in the order of their times, so few minutes are needed at once."""


class KnownLines:
    """The lines of one site, as one reading of a log goes through them.

    Args:
        queue: what remembers them.
        site: what stands for the site there.
    """

    def __init__(self, queue: LocalQueue, site: str) -> None:
        self._queue = queue
        self._site = site
        before = queue.imported_site(site)
        self._version = before.version
        self._is_empty = before.lines == 0
        self._forgotten = before.forgotten
        self._minutes: OrderedDict[int, Counter[int]] = OrderedDict()
        self._held = 0
        self._added: dict[int, array[int]] = {}
        self.too_old = 0
        """Lines from before the time up to which it was forgotten what is in."""

    def take(self, time_ns: int, text: bytes) -> bool:
        """Whether a line is in already; one that is not counts as in from the next batch on.

        Args:
            time_ns: when it was written, nanoseconds since 1970.
            text: what its format names.
        """
        minute = time_ns // _MINUTE_NS
        digest = _digest(text)
        if not self._is_empty:
            left = self._left(minute)
            if left[digest] > 0:
                left[digest] -= 1
                return True
            self.too_old += minute < self._forgotten
        self._added.setdefault(minute, array("Q")).append(digest)
        return False

    def meet(self, time_ns: int, text: bytes) -> None:
        """Pass over a line that is in: one that is like it, and comes later, is another."""
        if not self._is_empty:
            left = self._left(time_ns // _MINUTE_NS)
            left[_digest(text)] -= 1

    def batch(self, mark: ImportMark | None) -> ImportedBatch:
        """What the next batch of the queue adds: the lines that were not in."""
        digests = {minute: added.tobytes() for minute, added in self._added.items()}
        return ImportedBatch(self._site, self._version, digests, mark)

    def added(self) -> None:
        """Go on behind a batch that the queue has taken."""
        self._version += 1
        self._added.clear()

    def _left(self, minute: int) -> Counter[int]:
        """Those of a minute that were in before and that this reading has not met yet."""
        left = self._minutes.get(minute)
        if left is None:
            left = Counter(array("Q", self._queue.imported_lines(self._site, minute)))
            self._minutes[minute] = left
            self._held += len(left) + 1
            while self._held > _KEPT_LINES and len(self._minutes) > 1:
                _, oldest = self._minutes.popitem(last=False)
                self._held -= len(oldest) + 1
        else:
            self._minutes.move_to_end(minute)
        return left


def _digest(text: bytes) -> int:
    return int.from_bytes(blake2b(text, digest_size=DIGEST_BYTES).digest())
