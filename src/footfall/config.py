"""Settings: defaults, then `appsettings.json`, then the environment; what is unknown or out of range is an error."""

import ipaddress
import json
import os
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from footfall.errors import BadSettingError
from footfall.sites import SiteSettings, errors_of

FILE_NAME = "appsettings.json"
ENV_PREFIX = "FOOTFALL__"

_URL_SCHEMES = {"kafka", "amqp", "amqps", "clickhouse", "clickhouses"}
_URL_HOST = r"(?:[\w.-]+|\[[\da-fA-F:.]+\])(?::\d*)?"
_URL_PLACE = re.compile(rf"(?:{_URL_HOST}(?:,{_URL_HOST})*)?(?:/[\w.%~-]*)?")
"""Hosts with their ports, and a name."""

Host = Annotated[str, Meta(min_length=1)]
Port = Annotated[int, Meta(ge=1, le=65_535)]


class CollectorSettings(Struct, frozen=True, forbid_unknown_fields=True):
    host: Host = "127.0.0.1"
    port: Port = 8000
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    max_body_bytes: Annotated[int, Meta(ge=1, le=16 * 1024 * 1024)] = 65_536
    trusted_proxies: list[str] = []
    pixel_url: str | None = None
    only_known_sites: bool = False
    max_age_hours: Annotated[int, Meta(ge=1)] | None = None
    honour_privacy_signals: bool = False


class QueueSettings(Struct, frozen=True, forbid_unknown_fields=True):
    url: Annotated[str, Meta(min_length=1)] | None = None
    durability: Literal["disk", "memory"] = "disk"
    max_bytes: Annotated[int, Meta(ge=128 * 1024)] = 1 << 30
    margin_hours: Annotated[int, Meta(ge=0)] = 48

    @property
    def is_broker(self) -> bool:
        """Whether consumers read from a broker, and the embedded queue is only on the way to it."""
        return self.url is not None


class StorageSettings(Struct, frozen=True, forbid_unknown_fields=True):
    path: Annotated[str, Meta(min_length=1)] = "/tmp/visits.log"  # noqa: S108 - the contract's default
    addresses: Literal["whole", "truncated", "none"] = "whole"
    referrer_queries: Literal["keep", "strip"] = "keep"


class DatabaseSettings(Struct, frozen=True, forbid_unknown_fields=True):
    url: str | None = None
    path_queries: Literal["strip", "keep"] = "strip"
    referrer_queries: Literal["strip", "keep"] = "strip"

    @property
    def keeps_queries(self) -> bool:
        """Whether what a referrer asked for is stored."""
        return self.referrer_queries == "keep"

    @property
    def is_clickhouse(self) -> bool:
        """Whether it is a server, which many processes can use; else it is DuckDB's file, and for one."""
        return self.url is not None and _scheme(self.url) in {"clickhouse", "clickhouses"}


class ReportingSettings(Struct, frozen=True, forbid_unknown_fields=True):
    host: Host = "127.0.0.1"
    port: Port = 8001
    token: Annotated[str, Meta(min_length=1)] | None = None


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


class Source(Struct, frozen=True):
    """One setting's value as it will be used, and where it came from: `default`, the file, or a variable."""

    key: str
    value: Any
    origin: str

    @property
    def text(self) -> str:
        """The value as a settings file has it, but for the quotes of a text; `none` for a setting without one."""
        if self.value is None or isinstance(self.value, str):
            return self.value or "none"
        return msgspec.json.encode(self.value).decode()


class LoadedSettings(Struct, frozen=True):
    settings: Settings
    origins: dict[str, str]

    def sources(self) -> Iterator[Source]:
        """Every setting in the order of the documentation. A secret's value is masked."""
        for key in known_keys():
            value: Any = self.settings
            for part in key.split("."):
                value = getattr(value, part)
            yield Source(key, _masked(key, msgspec.to_builtins(value)), self.origins.get(key, "default"))


