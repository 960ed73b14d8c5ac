"""The relay: the embedded queue's batches into a broker, in order, and released only when it has confirmed them.

The queue of a busy collector has a batch every millisecond or so; each would be a message of its own. So the relay
joins neighbours into *units*, and a unit is one batch from then on. Its range is recorded in the queue before it is
published, so that it is the same whenever it is published again: a database that can't write rows and position in one
step can tell a unit that it has by its name alone.

Where no record tells of a unit (the outputs were filled without a broker before, the queue was mended or comes from a
backup) units may be cut otherwise than what an output has. So a unit says of which batches it was made.
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
"""What the queue knows it by: to the queue it is a sink like others."""
UNIT_BYTES: Final = 1024 * 1024
"""A unit that has reached this takes no further batch; one batch alone may be larger."""

_log = logging.getLogger(__name__)


class Relay:
    """A `Sink` that publishes.

    Args:
        publisher: the way into the broker; handed over.
        fix: records durably, with the progress so far, up to which sequence the next unit goes (a `mark`).
        tell: notes, for whoever watches, what became of the messages so far.
        tracing: where spans are made.
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
        self._unit_end = 0

    def progress(self) -> Mapping[str, Progress]:
        return self._progress

    def mark(self) -> str:
        return str(self._unit_end)

    def resume(self, source: str, report: SinkReport | None, read: Callable[[int], Sequence[Batch]]) -> None:
        """Go on where the queue says; it is this sink's only memory."""
        del read
        if report is not None:
            self._progress[source] = Progress(report.sequence, report.sequence, report.written, report.skipped)
            self._unit_end = int(report.mark or 0)

    def write(self, batches: Sequence[Batch]) -> None:
        """Publish; a part that is confirmed stays so though a later one fails.

        Raises:
            OSError: the broker does not confirm, or the queue takes no record.
        """
        while batches:
            before = self._progress.get(batches[0].source, Progress())
            unit = self._next_unit(batches, before)
            batches = batches[len(unit) :]
            joined = _join(unit)
            self._publish(joined)
            reach(Failpoint.RELAY_CONFIRMED)
            # Nothing is skipped: what was lost or damaged here is for the sinks to count.
            written = joined.before + joined.count
            self._progress[joined.source] = Progress(joined.sequence, joined.sequence, written)

    def close(self) -> None:
        self._publisher.close()

    def _publish(self, unit: Batch) -> None:
        confirmed, failed = self._account.confirmed, self._account.failed
        try:
            with self._tracing.sending(unit) as context:
                self._publisher.publish(unit.source, encode_envelope(unit, context))
        except OSError:
            failed += 1
            raise
        else:
            confirmed += 1
        finally:
            self._account = RelayAccount(confirmed, failed)
            self._tell(self._account)

    def _next_unit(self, batches: Sequence[Batch], before: Progress) -> Sequence[Batch]:
        """The batches of the next unit, whose end is on disk."""
        if self._unit_end < batches[0].sequence:
            self._unit_end = _unit_of(batches)[-1].sequence
            self._fix(before, str(self._unit_end))
            reach(Failpoint.RELAY_FIXED)
        return _unit_of([batch for batch in batches if batch.sequence <= self._unit_end])


def _unit_of(batches: Sequence[Batch]) -> Sequence[Batch]:
    """As many as go together: what is damaged, or comes after a gap, begins a unit of its own."""
    size = 0
    for number, batch in enumerate(batches):
        follows = number == 0 or batch.before == batches[number - 1].before + batches[number - 1].count
        if number and (size + len(batch.payload) > UNIT_BYTES or not follows or _is_alone(batch, batches[number - 1])):
            return batches[:number]
        size += len(batch.payload)
    return batches


def _is_alone(batch: Batch, neighbour: Batch) -> bool:
    return batch.is_damaged or neighbour.is_damaged


def _join(unit: Sequence[Batch]) -> Batch:
    """One batch of several neighbours; its place is that of the last."""
    if len(unit) == 1:
        return unit[0]
    first, last = unit[0], unit[-1]
    count = sum(batch.count for batch in unit)
    payload = join_entries([batch.payload for batch in unit])
    joined = tuple((batch.sequence, batch.count) for batch in unit)
    return Batch(last.source, last.sequence, first.committed_ns, count, payload, before=first.before, joined=joined)
