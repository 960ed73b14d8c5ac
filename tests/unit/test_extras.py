"""What to type for a library that is missing."""

import json
import sys
from pathlib import Path

import pytest

from footfall import extras


class Installed:
    """A distribution as importlib tells of one."""

    def __init__(self, direct_url: object) -> None:
        self._text = None if direct_url is None else json.dumps(direct_url)

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self._text


def test_a_clone_has_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the extra's name is of no use to pip: the list of the clone is, with its hashes."""
    clone = tmp_path / "a b"
    clone.mkdir()
    (clone / "requirements-extras.txt").touch()
    origin = {"url": clone.as_uri(), "dir_info": {"editable": True}}
    monkeypatch.setattr(extras, "distribution", lambda _: Installed(origin))
    expected = f"{sys.executable} -m pip install --require-hashes -r {clone / 'requirements-extras.txt'}"
    assert expected == extras.how_to_install("kafka")


@pytest.mark.parametrize(
    "origin", [None, {"url": "file:///x.whl"}, {"url": "file:///x", "dir_info": {"editable": True}}]
)
def test_a_package_has_extras(origin: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed from an index, a wheel, or a clone that is gone."""
    monkeypatch.setattr(extras, "distribution", lambda _: Installed(origin))
    assert f"{sys.executable} -m pip install 'footfall[kafka]'" == extras.how_to_install("kafka")