def known_keys() -> list[str]:
    """The name of every setting, in the order of the documentation."""
    return [key for key, _ in _known_fields()]


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> LoadedSettings:
    """Read the settings.

    Args:
        path: the file; None takes `appsettings.json` of the working directory, which may be absent.
        environ: the variables.

    Raises:
        BadSettingError: a key, a variable or a value that is not allowed; the text names it and says what is.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for key, value in _from_file(path):
        values[key], origins[key] = value, str(path or FILE_NAME)
    for key, value, variable in _from_environment(environ):
        values[key], origins[key] = value, variable
    settings = _convert(values, origins)
    _check(settings, origins)
    for key, reason in errors_of(settings.sites):
        raise BadSettingError(f"{key} ({origins['sites']}): {reason}")
    return LoadedSettings(settings, origins)


def is_loopback(host: str) -> bool:
    """Whether a listener on `host` is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _known_fields() -> list[tuple[str, Any]]:
    fields: list[tuple[str, Any]] = []
    for field in msgspec.structs.fields(Settings):
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            fields += [(f"{field.name}.{inner.name}", inner.type) for inner in msgspec.structs.fields(field.type)]
        else:
            fields.append((field.name, field.type))
    return fields


def _from_file(path: Path | None) -> Iterator[tuple[str, Any]]:
    file = Path(FILE_NAME) if path is None else path
    try:
        document = json.loads(file.read_text("utf-8-sig"))
    except FileNotFoundError:
        if path is None:
            return
        raise BadSettingError(f"{file}: there is no such file (--settings)") from None
    except (ValueError, RecursionError, OSError) as error:
        raise BadSettingError(f"{file}: can't be read as JSON: {error}") from None
    if not isinstance(document, dict):
        raise BadSettingError(f"{file}: must hold a JSON object")
    known = known_keys()
    sections = {key.partition(".")[0] for key in known if "." in key}
    for name, value in document.items():
        if name in sections:
            if not isinstance(value, dict):
                raise BadSettingError(f"{file}: {name} must be a JSON object")
            entries = [(f"{name}.{inner}", inner_value) for inner, inner_value in value.items()]
        else:
            entries = [(name, value)]
        for key, entry in entries:
            if key not in known:
                raise BadSettingError(f"{file}: there is no setting {key}; {_allowed(key)}")
            yield key, entry


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, Any, str]]:
    types = dict(_known_fields())
    by_variable = {ENV_PREFIX + key.replace(".", "__").upper(): key for key in types}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(ENV_PREFIX):
            continue
        key = by_variable.get(variable)
        if key is None:
            guess = variable.removeprefix(ENV_PREFIX).lower().replace("__", ".")
            raise BadSettingError(f"{variable}: there is no such setting; {_allowed(guess)}")
        yield key, _parsed(text, types[key]), variable


def _parsed(text: str, setting_type: Any) -> Any:  # noqa: ANN401 - a setting is of any type
    """What a variable says: a list between commas or as JSON, an object as JSON; anything else is left as it is."""
    if setting_type == list[str]:
        return _split(text)
    if typing.get_origin(setting_type) is dict:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass  # said of the value below
    return text


def _split(text: str) -> list[str]:
    """A list in a variable: JSON, or values between commas."""
    if text.lstrip().startswith("["):
        try:
            value = json.loads(text)
        except ValueError:
            pass
        else:
            return [str(item) for item in value]
    return [part.strip() for part in text.split(",") if part.strip()]


def _allowed(key: str) -> str:
    section = key.partition(".")[0]
    known = [name for name in known_keys() if name.startswith(section + ".")] or known_keys()
    return "known are: " + ", ".join(known)


def _convert(values: Mapping[str, Any], origins: Mapping[str, str]) -> Settings:
    nested: dict[str, Any] = {}
    for key, field_type in _known_fields():
        if key not in values:
            continue
        # A variable is text whatever the setting is; JSON already says what is a number.
        strict = not origins[key].startswith(ENV_PREFIX)
        if key == "sites":
            value: Any = _convert_sites(values[key], origins[key])
        else:
            value = _convert_value(key, values[key], field_type, origins[key], strict=strict)
        section, _, name = key.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[name] = value
    return msgspec.convert(nested, Settings)


def _convert_value(key: str, value: Any, setting_type: Any, origin: str, *, strict: bool = True) -> Any:  # noqa: ANN401 - a setting is of any type
    try:
        return msgspec.convert(value, setting_type, strict=strict)
    except msgspec.ValidationError as error:
        reason = str(error).replace("`", "").partition(" - at ")[0]
        raise BadSettingError(f"{key} = {_masked(key, value)!r} ({origin}): {reason}") from None


