"""The relay publishes the local queue's batches to a broker, in order; the queue keeps each until it is confirmed.

The queue of a busy collector commits a batch every millisecond or so, which would be too many messages. So the relay
joins neighbouring batches into one *message*, which is one batch from then on. Before it publishes a message, it
records in the queue where the message ends. A message that is published again is therefore the same: a database that
can't write rows and position in one step recognises it by its source and sequence alone.

The record can be missing: the outputs were filled without a broker before, or the queue was repaired or restored from a
backup. Then batches may be joined differently from what an output already has. So a message lists the batches that it
was joined of.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from footfall.entry import join_entries
from footfall.failpoint import Failpoint, reach
from footfall.queue.account import RelayAccount
from footfall.queue.base import Batch, Progress, Publisher, SinkReport
from footfall.queue.broker.envelope import encode_envelope
from footfall.queue.broker.tracing import OFF, Tracing

RELAY: Final = "relay"
"""Its name in the queue, to which it is a sink like others."""
MESSAGE_BYTES: Final = 1024 * 1024
"""A message of this size takes no further batch; a single batch may be larger."""

_log = logging.getLogger(__name__)


class Relay:
    """A `Sink` that publishes.

    Args:
        publisher: the way into the broker; handed over.
        fix: records durably, with the progress so far, the sequence at which the next message ends (a `mark`).
        tell: notes what became of the messages so far, for `/metrics`.
        tracing: makes spans.
    """

    name = RELAY

    def __init__(
        self,
        publisher: Publisher,
        fix: Callable[[Progress, str], None],
        tell: Callable[[RelayAccount], None],
        tracing: Tracing = OFF,
    ) -> None:
        self._publisher = publisher
        self._fix = fix
        self._tell = tell
        self._tracing = tracing
        self._account = RelayAccount()
        self._progress: dict[str, Progress] = {}
        self._message_end = 0

    def progress(self) -> Mapping[str, Progress]:
        return self._progress

    def mark(self) -> str:
        return str(self._message_end)

    def resume(self, source: str, report: SinkReport | None, read: Callable[[int], Sequence[Batch]]) -> None:
        """Resume where the queue says, which is this sink's only memory."""
        del read
        if report is not None:
            self._progress[source] = Progress(report.sequence, report.sequence, report.written, report.skipped)
            self._message_end = int(report.mark or 0)

    def write(self, batches: Sequence[Batch]) -> None:
        """Publish. What is confirmed stays so, even if a later message fails.

        Raises:
            OSError: the broker does not confirm, or the queue takes no record.
        """
        while batches:
            before = self._progress.get(batches[0].source, Progress())
            parts = self._next_message(batches, before)
            batches = batches[len(parts) :]
            joined = _join(parts)
            self._publish(joined)
            reach(Failpoint.RELAY_CONFIRMED)
            # Nothing is skipped here: the sinks count what was lost or damaged.
            written = joined.before + joined.count
            self._progress[joined.source] = Progress(joined.sequence, joined.sequence, written)

    def close(self) -> None:
        self._publisher.close()

    def _publish(self, batch: Batch) -> None:
        confirmed, failed = self._account.confirmed, self._account.failed
        try:
            with self._tracing.sending(batch) as context:
                self._publisher.publish(batch.source, encode_envelope(batch, context))
        except OSError:
            failed += 1
            raise
        else:
            confirmed += 1
        finally:
            self._account = RelayAccount(confirmed, failed)
            self._tell(self._account)

    def _next_message(self, batches: Sequence[Batch], before: Progress) -> Sequence[Batch]:
        """The batches of the next message, whose end is on disk."""
        if self._message_end < batches[0].sequence:
            self._message_end = _message_of(batches)[-1].sequence
            self._fix(before, str(self._message_end))
            reach(Failpoint.RELAY_FIXED)
        return _message_of([batch for batch in batches if batch.sequence <= self._message_end])


def _message_of(batches: Sequence[Batch]) -> Sequence[Batch]:
    """As many as go together: a damaged batch, or one after a gap, begins a message of its own."""
    size = 0
    for number, batch in enumerate(batches):
        follows = number == 0 or batch.before == batches[number - 1].before + batches[number - 1].count
        if number and (
            size + len(batch.payload) > MESSAGE_BYTES or not follows or _is_apart(batch, batches[number - 1])
        ):
            return batches[:number]
        size += len(batch.payload)
    return batches


def _is_apart(batch: Batch, neighbour: Batch) -> bool:
    return batch.is_damaged or neighbour.is_damaged


def _join(parts: Sequence[Batch]) -> Batch:
    """One batch made of neighbours, with the position of the last."""
    if len(parts) == 1:
        return parts[0]
    first, last = parts[0], parts[-1]
    count = sum(batch.count for batch in parts)
    payload = join_entries([batch.payload for batch in parts])
    joined = tuple((batch.sequence, batch.count) for batch in parts)
    return Batch(last.source, last.sequence, first.committed_ns, count, payload, before=first.before, joined=joined)
