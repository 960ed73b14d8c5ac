"""Reads the local queue: its batches, its counts, and how far each sink has come. Nothing here writes to it."""

import logging
import zlib
from contextlib import closing, suppress

import msgspec
from msgspec import Struct

from footfall.durable.checksum import checksum_of
from footfall.durable.files import write_file
from footfall.durable.sqlite import roll_back
from footfall.queue.account import RelayAccount
from footfall.queue.base import Batch, SinkReport
from footfall.queue.local.file import QueueFile

REMOVED_SUFFIX = ".removed"
"""Behind a sink's name in the table `sinks`: what was removed again from its output, as if skipped."""

_log = logging.getLogger(__name__)


class QueueState(Struct, frozen=True):
    """The queue at one moment, read in one transaction, so that its figures fit together.

    Attributes:
        has_assignment: with a broker: by sink, whether a consumer here is one that the broker gives to.
        relay: with a broker, and a collector here: what became of the messages.
    """

    received: int
    refused: dict[str, int]
    last_sequence: int
    sinks: dict[str, SinkReport]
    lag_batches: dict[str, int]
    lag_seconds: dict[str, float]
    bytes: int
    has_assignment: dict[str, bool] = {}
    relay: RelayAccount | None = None


class QueueReader(QueueFile):
    """What consumers, the ledger and the metrics ask."""

    def read(self, after: int, *, max_bytes: int = 4 * 1024 * 1024) -> list[Batch]:
        """The next batches after sequence `after`, in order: at least one if there is any, about `max_bytes` in all.

        Raises:
            DamagedQueueError: the file does not hold what was written, or a batch is missing.
            QueueFullError: the disk can't be read now.
        """
        batches: list[Batch] = []
        room = max_bytes
        with self._naming_errors(), closing(self._db.cursor()) as rows:
            rows.execute(
                "SELECT sequence, committed_ns, count, received, end_bytes, checksum, seal, payload FROM batches "
                "WHERE sequence > ? ORDER BY sequence",
                (after,),
            )
            # In the snapshot of the statement above. Where `after` is not there any more, nothing is known.
            start_bytes: int | None = self._value("SELECT end_bytes FROM batches WHERE sequence = ?", after)
            for *header, seal, payload in rows:
                if checksum_of(*header) != seal or not isinstance(payload, bytes):
                    raise self._damage(f"a batch after {after} is not what was written")
                sequence, committed_ns, count, received, end_bytes, checksum = header
                if sequence <= after or start_bytes not in {None, end_bytes - len(payload)}:
                    raise self._damage(f"batches after {after} are missing")
                is_damaged = checksum != zlib.crc32(payload)
                if is_damaged:
                    self._set_aside(sequence, count, payload)
                before = received - count
                batches.append(Batch(self.source, sequence, committed_ns, count, payload, is_damaged, before))
                after, start_bytes = sequence, end_bytes
                room -= len(payload)
                if room <= 0:
                    break
        return batches

    def _set_aside(self, sequence: int, count: int, payload: bytes) -> None:
        """Save what is left of a damaged batch to a file of its own, once, so that somebody can look at it."""
        path = self._path.with_name(f"{self._path.name}.batch-{sequence}.damaged")
        if not path.exists():
            with suppress(OSError):  # on a full disk it stays where it is
                write_file(path, payload)
            _log.error("a batch of %d entries is damaged on disk; what is left of it is in %s", count, path)

    def last_sequence(self) -> int:
        """The sequence of the last batch; 0 if there is none."""
        return self._value("SELECT max(sequence) FROM batches") or 0

    def received_until(self, sequence: int) -> int:
        """How many entries the batches up to `sequence` had, including those dropped since."""
        received: int = self._value(
            "SELECT received - (SELECT coalesce(sum(count), 0) FROM batches WHERE sequence > ?) FROM totals", sequence
        )
        return received

    def state(self) -> QueueState:
        """What was received and refused, and how far each sink is."""
        self._rows("BEGIN")
        try:
            received: int = self._value("SELECT received FROM totals")
            last = self._value("SELECT max(sequence) FROM batches", default=0) or 0
            refused: dict[str, int] = dict(self._rows("SELECT reason, count FROM refused ORDER BY reason"))
            sinks = self.sink_reports()
            lag_batches, lag_seconds = {}, {}
            for name in self._sinks:
                reached = sinks[name].sequence if name in sinks else 0
                lag_batches[name] = self._value("SELECT count(*) FROM batches WHERE sequence > ?", reached)
                oldest = self._value(
                    "SELECT committed_ns FROM batches WHERE sequence > ? ORDER BY sequence LIMIT 1", reached
                )
                lag_seconds[name] = 0.0 if oldest is None else max(0.0, (self._clock() - oldest) / 1e9)
            used = self._used_bytes()
        finally:
            roll_back(self._db)
        return QueueState(received, refused, last, sinks, lag_batches, lag_seconds, used)

    def sink_reports(self) -> dict[str, SinkReport]:
        """What each sink last reported. A damaged report counts as none."""
        reports: dict[str, SinkReport] = {}
        removed: dict[str, dict[str, int]] = {}
        for *row, seal in self._rows(
            "SELECT name, sequence, safe_sequence, written, skipped, mark, trouble, seal FROM sinks"
        ):
            if checksum_of(*row) == seal:
                name, sequence, safe_sequence, written, skipped, mark, trouble = row
                counts = msgspec.json.decode(skipped, type=dict[str, int])
                if name.endswith(REMOVED_SUFFIX):
                    removed[name.removesuffix(REMOVED_SUFFIX)] = counts
                else:
                    reports[name] = SinkReport(sequence, safe_sequence, written, counts, mark, trouble)
        return {
            name: msgspec.structs.replace(report, removed=removed.get(name, {})) for name, report in reports.items()
        }

    def check(self) -> None:
        """Check that the file ends where its totals say.

        Raises:
            DamagedQueueError: its end is missing.
        """
        self._rows("BEGIN")
        try:
            _, received, end_bytes, last_sequence = self._totals()
            last = self._rows("SELECT received, sequence, end_bytes FROM batches ORDER BY sequence DESC LIMIT 1")
        finally:
            roll_back(self._db)
        # What was lost before, and is counted so, keeps its entries and its sequence in the totals.
        if last and (last[0][0] > received or last[0][1] > last_sequence or last[0][2] != end_bytes):
            raise self._damage("its last batches are missing")
