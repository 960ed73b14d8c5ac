"""All settings, with their defaults, their types and what is allowed. `footfall.config` reads them.

A test compares README.md's table and `deploy/appsettings.json` with the classes here.
"""

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from footfall.sites import SiteSettings, is_time_zone, no_time_zone, site_errors

Host = Annotated[str, Meta(min_length=1)]
Port = Annotated[int, Meta(ge=1, le=65_535)]


class CollectorSettings(Struct, frozen=True, forbid_unknown_fields=True):
    host: Host = "127.0.0.1"
    port: Port = 8000
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    max_body_bytes: Annotated[int, Meta(ge=1, le=16 * 1024 * 1024)] = 65_536
    trusted_proxies: list[str] = []
    public_url: str | None = None
    pixel_url: str | None = None
    only_known_sites: bool = False
    max_age_hours: Annotated[int, Meta(ge=1)] | None = None
    rate_limit_per_minute: Annotated[int, Meta(ge=1)] | None = None
    honour_privacy_signals: bool = False

    @property
    def browsers_url(self) -> str:
        """Where browsers reach the collector, without a slash at the end. Unless set, where this machine does."""
        return self.public_url.rstrip("/") if self.public_url is not None else local_url(self.host, self.port)


class QueueSettings(Struct, frozen=True, forbid_unknown_fields=True):
    url: Annotated[str, Meta(min_length=1)] | None = None
    durability: Literal["disk", "memory"] = "disk"
    max_bytes: Annotated[int, Meta(ge=128 * 1024)] = 1 << 30
    margin_hours: Annotated[int, Meta(ge=0)] = 48

    @property
    def is_broker(self) -> bool:
        """Whether consumers read from a broker; the embedded queue then only leads to it."""
        return self.url is not None


class StorageSettings(Struct, frozen=True, forbid_unknown_fields=True):
    path: Annotated[str, Meta(min_length=1)] = "/tmp/visits.log"  # noqa: S108 - the contract's default
    addresses: Literal["whole", "truncated", "none"] = "whole"
    referrer_queries: Literal["keep", "strip"] = "keep"


class DatabaseSettings(Struct, frozen=True, forbid_unknown_fields=True):
    url: str | None = None
    path_queries: Literal["strip", "keep"] = "strip"
    referrer_queries: Literal["strip", "keep"] = "strip"
    retention_days: Annotated[int, Meta(ge=1)] | None = None
    memory_limit_mb: Annotated[int, Meta(ge=128)] = 512

    @property
    def keeps_queries(self) -> bool:
        """Whether the database stores the query of a referrer."""
        return self.referrer_queries == "keep"

    @property
    def is_clickhouse(self) -> bool:
        """Whether this is a server that many processes can use; else it is DuckDB's file, for one process."""
        return self.url is not None and _scheme(self.url) in {"clickhouse", "clickhouses"}


class GeoSettings(Struct, frozen=True, forbid_unknown_fields=True):
    database: Annotated[str, Meta(min_length=1)] | None = None


class ReportingSettings(Struct, frozen=True, forbid_unknown_fields=True):
    host: Host = "127.0.0.1"
    port: Port = 8001
    token: Annotated[str, Meta(min_length=1)] | None = None
    time_zone: Annotated[str, Meta(min_length=1)] = "UTC"


class MonitorSettings(Struct, frozen=True, forbid_unknown_fields=True):
    host: Host = "127.0.0.1"
    port: Port | None = None


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """All settings; README.md and docs/operations.md say what each means."""

    data_dir: Annotated[str, Meta(min_length=1)] = "footfall-data"
    collector: CollectorSettings = CollectorSettings()
    queue: QueueSettings = QueueSettings()
    storage: StorageSettings = StorageSettings()
    database: DatabaseSettings = DatabaseSettings()
    geo: GeoSettings = GeoSettings()
    reporting: ReportingSettings = ReportingSettings()
    monitor: MonitorSettings = MonitorSettings()
    sites: dict[str, SiteSettings] = {}

    @property
    def data_path(self) -> Path:
        return Path(self.data_dir)

    @property
    def database_path(self) -> Path:
        """Where DuckDB's file is."""
        named = "" if self.database.url is None else self.database.url.removeprefix("duckdb:")
        return Path(named) if named else self.data_path / "footfall.duckdb"


def setting_errors(settings: Settings) -> Iterator[tuple[str, str]]:
    """Check what types can't say: the key of each value that is not allowed, and what is."""
    yield from _proxy_errors(settings.collector.trusted_proxies)
    public_url = settings.collector.public_url
    if public_url is not None and not _is_base_url(public_url):
        reason = (
            "must be the http:// or https:// address of the collector, as in https://stats.example.com or "
            "https://example.com/footfall, without user, query and fragment"
        )
        yield "collector.public_url", reason
    pixel_url = settings.collector.pixel_url
    if pixel_url is not None and not _is_http_url(pixel_url):
        yield "collector.pixel_url", "must be an http:// or https:// address of an image, in ASCII"
    queue_url = settings.queue.url
    if queue_url is not None and _scheme(queue_url) not in {"kafka", "amqp", "amqps"}:
        yield (
            "queue.url",
            "must be kafka://host:9092/topic or amqp://user:password@host:5672/vhost; without it the queue is embedded",
        )
    database = settings.database
    if database.url is not None and not (database.url.startswith("duckdb:") or database.is_clickhouse):
        yield "database.url", "must be duckdb:PATH, or clickhouse://user:password@host:8123/database; or left out"
    if database.is_clickhouse and database.retention_days is not None:
        yield "database.retention_days", "is for DuckDB; in ClickHouse, give the table events a TTL"
    token = settings.reporting.token
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        yield "reporting.token", "must be ASCII without spaces: it travels in a header"
    if not is_time_zone(settings.reporting.time_zone):
        yield "reporting.time_zone", no_time_zone(settings.reporting.time_zone)
    yield from site_errors(settings.sites)


def is_loopback(host: str) -> bool:
    """Whether a listener on `host` is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def local_url(host: str, port: int) -> str:
    """The address of a listener, as this machine reaches it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - what listens on all is reached by one
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _proxy_errors(networks: list[str]) -> Iterator[tuple[str, str]]:
    for network in networks:
        try:
            prefix_length = ipaddress.ip_network(network).prefixlen
        except ValueError as error:
            yield "collector.trusted_proxies", f"{error}; write networks as in 10.0.0.0/8"
            continue
        if prefix_length == 0:
            reason = (
                f"{network} would let everybody write any address into X-Forwarded-For, and so forge visitors and "
                "evade limits; name only the networks of your proxies, as in 10.0.0.0/8"
            )
            yield "collector.trusted_proxies", reason


def _scheme(url: str) -> str:
    """Of what sort an address is; the empty text where it is none."""
    try:
        return urlsplit(url).scheme
    except ValueError:
        return ""


def _is_http_url(text: str) -> bool:
    if not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _is_base_url(text: str) -> bool:
    """Whether a path can be put behind it."""
    if not _is_http_url(text) or any(mark in text for mark in '?#@"<>\\'):
        return False
    try:
        return urlsplit(text).port != 0
    except ValueError:
        return False
