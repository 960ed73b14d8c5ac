"""Quarantine: a damaged file is never deleted; it gets another name, so that somebody can look at it."""

from datetime import UTC, datetime
from pathlib import Path


def quarantine(path: Path, *suffixes: str) -> Path | None:
    """Rename a damaged file, and the files that belong to it, to names that say so.

    Args:
        path: the file; it need not exist.
        suffixes: what the names of the other files end in. Each stays at the end of the new name, where tools look.

    Returns:
        the new name of `path`, or None if there was no file.

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
