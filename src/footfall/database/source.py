"""Where a visit came from: the name of a site, of which many hosts and spellings may be known.

`sources.tsv` has a line for each that is known: a host, which stands for all hosts below it, too, or a text that links
use for `utm_source`; the name; and the kind of source, empty if it is of no kind that channels tell apart. `google.*`
stands for `google.com`, `google.de`, `google.co.uk` and so on. `tools/sources.py` makes the file of Matomo's list of
search engines and social networks (release 3.14.0, CC0 1.0) and of additions.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from footfall.referrer import host_in


def _read() -> dict[str, tuple[str, str]]:
    lines = Path(__file__).with_name("sources.tsv").read_text("utf-8").splitlines()
    return {host: (name, kind) for host, name, kind in (line.split("\t") for line in lines)}


_SOURCES: Final = _read()
_THIS_MACHINE: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_NAMES: Final = {name.lower(): name for name, _ in _SOURCES.values()} | {
    spelling: name for spelling, (name, _) in _SOURCES.items() if "." not in spelling
}
_DEEPEST: Final = max(host.count(".") + 1 for host in _SOURCES)

KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    kind: tuple(sorted({name for name, other in _SOURCES.values() if other == kind}))
    for kind in ("search", "social", "video", "shopping", "ai")
}
"""The names of sources, by kind."""


@lru_cache(maxsize=4_096)
def source_of(referrer: str, site_id: str, host: str = "") -> str | None:
    """The source of a visit to `site_id`, on `host` if known. None for the same site or a referrer without a host."""
    source = host_in(referrer)
    if source.removeprefix("www.") in {"", _bare(site_id), _bare(host), *_THIS_MACHINE}:
        return None
    return _name_of_host(source) or source.removeprefix("www.")


@lru_cache(maxsize=1_024)
def source_named(text: str) -> str:
    """The source that a link names (`utm_source`): a known name in whatever spelling, else the text as it is."""
    spelling = text.strip().lower()
    return _NAMES.get(spelling) or ("." in spelling and _name_of_host(spelling)) or text


def _bare(host: str) -> str:
    return host.lower().removeprefix("www.")


def _name_of_host(host: str) -> str | None:
    """The name of the nearest host, at or above this one, that is known."""
    labels = host.split(".")
    for start in range(max(0, len(labels) - _DEEPEST), len(labels)):
        for known in (".".join(labels[start:]), _in_any_country(labels[start:])):
            if known in _SOURCES:
                return _SOURCES[known][0]
    return None


def _in_any_country(labels: list[str]) -> str | None:
    """How the table has a host that is in a domain of a country, or in `com`."""
    match labels:
        case [*site, "com" | "co", country] if site and len(country) == 2:
            return ".".join([*site, "*"])
        case [*site, top] if site and (top == "com" or len(top) == 2):
            return ".".join([*site, "*"])
    return None
