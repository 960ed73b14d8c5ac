"""Rows leave DuckDB as a stream of bytes in one of the formats that its COPY writes.

COPY writes to a named pipe, whose other end is read here. So DuckDB writes no faster than its bytes are taken, nothing
of them is on the disk, and memory is that of a few row groups. The directory for pipes (`outlet_of`) is the only one
that SQL may name.

A pipe has its name until DuckDB has opened it. If the process is killed in that moment, the name stays until the next
one is made, and holds nothing.
"""

import fcntl
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import duckdb

from footfall.database.duckdb.file import log_of

_PART_BYTES: Final = 256 * 1024


def quoted(text: str | Path) -> str:
    """A text as SQL writes it."""
    return "'" + str(text).replace("'", "''") + "'"


@contextmanager
def outlet(directory: Path, suffix: str = "") -> Iterator[Path]:
    """A name in a directory of our own, for a moment; whatever has it is removed at the end."""
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / (secrets.token_hex(8) + suffix)
    try:
        yield path
    finally:
        for left in (path, log_of(path)):
            left.unlink(missing_ok=True)
        with suppress(OSError):  # another thread has something in it
            directory.rmdir()


@contextmanager
def copied(
    cursor: duckdb.DuckDBPyConnection, directory: Path, select: str, parameters: Mapping[str, Any], options: str
) -> Iterator[Iterator[bytes]]:
    """What `COPY (select) TO … (options)` writes.

    The block may end before all was read, which gives the copy up. The cursor's transaction is of no use then.

    Raises:
        duckdb.Error: DuckDB can't do it; when the parts are taken.
    """
    failures: list[duckdb.Error] = []
    with outlet(directory) as path:
        os.mkfifo(path, 0o600)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        # As long as this end is open, too, the pipe has no end that could be taken for the end of the copy.
        writer = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        os.set_blocking(reader, True)
        with suppress(OSError):
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PART_BYTES)

        def copy() -> None:
            try:
                cursor.execute(f"COPY ({select}) TO {quoted(path)} ({options}, USE_TMP_FILE false)", dict(parameters))
            except duckdb.Error as error:
                failures.append(error)
            finally:
                os.close(writer)

        thread = threading.Thread(target=copy, name="copy", daemon=True)
        thread.start()

        def parts() -> Iterator[bytes]:
            while part := os.read(reader, _PART_BYTES):
                path.unlink(missing_ok=True)
                yield part
            thread.join()
            if failures:
                raise failures[0]

        try:
            yield parts()
        finally:
            os.close(reader)  # whoever still writes is told
            thread.join()
