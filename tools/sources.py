"""Makes the table of known sources: `src/footfall/database/sources.tsv`.

    python tools/sources.py DIRECTORY

DIRECTORY holds `SearchEngines.yml` and `Socials.yml` of Matomo's list
(https://github.com/matomo-org/searchengine-and-social-list, CC0 1.0), and maybe `AIAssistants.yml`. Debian packages it
as `matomo-searchengine-and-social-list`. The table is sorted, so that a newer list shows in a diff what it changes.

`own_sources.tsv` beside this file adds what that list lacks, and comes first where both know a host: Android apps,
video, shopping and AI sites, the spellings that links use for `utm_source`, and names by which Footfall has stored
sources before.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import yaml

_OWN: Final = Path(__file__).with_name("own_sources.tsv")
_TABLE: Final = Path(__file__).parents[1] / "src" / "footfall" / "database" / "sources.tsv"
_KINDS: Final = {"Socials.yml": "social", "AIAssistants.yml": "ai", "SearchEngines.yml": "search"}
"""By file; a host that is in several is what the first says."""
_COUNTRY: Final = "{}"
_ANY_COUNTRY: Final = "*"


def main() -> None:
    """Write the table."""
    rows = dict(_own())
    kinds = {name.lower(): (name, kind) for name, kind in rows.values()}
    for file, kind in _KINDS.items():
        path = Path(sys.argv[1], file)
        for name, address in _listed(yaml.safe_load(path.read_text("utf-8"))) if path.exists() else ():
            host = _host(address)
            if host is not None:
                # One spelling and one kind for each name.
                rows.setdefault(host, kinds.setdefault(name.lower(), (name, kind)))
    lines = (f"{host}\t{name}\t{kind}\n" for host, (name, kind) in sorted(rows.items()))
    _TABLE.write_text("".join(lines), "utf-8")


def _own() -> Iterator[tuple[str, tuple[str, str]]]:
    for line in _OWN.read_text("utf-8").splitlines():
        host, name, kind = line.split("\t")
        yield host, (name, kind)


def _listed(sites: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Each name, with each of its addresses."""
    for name, entries in sites.items():
        for entry in entries:
            for address in [entry] if isinstance(entry, str) else entry["urls"]:
                yield unquote(str(name)), address


def _host(address: str) -> str | None:
    """The host as the table has it; None for an address that has more than a host, or a country in its middle."""
    host = address.lower().removeprefix(f"{_COUNTRY}.").removeprefix("www.")
    if host.endswith(f".{_COUNTRY}"):
        host = host.removesuffix(_COUNTRY) + _ANY_COUNTRY
    return None if "/" in host or _COUNTRY in host else host.encode("idna").decode()


if __name__ == "__main__":
    main()
