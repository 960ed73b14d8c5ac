"""What to type for a library that is not there, where Footfall was installed from: a package, or a clone."""

import json
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit


def how_to_install(extra: str) -> str:
    """A command that installs what an extra of pyproject.toml names."""
    clone = _clone()
    if clone is None:
        return f"{sys.executable} -m pip install 'footfall[{extra}]'"
    return f"{sys.executable} -m pip install --require-hashes -r {clone / 'requirements-extras.txt'}"


def _clone() -> Path | None:
    """The directory that an editable install points to (PEP 610): what it needs is listed there."""
    try:
        text = distribution("footfall").read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    origin = json.loads(text or "{}")
    if not origin.get("dir_info", {}).get("editable"):
        return None
    path = Path(unquote(urlsplit(origin["url"]).path))
    return path if (path / "requirements-extras.txt").exists() else None
