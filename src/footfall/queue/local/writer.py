"""Writes batches into the local queue, together with the counts of what was received and refused."""

import zlib
from collections.abc import Mapping

from footfall.durable.checksum import checksum_of
from footfall.errors import QueueFullError
from footfall.failpoint import Failpoint, reach
from footfall.queue.local.file import QueueFile
from footfall.queue.local.imports import ImportedBatch, ImportedSite, ImportMark, make_tables, remember

_LITTLE = 0.3
"""The free part of the limit below which it is measured each time."""
_MEASURE_BYTES = 1024 * 1024
"""How much may be appended between two looks at the file's size; several writers may pass the limit by this each."""


class QueueWriter(QueueFile):
    """What collectors and imports call."""

    _room = 0  # may be appended before the file's size is looked at again
    _beyond = 0  # was free besides, when it was looked at

    def append(
        self,
        payload: bytes,
        count: int,
        refused: Mapping[str, int] | None = None,
        imported: ImportedBatch | None = None,
    ) -> int:
        """Commit one batch, and what was refused since the last one; return its sequence.

        Args:
            payload: entries, encoded.
            count: how many.
            refused: requests turned away, by reason.
            imported: for a batch of an import, what to remember of its lines.

        Raises:
            AlreadyInUseError: another import has added lines of that site meanwhile; nothing was committed.
            QueueFullError: the queue or the disk is full; nothing was committed, and a later call may succeed.
            QueueBrokenError: nobody knows whether it was committed until the file is opened again.
            DamagedQueueError: the file is no longer a queue.
        """
        with self._transaction():
            self._take_room(len(payload))
            now_ns = self._clock()
            _, received, end_bytes, last_sequence = self._totals()
            received += count
            end_bytes += len(payload)
            sequence = max(last_sequence + 1, now_ns // 1_000)
            self._set_totals(received, end_bytes, sequence)
            header = (sequence, now_ns, count, received, end_bytes, zlib.crc32(payload))
            self._db.execute(
                "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*header, checksum_of(*header), payload)
            )
            self._add_refused(refused or {})
            if imported is not None:
                remember(self._db, sequence, imported, self._max_bytes)
            reach(Failpoint.QUEUE_INSERTED)
        reach(Failpoint.QUEUE_COMMITTED)
        return sequence

    def make_sure_of_room(self) -> None:
        """Raise `QueueFullError` if the limit is reached."""
        self._room = 0
        self._take_room(1)

    def _take_room(self, size: int) -> None:
        """Measure the file again only if the last measurement leaves no room for `size` more."""
        self._room -= size
        if self._room < 0:
            free = self._max_bytes - self._used_bytes()
            if free < size:
                raise QueueFullError(f"the queue holds its limit of {self._max_bytes} bytes (queue.max_bytes)")
            self._room = min(free, _MEASURE_BYTES) - size
            self._beyond = free - min(free, _MEASURE_BYTES)

    def free_share(self) -> float:
        """The free part of the limit: an estimate, but measured if little is free, for outputs may have caught up."""
        free = self._beyond + self._room
        if free < self._max_bytes * _LITTLE:
            self._room, self._beyond = 0, self._max_bytes - self._used_bytes()
            free = self._beyond
        return max(0, free) / self._max_bytes

    def add_refused(self, refused: Mapping[str, int]) -> None:
        """Count refused requests without a batch. Raises what `append` does."""
        with self._transaction():
            self._add_refused(refused)

    def _add_refused(self, refused: Mapping[str, int]) -> None:
        for reason, count in refused.items():
            self._db.execute(
                "INSERT INTO refused VALUES (?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
                (reason, count),
            )

    # What an import calls, besides `append`.

    def import_marks(self, log: str) -> list[ImportMark]:
        """How far the logs known by `log` have come, in the order in which they were begun."""
        rows = self._rows("SELECT log, number, offset, line, digest FROM imports WHERE log = ? ORDER BY number", log)
        return [ImportMark(*row) for row in rows]

    def drop_import_marks(self, log: str) -> None:
        """Forget how far the logs known by `log` have come."""
        if self.import_marks(log):
            with self._transaction():
                self._db.execute("DELETE FROM imports WHERE log = ?", (log,))

    def imported_site(self, site: str) -> ImportedSite:
        """What is remembered of the lines that were imported for `site`."""
        if not self._value("SELECT count(*) FROM sqlite_master WHERE name = 'imported_lines'"):
            with self._transaction():
                make_tables(self._db)
        rows = self._rows("SELECT version, lines, forgotten FROM imported_sites WHERE site = ?", site)
        return ImportedSite(*rows[0]) if rows else ImportedSite()

    def imported_lines(self, site: str, minute: int) -> bytes:
        """The digests of a minute's lines, after `imported_site`."""
        rows = self._rows("SELECT digests FROM imported_lines WHERE site = ? AND minute = ?", site, minute)
        return b"".join(digests for (digests,) in rows)
