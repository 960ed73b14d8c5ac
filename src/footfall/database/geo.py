"""Where an address is: country, region and city, from a database in MaxMind's format (`geo.database`).

Format: https://maxmind.github.io/MaxMind-DB/. Its records have no fixed keys. Two shapes are in use, and both are read:
that of GeoIP2 (`country.iso_code`, `subdivisions`, `city.names.en`), which DB-IP has, too; and a flat one
(`country_code`, `state1` or `region`, `city`). No database is part of Footfall.

The file is mapped into memory, and opened again when another takes its place.
"""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import maxminddb

from footfall.errors import BadSettingError

Place = tuple[str | None, str | None, str | None]
"""Country (ISO 3166-1, two letters), region and city (their names in English); None for what is not known."""
NOWHERE: Final[Place] = (None, None, None)

FindPlace = Callable[[str], Place]
"""Tells the place of an address."""

_LOOK_AGAIN_S: Final = 10.0
_MAX_NAME: Final = 100
_log = logging.getLogger(__name__)


def nowhere(_address: str) -> Place:
    """Without a database, no place is known."""
    return NOWHERE


def open_places(path: str | None) -> FindPlace:
    """Open `geo.database`, if it is set.

    Raises:
        BadSettingError: the file is not there, or is no such database.
    """
    return nowhere if path is None else GeoDatabase(Path(path)).find


class GeoDatabase:
    """The places of addresses; for one thread.

    Args:
        path: the file. Whoever replaces it moves the new one there, as `geoipupdate` does: one that is written over
            while it is mapped can end the process.
        monotonic: seconds.

    Raises:
        BadSettingError: it is not there, or can't be read.
    """

    def __init__(self, path: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic = monotonic
        try:
            self._open()
        except (OSError, maxminddb.InvalidDatabaseError, ValueError) as error:
            raise BadSettingError(f"geo.database: {path} can't be read: {_reason(error)}.") from error
        self._looked_at = monotonic()

    def find(self, address: str) -> Place:
        """The place of an address; `NOWHERE` if the database does not know it."""
        now = self._monotonic()
        if now - self._looked_at >= _LOOK_AGAIN_S:
            self._looked_at = now
            self._open_again()
        try:
            record = self._reader.get(address)
        except (ValueError, maxminddb.InvalidDatabaseError):  # not an address, or IPv6 where the database has only IPv4
            return NOWHERE
        return _place_in(record) if isinstance(record, dict) else NOWHERE

    def _open(self) -> None:
        stamp = _stamp(self._path)
        reader = maxminddb.open_database(self._path)
        self._stamp, self._reader = stamp, reader

    def _open_again(self) -> None:
        """If there is another file; one that can't be read is left alone, and the old one used on."""
        try:
            if _stamp(self._path) == self._stamp:
                return
            self._open()
        except (OSError, maxminddb.InvalidDatabaseError, ValueError) as error:
            _log.warning("%s can't be read (geo.database), so the one before is still used: %s", self._path, error)
        else:
            _log.info("%s has been replaced (geo.database), and is opened again", self._path)


def _stamp(path: Path) -> tuple[int, int, int]:
    """What changes when a file is replaced."""
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error).rstrip(".")


def _place_in(record: Mapping[str, Any]) -> Place:
    country = _code(record.get("country_code")) or _code(record.get("country"))
    regions = record.get("subdivisions")
    region = regions[0] if isinstance(regions, list) and regions else record.get("region") or record.get("state1")
    return country, _name(region), _name(record.get("city"))


def _code(value: object) -> str | None:
    code = value.get("iso_code") if isinstance(value, dict) else value
    return code.upper() if isinstance(code, str) and len(code) == 2 and code.isascii() and code.isalpha() else None


def _name(value: object) -> str | None:
    if isinstance(value, dict):
        names = value.get("names")
        value = names.get("en") if isinstance(names, dict) else None
    return (value.strip()[:_MAX_NAME] or None) if isinstance(value, str) else None
