"""`database.url` where it names a ClickHouse server."""

import re
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from msgspec import Struct

from footfall.errors import BadSettingError

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SCHEMES: Final = {"clickhouse": 8123, "clickhouses": 8443}


class ClickhouseUrl(Struct, frozen=True):
    """`database.url`, taken apart."""

    host: str
    port: int
    is_secure: bool
    user: str
    password: str
    database: str
    cluster: str | None


def parse_url(url: str) -> ClickhouseUrl:
    """Take `clickhouse://user:password@host:8123/database?cluster=NAME` apart; `clickhouses` is the same over TLS.

    Raises:
        BadSettingError: it is not of that form; the text says what is wrong, and not the password.
    """
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        port = parts.port or _SCHEMES[parts.scheme]
    except (ValueError, KeyError):
        raise _bad_url("must be clickhouse://user:password@host:8123/database") from None
    database, cluster = parts.path.removeprefix("/"), options.pop("cluster", None)
    if not parts.hostname:
        raise _bad_url("names no host")
    if not _NAME.fullmatch(database) or (cluster is not None and not _NAME.fullmatch(cluster)):
        raise _bad_url("names of a database and a cluster are letters, digits and _, and begin with no digit")
    if options or parts.fragment:
        raise _bad_url("has one option only, ?cluster=NAME")
    return ClickhouseUrl(
        parts.hostname,
        port,
        parts.scheme == "clickhouses",
        unquote(parts.username or "default"),
        unquote(parts.password or ""),
        database,
        cluster,
    )


def _bad_url(reason: str) -> BadSettingError:
    return BadSettingError(f"database.url: {reason}")
