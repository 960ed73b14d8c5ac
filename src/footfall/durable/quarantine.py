"""A damaged file is never deleted: it gets another name, for somebody to look at."""

from datetime import UTC, datetime
from pathlib import Path


def set_aside(path: Path, *suffixes: str) -> Path | None:
    """Rename a file, and the files that belong to it, to names that say so.

    Args:
        path: the file; it need not be there.
        suffixes: of the names of the other files. Each is kept at the end of the new name, where tools look for it.

    Returns:
        the new name of `path`, or None if nothing was there.

    Raises:
        OSError: a file can't be renamed.
    """
    stem = f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    is_any = False
    for suffix in (*suffixes, ""):
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.rename(path.with_name(stem + suffix))
            is_any = True
    return path.with_name(stem) if is_any else None
