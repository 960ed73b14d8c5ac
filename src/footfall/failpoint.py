"""Named places where a test ends the process as a power cut would, so that recovery is shown for each, not hoped for.

They stand in the order of the data's way. Between one and the next something was made durable, or somebody was told
something; a crash there leaves a state of its own. Random kills find most of these states sooner or later; this finds
each of them every time.

A test sets the variable `FOOTFALL_CRASH_AT` (one underscore: it is no setting) to `NAME:N` or `NAME:N:MARKER`. When a
process reaches the place the N-th time it kills itself with SIGKILL, by which nothing is flushed, closed or released.
MARKER is a file that is made just before. Where it exists nothing is killed, so that a process that was started again
goes on. Without the variable `reach` does nothing; that is decided once, at import.
"""

import os
import signal
from collections.abc import Callable
from enum import StrEnum
from typing import Final

VARIABLE: Final = "FOOTFALL_CRASH_AT"


class Failpoint(StrEnum):
    """Every place there is; the comment says what has just happened."""

    # The collector. Its clients wait for an answer; the images have been served.
    INTAKE_TAKEN = "intake.taken"  # a group of entries is closed; it is in memory only
    INTAKE_ENCODED = "intake.encoded"  # the writer is about to commit the group
    INTAKE_ANSWERED = "intake.answered"  # the group is committed, and the first of its clients knows

    # The queue, within the collector or an import.
    QUEUE_INSERTED = "queue.inserted"  # the batch is in the transaction, which is open
    QUEUE_COMMITTED = "queue.committed"  # the batch is durable, and nobody knows yet
    QUEUE_TRIMMED = "queue.trimmed"  # old batches are dropped, their disk not yet given back

    # An import, which shares the queue's points.
    IMPORT_SENT = "import.sent"  # a batch of lines is durable together with its mark

    # Each consumer, its sink's name added: `consumer.read.database`.
    CONSUMER_READ = "consumer.read"  # batches behind the position are in memory
    CONSUMER_WRITTEN = "consumer.written"  # the sink has them, and the queue does not know
    CONSUMER_REPORTED = "consumer.reported"  # the queue knows how far the sink is

    # The relay, which shares the consumers' points: `consumer.read.relay`.
    RELAY_FIXED = "relay.fixed"  # which batches the next message holds is recorded, and nothing published
    RELAY_CONFIRMED = "relay.confirmed"  # the broker has the message, and the queue does not know

    # The visits log.
    VISIT_LOG_INTENDED = "visit_log.intended"  # what will be appended is recorded, the log is as it was
    VISIT_LOG_APPENDED = "visit_log.appended"  # the lines are in the file, not synced
    VISIT_LOG_SYNCED = "visit_log.synced"  # the lines are durable, the position is not moved
    VISIT_LOG_CONFIRMED = "visit_log.confirmed"  # the position is moved, the intent forgotten

    # The database.
    DATABASE_APPENDED = "database.appended"  # rows are in the transaction, the position is not
    DATABASE_MOVED = "database.moved"  # the position is, too; the transaction is open
    DATABASE_COMMITTED = "database.committed"  # rows and position are in DuckDB's log
    DATABASE_CHECKPOINTING = "database.checkpointing"  # the log is about to be brought into the file
    DATABASE_CHECKPOINTED = "database.checkpointed"  # it was; the queue does not know that it may forget

    # A roll-up of a day, in the background.
    ROLL_UP_READ = "roll_up.read"  # the new rows are in a temporary table
    ROLL_UP_MADE = "roll_up.made"  # they are in the transaction, which is open
    ROLL_UP_COMMITTED = "roll_up.committed"  # they are in DuckDB's log

    # A migration of the database, before anything is written.
    MIGRATION_MADE = "migration.made"  # the new format is in the transaction, which is open
    MIGRATION_COMMITTED = "migration.committed"  # it is in DuckDB's log
    MIGRATION_RENAMED = "migration.renamed"  # ClickHouse's old table has another name, and there is no new one
    MIGRATION_COPIED = "migration.copied"  # there is a whole copy, and it has not the name yet

    # What is removed from the database.
    ERASURE_ORDERED = "erasure.ordered"  # the order is in its file, and nothing is removed
    ERASURE_REMOVED = "erasure.removed"  # rows are removed and counted in the transaction, which is open
    ERASURE_COMMITTED = "erasure.committed"  # they are gone, others may be left
    RETENTION_REMOVED = "retention.removed"  # the same for rows that are too old
    RETENTION_COMMITTED = "retention.committed"

    # The database, where it is ClickHouse.
    CLICKHOUSE_INSERTED = "clickhouse.inserted"  # rows are durable, the position is not moved
    CLICKHOUSE_MOVED = "clickhouse.moved"  # the position is; nobody knows

    # A rebuild, which shares the database's points while it fills the new one.
    REBUILD_TAKEN_OVER = "rebuild.taken_over"  # the new database has what the old one had, and is beside it
    REBUILD_WHOLE = "rebuild.whole"  # the new database is durable, beside the old one
    REBUILD_KEPT = "rebuild.kept"  # the old one and its log have a second name
    REBUILD_PARTED = "rebuild.parted"  # the old one's log is gone from beside it
    REBUILD_REPLACED = "rebuild.replaced"  # the new one has the name; the queue does not know

    # A move into ClickHouse.
    MOVE_INSERTED = "move.inserted"  # some of the events are there, and no positions
    MOVE_DONE = "move.done"  # everything is there, and nobody was told


def _nothing(point: Failpoint, part: str = "") -> None:
    """What `reach` is where no test runs."""


def _armed(order: str) -> Callable[..., None]:
    """A `reach` that carries out `order`, the variable's text."""
    name, number, *markers = order.split(":", 2)
    left = int(number)

    def reach(point: Failpoint, part: str = "") -> None:
        nonlocal left
        if name != (f"{point}.{part}" if part else point):
            return
        left -= 1
        if left != 0:
            return
        try:
            for marker in markers:
                os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    return reach


reach: Final[Callable[..., None]] = _armed(os.environ[VARIABLE]) if VARIABLE in os.environ else _nothing
"""Pass a point: `reach(point)`, or `reach(point, part)` where several parts of the system have the same one."""
