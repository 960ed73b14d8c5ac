"""The local queue: one SQLite file, written by collectors and read by consumers of the same machine.

This knows nothing of what is in a batch. It forgets a batch when every sink named at construction has reported it as
safe, and keeps a margin beyond that, from which a database can be rebuilt.
"""

from collections.abc import Mapping
from itertools import takewhile

import msgspec

from footfall.durable.checksum import checksum_of
from footfall.failpoint import Failpoint, reach
from footfall.queue.base import Progress
from footfall.queue.local.reader import REMOVED_SUFFIX, QueueReader
from footfall.queue.local.writer import QueueWriter

_TRIM_BATCHES = 256
_TRIM_BYTES = 512 * 1024
"""What is dropped at a time. A commit waits meanwhile: for 5 ms, where 256 large batches took seconds."""
_VACUUM_PAGES = 256


class LocalQueue(QueueReader, QueueWriter):
    """All that can be done with the queue. Sinks report here, and what none of them needs is dropped."""

    def report(
        self,
        sink: str,
        progress: Progress,
        trouble: str | None = None,
        *,
        mark: str = "",
        removed: Mapping[str, int] | None = None,
    ) -> None:
        """Record how far a sink has come, and what stops it, if anything does.

        Args:
            sink: its name.
            progress: where it stands in this queue's source.
            trouble: see `SinkReport`.
            mark: see `SinkReport`.
            removed: see `SinkReport`; None where nothing is known of it.

        Raises:
            QueueFullError, QueueBrokenError: as `append`; the next report makes up for a lost one.
        """
        skipped = msgspec.json.encode(progress.skipped).decode()
        row = (sink, progress.sequence, progress.safe_sequence, progress.written, skipped, mark, trouble)
        with self._transaction():
            self._put_report(row)
            if removed is not None:
                self._put_report((sink + REMOVED_SUFFIX, 0, 0, 0, msgspec.json.encode(removed).decode(), "", None))
            _, received, end_bytes, last_sequence = self._totals()
            if progress.dealt_with > received or progress.sequence > last_sequence:
                # The end of the file was lost after the sink had passed it. New batches must come after that, even if
                # the clock has been set back.
                self._set_totals(max(progress.dealt_with, received), end_bytes, max(progress.sequence, last_sequence))

    def _put_report(self, row: tuple[object, ...]) -> None:
        self._db.execute("INSERT OR REPLACE INTO sinks VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, checksum_of(*row)))

    def trim(self) -> int:
        """Drop some of the batches that every sink has passed and that are beyond the margin.

        Disk space is returned to the system a piece at a time, so that no commit waits long.

        Returns:
            How many were dropped.
        """
        reports = self.sink_reports()
        passed = min((reports[sink].safe_sequence if sink in reports else 0 for sink in self._sinks), default=0)
        if self._droppable(passed, limit=1):
            with self._transaction():
                sequences = self._droppable(passed, limit=_TRIM_BATCHES)
                self._db.execute("DELETE FROM batches WHERE sequence <= ?", (max(sequences, default=0),))
            reach(Failpoint.QUEUE_TRIMMED)
        else:
            sequences = []
        self._give_back()
        return len(sequences)

    def _droppable(self, passed: int, *, limit: int) -> list[int]:
        """Some of the oldest batches up to `passed` that are beyond the margin, by size or by age.

        They have no gap between them, even if a clock that was set back left an old time after a new one: the batches
        that stay must follow one another.
        """
        kept_bytes = self._value("SELECT end_bytes FROM totals") - self._margin_bytes
        kept_ns = self._clock() - self._margin_ns
        oldest = self._rows(
            "SELECT sequence, end_bytes, committed_ns FROM batches WHERE sequence <= ? ORDER BY sequence LIMIT ?",
            passed,
            limit,
        )
        last_bytes = oldest[0][1] + _TRIM_BYTES if oldest else 0
        return [
            sequence
            for sequence, end_bytes, _ in takewhile(lambda row: row[1] <= kept_bytes or row[2] <= kept_ns, oldest)
            if end_bytes <= last_bytes
        ]

    def _give_back(self) -> None:
        """Return some free pages to the system."""
        if self._value("PRAGMA freelist_count") > _VACUUM_PAGES:
            with self._naming_errors():
                # One step of this statement frees one page, and `execute` takes one step.
                self._db.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
                # The file gets shorter only when the WAL is brought into it.
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
