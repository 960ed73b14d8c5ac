"""Erasures: what a person has had removed from the database, and what is not to come back.

An erasure is a record. It is kept in the database, in the transaction that removes the last of its rows, and in a file
of `data_dir`, which is there first. So an erasure that was interrupted goes on, and one that is done still holds when
the database is lost, restored from a backup or rebuilt. It says up to which place of each queue it holds: what is
behind that was received later, and counts.

File format: JSON, a list of `Erasure`; `erasures.json` in `data_dir`.
"""

import os
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from footfall.database.enrich import visitor_of
from footfall.database.schema import NAMES, Row
from footfall.durable.files import read_file, replacing
from footfall.errors import DamagedFileError

FILE_NAME: Final = "erasures.json"

ERASED: Final = "erased"
"""Why the database skips, or has removed, what an erasure names."""
RETENTION: Final = "retention"
"""The same for what is older than `database.retention_days`."""

LOG_SOURCE: Final = "visits log"
"""The source, in `positions`, of rows that came from the visits log and from no queue that is known."""

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - databases hold UTC without saying so
_TIME: Final = NAMES.index("time")
_SITE: Final = NAMES.index("site_id")
_VISITOR: Final = NAMES.index("visitor")
_USER: Final = NAMES.index("user_id")


class Erasure(Struct, frozen=True):
    """What is erased: the events to which all that is given applies.

    Attributes:
        id: a random name.
        made_us: when it was ordered, microseconds since 1970.
        until: by source, the last batch that it holds for; under the empty text, that of all other sources. A sequence
            is a time (`footfall.queue.local.file`), so that one is `made_us`.
        site_id: the site, or None for all.
        user_id: the user, or None for all.
        before: the events that happened before this UTC day, or None for all.
    """

    id: str
    made_us: int
    until: dict[str, int]
    site_id: str | None = None
    user_id: str | None = None
    before: date | None = None

    @property
    def end(self) -> datetime | None:
        """The moment before which an event has to be."""
        return None if self.before is None else datetime(self.before.year, self.before.month, self.before.day)  # noqa: DTZ001

    @property
    def made_at(self) -> datetime:
        return _EPOCH + timedelta(microseconds=self.made_us)

    @property
    def needs_names(self) -> bool:
        """Whether it asks for a site or a user, which the visits log does not tell."""
        return self.site_id is not None or self.user_id is not None

    def holds_for(self, source: str, sequence: int) -> bool:
        """Whether a batch was received before. Lines of the log that were, and are of nobody known, are not asked."""
        if source == LOG_SOURCE:
            return not self.needs_names
        return sequence <= self.until.get(source, self.until[""])

    def names(self, row: Row) -> bool:
        """Whether a row is one of those that it names."""
        return (
            (self.site_id is None or row[_SITE] == self.site_id)
            and (self.user_id is None or row[_USER] == self.user_id or row[_VISITOR] == self._visitor(str(row[_SITE])))
            and (self.end is None or _time_of(row) < self.end)
        )

    def visitors(self, sites: Iterable[str]) -> list[int]:
        """The user's numbers on sites; none where no user is named."""
        return [] if self.user_id is None else [self._visitor(site_id) for site_id in sites]

    def _visitor(self, site_id: str) -> int:
        assert self.user_id is not None
        return visitor_of(site_id, self.user_id)


class Keeping:
    """What the database does not take: what is too old, and what was erased.

    Args:
        oldest: before this, nothing is kept; None for no such limit.
        erasures: all that there are.
    """

    def __init__(self, oldest: datetime | None = None, erasures: Sequence[Erasure] = ()) -> None:
        self._oldest = oldest
        self._erasures = erasures

    def of(self, source: str, sequence: int) -> "Keeping | None":
        """What holds for a batch; None for nothing, which is as a rule."""
        erasures = [erasure for erasure in self._erasures if erasure.holds_for(source, sequence)]
        return Keeping(self._oldest, erasures) if erasures or self._oldest else None

    def reason_against(self, row: Row) -> str | None:
        """Why a row has no place in the database, or None."""
        if self._oldest is not None and _time_of(row) < self._oldest:
            return RETENTION
        return ERASED if any(erasure.names(row) for erasure in self._erasures) else None


def _time_of(row: Row) -> datetime:
    time = row[_TIME]
    assert isinstance(time, datetime)
    return time


NOTHING_ERASED: Final = Keeping()


def oldest_kept(now: datetime, retention_days: int | None) -> datetime | None:
    """The first moment of the oldest UTC day that is kept; None without a limit."""
    if retention_days is None:
        return None
    try:
        return now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=retention_days)
    except OverflowError:
        return None


class ErasureFile:
    """The erasures that were ordered in a `data_dir`.

    Args:
        path: the file; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._erasures: list[Erasure] = []

    def read(self) -> list[Erasure]:
        """All of them.

        Raises:
            OSError: the file can't be read now.
            DamagedFileError: it is not what was written.
        """
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._seen, self._erasures = None, []
            return []
        if (seen := (status.st_ino, status.st_mtime_ns)) != self._seen:
            try:
                self._erasures = msgspec.json.decode(read_file(self._path), type=list[Erasure])
            except msgspec.DecodeError as error:
                raise DamagedFileError(
                    f"{self._path} can't be read: {error}. It says what must not come back into the database; restore "
                    "it from a backup (data_dir)."
                ) from error
            self._seen = seen
        return self._erasures

    def add(self, erasure: Erasure) -> None:
        """Add one, durably; the caller sees to it that only one process does at a time.

        Raises:
            OSError, DamagedFileError: as `read`.
        """
        erasures = [*self.read(), erasure]
        with replacing(self._path) as file:
            file.write(msgspec.json.encode(erasures))


def make_erasure(
    until: dict[str, int], now_us: int, *, site_id: str | None, user_id: str | None, before: date | None
) -> Erasure:
    """A new one, which holds for all that was received by `now_us`, and in the sources of `until` up to there."""
    return Erasure(os.urandom(8).hex(), now_us, {**until, "": now_us}, site_id, user_id, before)
