"""The ledger: what became of everything that came in."""

from msgspec import Struct

from footfall.queue.local.reader import QueueState


class SinkLedger(Struct, frozen=True, omit_defaults=True):
    """What became of the received entries in one sink.

    Attributes:
        written: entries in its output.
        skipped: entries that have no place in it, by reason.
        pending: entries that the sink has not dealt with yet.
        removed: of those written, how many are no longer in the output, by reason; left out where there are none.
    """

    written: int
    skipped: dict[str, int]
    pending: int
    removed: dict[str, int] = {}


class Ledger(Struct, frozen=True):
    """The account of everything: for each sink, received = written + skipped + pending.

    Attributes:
        received: hits and events that were committed to the queue.
        refused: requests that were not recorded, by reason.
        sinks: the accounts of the sinks, by name.
    """

    received: int
    refused: dict[str, int]
    sinks: dict[str, SinkLedger]


def ledger_of(state: QueueState, sinks: tuple[str, ...]) -> Ledger:
    """The ledger of a queue's state, with an account for each of `sinks`."""
    accounts = {}
    for name in sinks:
        report = state.sinks.get(name)
        written = report.written if report else 0
        skipped = report.skipped if report else {}
        accounts[name] = SinkLedger(
            written, skipped, state.received - written - sum(skipped.values()), report.removed if report else {}
        )
    return Ledger(state.received, state.refused, accounts)
