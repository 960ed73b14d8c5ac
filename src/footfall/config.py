"""Settings: defaults, then `appsettings.json`, then the environment; what is unknown or out of range is an error."""

import difflib
import json
import os
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from footfall.durable.files import UntrustedFileError, open_file
from footfall.errors import BadSettingError
from footfall.settings import Settings, setting_errors
from footfall.sites import SiteSettings
from footfall.wording import allowed_values

FILE_NAME = "appsettings.json"
ENV_PREFIX = "FOOTFALL__"
_NONE = "none"
_MAX_FILE_BYTES = 1 << 20
_ALIKE = 0.8
"""How much two names have in common, of 1, if one is taken for the other misspelt."""
_MAX_SHOWN = 15
"""Names that are listed where one of them may have been meant."""

_URL_SCHEMES = {"kafka", "amqp", "amqps", "clickhouse", "clickhouses"}
_URL_HOST = r"(?:[\w.-]+|\[[\da-fA-F:.]+\])(?::\d*)?"
_URL_PLACE = re.compile(rf"(?:{_URL_HOST}(?:,{_URL_HOST})*)?(?:/[\w.%~-]*)?")
"""Hosts with their ports, and a name."""


class Source(Struct, frozen=True):
    """One setting's value as it will be used, and where it came from: `default`, the file, or a variable."""

    key: str
    value: Any
    origin: str

    @property
    def text(self) -> str:
        """The value as a settings file has it, but for the quotes of a text; `none` for a setting without one."""
        if self.value is None or isinstance(self.value, str):
            return self.value or _NONE
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
    for key, reason in setting_errors(settings):
        origin = origins.get("sites" if key.startswith("sites.") else key, "default")
        raise BadSettingError(f"{key} ({origin}): {reason}")
    return LoadedSettings(settings, origins)


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
    document = _document(path)
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
                raise BadSettingError(f"{file}: there is no setting {key}; {_hint(key, known)}")
            yield key, entry


def _document(path: Path | None) -> dict[str, Any]:
    """What the settings file holds; nothing if none is named and there is none."""
    file = Path(FILE_NAME) if path is None else path
    try:
        # One that nobody has named may be a stranger's, where the working directory is shared.
        content = _read(open_file(file, os.O_RDONLY) if path is None else os.open(file, os.O_RDONLY | os.O_CLOEXEC))
        document = json.loads(content.decode("utf-8-sig"))
    except UntrustedFileError as error:
        raise BadSettingError(f"{file}: {error.strerror}; or name it (--settings)") from None
    except FileNotFoundError:
        if path is None:
            return {}
        raise BadSettingError(f"{file}: there is no such file (--settings)") from None
    except (ValueError, RecursionError, OSError) as error:
        raise BadSettingError(f"{file}: can't be read as JSON: {error}") from None
    if not isinstance(document, dict):
        raise BadSettingError(f"{file}: must hold a JSON object")
    return document


def _read(fd: int) -> bytes:
    """The whole file, unless it is too long: `/dev/zero` has no end."""
    with os.fdopen(fd, "rb") as file:
        content = file.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError(f"it is longer than {_MAX_FILE_BYTES:,} bytes")
    return content


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, Any, str]]:
    types = dict(_known_fields())
    by_variable = {ENV_PREFIX + key.replace(".", "__").upper(): key for key in types}
    with_one_underscore = {variable.replace("__", "_"): variable for variable in by_variable}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(ENV_PREFIX):
            if meant := with_one_underscore.get(variable):
                raise BadSettingError(f"{variable}: write two underscores where this has one: {meant}")
            continue
        key = by_variable.get(variable)
        if key is None:
            raise BadSettingError(f"{variable}: there is no such setting; {_hint(variable, list(by_variable))}")
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


def _hint(name: str, known: Sequence[str]) -> str:
    """What may have been meant by a name that is unknown, and what is known."""
    without_prefix = {key.removeprefix(ENV_PREFIX): key for key in known}
    near = difflib.get_close_matches(name.removeprefix(ENV_PREFIX), without_prefix, n=1, cutoff=_ALIKE)
    meant = f"did you mean {without_prefix[near[0]]}? " if near else ""
    separator = "__" if name.startswith(ENV_PREFIX) else "."
    section = name.rpartition(separator)[0] + separator
    shown = [key for key in known if key.startswith(section)] or known
    if near and len(shown) > _MAX_SHOWN:
        return f"{meant}footfall config lists all"
    return f"{meant}Known are: {', '.join(shown)}"


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
    if isinstance(value, str) and not _is_text(value):
        raise BadSettingError(f"{key} = {_masked(key, value)!r} ({origin}): must be UTF-8, without NUL")
    if value == _NONE and type(None) in typing.get_args(setting_type):
        return None  # as `footfall config` prints it
    try:
        return msgspec.convert(value, setting_type, strict=strict)
    except msgspec.ValidationError:
        allowed = allowed_values(setting_type)
        raise BadSettingError(f"{key} = {_masked(key, value)!r} ({origin}): must be {allowed}") from None


def _convert_sites(value: Any, origin: str) -> dict[str, SiteSettings]:  # noqa: ANN401 - whatever was written there
    """Each site, and each thing said of it, by itself, so that an error names its place."""
    for site_id, site in _members("sites", value, origin):
        _check_members(f"sites.{site_id}", site, SiteSettings, origin)
    return msgspec.convert(value, dict[str, SiteSettings])


def _check_members(key: str, value: Any, shape: type[Struct], origin: str) -> None:  # noqa: ANN401 - as above
    fields = {field.name: field for field in msgspec.structs.fields(shape)}
    given = dict(_members(key, value, origin))
    for name, part in given.items():
        if name not in fields:
            raise BadSettingError(f"{origin}: there is no setting {key}.{name}; {_hint(name, list(fields))}")
        listed = typing.get_args(fields[name].type)
        if listed and isinstance(listed[0], type) and issubclass(listed[0], Struct):
            if not isinstance(part, list):
                raise BadSettingError(f"{key}.{name} = {part!r} ({origin}): must be a list of JSON objects")
            for index, one in enumerate(part):
                _check_members(f"{key}.{name}[{index}]", one, listed[0], origin)
        else:
            _convert_value(f"{key}.{name}", part, fields[name].type, origin)
    for name, field in fields.items():
        if field.required and name not in given:
            raise BadSettingError(f"{key} ({origin}): needs {name}")


def _members(key: str, value: Any, origin: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - as above
    if not isinstance(value, dict):
        example = "" if "[" in key else ', as in {"my-site": {"domains": ["blog.example"]}}'
        raise BadSettingError(f"{key} = {value!r} ({origin}): must be a JSON object{example}")
    yield from value.items()


def _is_text(value: str) -> bool:
    """Whether it can be a file's name or go into a database: JSON can hold half a character, a variable any byte."""
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


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
