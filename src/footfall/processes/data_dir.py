"""`data_dir`: checking it at the start, the locks in it, and the queue in it."""

import errno
import logging
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from typing import Final

from footfall.durable.files import UntrustedFileError, check_directory, make_directory
from footfall.durable.lock import FileLock, Presence
from footfall.errors import DamagedQueueError, FootfallError
from footfall.processes.roles import COLLECTOR
from footfall.queue.broker.relay import RELAY
from footfall.queue.local.file import FILE_NAME
from footfall.queue.local.repair import repair
from footfall.queue.local.store import LocalQueue
from footfall.queue.sink import SINKS
from footfall.settings import Settings

DATABASE_LOCK: Final = "database.lock"
RELAY_LOCK: Final = "relay.lock"
STORAGE_PRESENCE: Final = "storage.presence"
DATABASE_PRESENCE: Final = "database.presence"
"""Each process with the role holds it, while it works or stands by."""

_CLOCK_S: Final = 60.0

_log = logging.getLogger(__name__)


def prepare(settings: Settings, roles: tuple[str, ...] = (COLLECTOR,)) -> None:
    """Make `data_dir` if need be, and check it; make, check or repair the queue in it if `roles` use one.

    Raises:
        FootfallError: `data_dir` or the queue can't be used; the text says why.
    """
    path = settings.data_path
    try:
        make_directory(path)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    except UntrustedFileError as error:
        raise FootfallError(f"data_dir: {path.absolute()} can't be used: {error.strerror}") from None
    except OSError as error:
        raise FootfallError(f"data_dir: {path.absolute()} can't be written: {error.strerror}") from None
    if settings.queue.is_broker and COLLECTOR not in roles:
        return
    repair_queue(settings)
    try:
        with closing(open_queue(settings)) as queue:
            queue.check()
            _warn_of_clock(queue)
    except DamagedQueueError as error:
        repair_queue(settings, str(error))
        open_queue(settings).close()


def _warn_of_clock(queue: LocalQueue) -> None:
    """A sequence is the time of a commit, in microseconds."""
    ahead_s = queue.last_sequence() / 1e6 - time.time()
    if ahead_s > _CLOCK_S:
        _log.warning(
            "This machine's clock is %s behind the newest batch in the queue: it was set back, or was ahead before. "
            "Hits get the time that it says now",
            timedelta(seconds=int(ahead_s)),
        )


def repair_queue(settings: Settings, trouble: str | None = None) -> None:
    """Replace a damaged queue by what can still be read of it; `trouble` says what is wrong, if that is known.

    Raises:
        FootfallError: it can't be repaired.
    """
    try:
        repair(settings.data_path / FILE_NAME, trouble)
    except OSError as error:
        raise FootfallError(f"the queue can't be repaired, and is left as it was: {error} (data_dir)") from error


def lock(settings: Settings, name: str, *, purpose: str) -> FileLock:
    """Take a lock in `data_dir`.

    Raises:
        AlreadyInUseError: another process has it.
        FootfallError: its file can't be made or opened; it may belong to another user.
    """
    with _naming_data_dir():
        with suppress(FileNotFoundError):
            check_directory(settings.data_path)
        return FileLock(settings.data_path / name, purpose=purpose)


def presence(settings: Settings, name: str) -> Presence:
    """Hold a presence in `data_dir`.

    Raises:
        FootfallError: its file can't be made or opened.
    """
    with _naming_data_dir():
        return Presence(settings.data_path / name)


@contextmanager
def _naming_data_dir() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FootfallError(f"{error.filename} can't be used: {error.strerror} (data_dir).") from error


def open_queue(settings: Settings, *, share: float = 1.0, is_synced: bool = True) -> LocalQueue:
    """Open a new connection to the queue.

    Args:
        settings: all of them.
        share: the part of `queue.max_bytes` up to which this connection may fill the queue.
        is_synced: a commit waits for the disk if `queue.durability` says so; if false, it never does.

    Raises:
        FootfallError: the queue can't be opened.
    """
    path = settings.data_path / FILE_NAME
    try:
        return LocalQueue(
            path,
            sinks=(RELAY,) if settings.queue.is_broker else SINKS,
            durability=settings.queue.durability if is_synced else "memory",
            max_bytes=int(settings.queue.max_bytes * share),
            margin_hours=settings.queue.margin_hours,
        )
    except OSError as error:
        raise FootfallError(f"the queue can't be opened: {error} (data_dir)") from error
