"""What can be taken out of a database besides reports: answers to SQL, exported events, a copy of the whole.

How each format writes a row is said here, and each database writes it so: it is many times as fast as Python, and
needs the memory of a few parts, however many rows there are. All formats have the columns of `footfall.database.schema`
under the same names. Rows come in the order in which the database has them, roughly that of their arrival.

- **NDJSON**: a JSON object a line. Times are UTC (RFC 3339, with microseconds), `visitor` is 32 hex digits, `props` is
  an object. This is exact, and `footfall rebuild` reads it.
- **Parquet**: likewise, with times as such. `props` is its JSON text.
- **CSV** (RFC 4180): a header line, then the same texts; what is not known is empty. A text that a spreadsheet would
  take for a formula, because it begins with one of `FORMULA_STARTS`, gets a `'` in front, for whoever sends a hit
  chooses its texts (https://owasp.org/www-community/attacks/CSV_Injection).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from msgspec import Struct

from footfall.errors import FootfallError

FORMULA_STARTS: Final = "=+-@\t\r\n＝＋－＠"  # noqa: RUF001 - the wide forms, which some spreadsheets read alike
"""With any of these a cell begins that a spreadsheet may calculate."""


class Format(StrEnum):
    """How exported events are written; the values are the suffixes of such files, too."""

    CSV = "csv"
    PARQUET = "parquet"
    NDJSON = "ndjson"


class Selection(Struct, frozen=True):
    """Which events are exported.

    Attributes:
        site_id: those of one site; None for all sites.
        start: from when on, UTC without a zone; None for no beginning.
        end: before when; None for no end.
    """

    site_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None


EVERYTHING: Final = Selection()


class Exported(NamedTuple):
    """Events that are being exported.

    Attributes:
        events: how many there are.
        parts: the bytes, in order.
    """

    events: int
    parts: Iterator[bytes]


class Answer(NamedTuple):
    """The answer to a statement of SQL.

    Attributes:
        columns: their names.
        rows: some rows at a time; each cell is JSON, None for NULL.
    """

    columns: list[str]
    rows: Iterator[Sequence[Sequence[str | None]]]


class SqlError(FootfallError):
    """A statement can't be run as it is; the text is the database's own, or says what is not allowed."""

    exit_code = 2


class BusyError(FootfallError):
    """As much is being taken out at once as may be: try again later."""


class Contents(ABC):
    """Takes out what a database holds, and changes nothing; any thread may call it, also while somebody writes.

    All that a method gives is of one moment. Its parts come while its context is open, and no faster than they are
    taken; whoever stops early leaves the context. Besides the errors that are named, to enter a context or to take a
    part raises

        TimeoutError: it took longer, or more memory, than it may.
        OSError: the database can't be read now.
        FootfallError: it can't be done; the text says what to do.
    """

    @abstractmethod
    def query(self, sql: str) -> AbstractContextManager[Answer]:
        """Run one statement that reads.

        Raises:
            SqlError: it is not one, or wrong.
        """

    @abstractmethod
    def export(
        self, selection: Selection, form: Format, *, is_restorable: bool = False
    ) -> AbstractContextManager[Exported]:
        """Write events.

        Args:
            selection: which.
            form: how.
            is_restorable: before the events, which are all events as NDJSON then, come the lines that a rebuild needs
                (`footfall.database.restorable`).
        """

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[Iterator[bytes]]:
        """Copy the database: the bytes of a database file with the same contents, without its salts."""