def _convert_sites(value: Any, origin: str) -> dict[str, SiteSettings]:  # noqa: ANN401 - whatever was written there
    """Each site, and each thing said of it, by itself, so that an error names its place."""
    for site_id, site in _members("sites", value, origin):
        known = {field.name: field.type for field in msgspec.structs.fields(SiteSettings)}
        for name, part in _members(f"sites.{site_id}", site, origin):
            if name not in known:
                raise BadSettingError(
                    f"{origin}: there is no setting sites.{site_id}.{name}; known are: {', '.join(known)}"
                )
            _convert_value(f"sites.{site_id}.{name}", part, known[name], origin)
    return msgspec.convert(value, dict[str, SiteSettings])


def _members(key: str, value: Any, origin: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - as above
    if not isinstance(value, dict):
        raise BadSettingError(
            f'{key} = {value!r} ({origin}): must be a JSON object, as in {{"my-site": {{"domains": ["blog.example"]}}}}'
        )
    yield from value.items()


def _check(settings: Settings, origins: Mapping[str, str]) -> None:
    """What types can't say."""

    def refuse(key: str, reason: str) -> BadSettingError:
        return BadSettingError(f"{key} ({origins.get(key, 'default')}): {reason}")

    for source in LoadedSettings(settings, {}).sources():
        if isinstance(source.value, str) and not _is_text(source.value):
            raise refuse(source.key, "must be UTF-8, without NUL")
    reason = _reason_against_proxies(settings.collector.trusted_proxies)
    if reason is not None:
        raise refuse("collector.trusted_proxies", reason)
    pixel_url = settings.collector.pixel_url
    if pixel_url is not None and not _is_http_url(pixel_url):
        raise refuse("collector.pixel_url", "must be an http:// or https:// address of an image, in ASCII")
    queue_url = settings.queue.url
    if queue_url is not None and _scheme(queue_url) not in {"kafka", "amqp", "amqps"}:
        raise refuse(
            "queue.url",
            "must be kafka://host:9092/topic or amqp://user:password@host:5672/vhost; without it the queue is embedded",
        )
    database = settings.database
    if database.url is not None and not (database.url.startswith("duckdb:") or database.is_clickhouse):
        raise refuse(
            "database.url", "must be duckdb:PATH, or clickhouse://user:password@host:8123/database; or left out"
        )
    token = settings.reporting.token
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise refuse("reporting.token", "must be ASCII without spaces: it travels in a header")


def _reason_against_proxies(networks: Sequence[str]) -> str | None:
    for network in networks:
        try:
            prefix_length = ipaddress.ip_network(network).prefixlen
        except ValueError as error:
            return f"{error}; write networks as in 10.0.0.0/8"
        if prefix_length == 0:
            return (
                f"{network} would let everybody write any address into X-Forwarded-For, and so forge visitors and "
                "evade limits; name only the networks of your proxies, as in 10.0.0.0/8"
            )
    return None


def _is_text(value: str) -> bool:
    """Whether it can be a file's name or go into a database: JSON can hold half a character, a variable any byte."""
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


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


def _masked(key: str, value: Any) -> Any:  # noqa: ANN401 - a setting is of any type
    if value is None:
        return None
    if key == "reporting.token":
        return "***"
    return masked_url(str(value)) if key.endswith(".url") else value


def masked_url(url: str) -> str:
    """An address without what is secret in it: who logs in, and options, among which Kafka has its password.

    Only what certainly is a host, a port or a name is shown: a password that is not escaped may hold any character.
    """
    scheme, colon, rest = url.partition(":")
    if scheme == "duckdb":
        return url
    if scheme.lower() not in _URL_SCHEMES or not rest.startswith("//"):
        return f"{scheme}:***" if scheme.lower() in _URL_SCHEMES else "***"
    rest = rest[2:]
    host = 0 if scheme.lower() == "kafka" else rest.rfind("@") + 1  # Kafka's options may hold an @
    place, question, _ = rest[host:].partition("?")
    user, at, place = (rest[:host] + place).rpartition("@")
    shown = place if _URL_PLACE.fullmatch(place) else "***"
    return f"{scheme}{colon}//{'***' if user else ''}{at}{shown}{question}{'***' if question else ''}"
