"""What every queue gives: batches with positions, and a place for the sinks to report theirs."""

from msgspec import Struct, field


class Batch(Struct, frozen=True):
    """Entries that were committed together.

    Attributes:
        source: which queue committed it; a random name, made once with the queue's file.
        sequence: its place in that source; grows, with no promise that it grows by one.
        committed_ns: when, nanoseconds since 1970 (UTC).
        count: how many entries it holds.
        payload: their bytes, as `footfall.event.encode_entries` wrote them.
        is_damaged: the bytes are no longer those that were committed; what they were can't be told.
        before: how many entries of this source were committed before it. A sink that has dealt with fewer missed some.
    """

    source: str
    sequence: int
    committed_ns: int
    count: int
    payload: bytes
    is_damaged: bool = False
    before: int = 0


class Progress(Struct, frozen=True):
    """How far a sink has come in one source, and what became of the entries up to there.

    Attributes:
        sequence: the last batch that is in the output.
        safe_sequence: the last batch that the queue need not keep for this sink's recovery.
        written: entries in the output.
        skipped: entries that have no place in this output, by reason.
    """

    sequence: int = 0
    safe_sequence: int = 0
    written: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
