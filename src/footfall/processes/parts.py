"""What more than one process is built from."""

import os
from functools import partial
from typing import Final

from footfall.config import Settings
from footfall.errors import FootfallError
from footfall.filelock import is_held
from footfall.observe import Check
from footfall.queue.embedded import FILE_NAME, EmbeddedQueue
from footfall.sinks.base import DATABASE, SINKS, VISIT_LOG

COLLECTOR: Final = "collector"
STORAGE: Final = "storage"
PROCESSOR: Final = "processor"
REPORTING: Final = "reporting"
ROLES: Final = (COLLECTOR, STORAGE, PROCESSOR, REPORTING)

_NICENESS = 5
DATABASE_LOCK: Final = "database.lock"
_LOCKS = {STORAGE: "visit_log.lock", PROCESSOR: DATABASE_LOCK, REPORTING: DATABASE_LOCK}
"""Held, in `data_dir`, by the process that has the role."""
_SINK_OF = {STORAGE: VISIT_LOG, PROCESSOR: DATABASE}


def open_queue(settings: Settings, *, share: float = 1.0) -> EmbeddedQueue:
    """A new connection to the queue, which may fill `share` of `queue.max_bytes` at most.

    Raises:
        FootfallError: it can't be opened.
    """
    path = settings.data_path / FILE_NAME
    try:
        return EmbeddedQueue(
            path,
            sinks=SINKS,
            durability=settings.queue.durability,
            max_bytes=int(settings.queue.max_bytes * share),
        )
    except OSError as error:
        raise FootfallError(f"the queue can't be opened: {error} (data_dir)") from error


def give_way() -> None:
    """Let a collector go first when the processor is short: an acknowledgement waits for it, a report can."""
    os.nice(_NICENESS)


def role_checks(settings: Settings, roles: tuple[str, ...], queue: EmbeddedQueue) -> dict[str, Check]:
    """For each of `roles` that another process has: is it there, and does its sink get on?"""

    def check(role: str) -> str | None:
        if not is_held(settings.data_path / _LOCKS[role]):
            return "is not running"
        report = queue.sink_reports().get(_SINK_OF.get(role, ""))
        return None if report is None else report.trouble

    return {role: partial(check, role) for role in roles if role in _LOCKS}
