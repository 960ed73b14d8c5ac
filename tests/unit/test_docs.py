"""The documentation agrees with the program: what is there is described, and what is described is there."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from footfall import config, telemetry
from footfall.collector.admission import FOREIGN_ORIGIN, PRIVACY_SIGNAL, TOO_OLD, UNKNOWN_SITE
from footfall.commands.rebuild.account import NOT_REBUILT
from footfall.database.enrich import Skip
from footfall.database.schema import EVENTS
from footfall.queue.sink import CONFLICT, DUPLICATE, LOST, UNREADABLE
from footfall.settings import Settings
from footfall.web import openapi

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(path.relative_to(ROOT) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])

_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
_CODE_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_SETTING_ROW = re.compile(r"^\| `([a-z_.]+)` \| `([^`]*)` \|", re.MULTILINE)
_PLACE = re.compile(r"`(\w+\.\w+)`")


def _text(document: Path | str) -> str:
    return (ROOT / document).read_text("utf-8")


def _links(document: Path) -> Iterator[tuple[str, str]]:
    """Text and target of each link to a place in the project."""
    for text, target in _LINK.findall(_CODE_BLOCK.sub("", _text(document))):
        if "://" not in target:
            yield text, target


def _anchors(document: Path) -> set[str]:
    """What a heading is called in a link, as GitHub has it."""
    headings = _HEADING.findall(_CODE_BLOCK.sub("", document.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_setting_is_documented_with_its_default() -> None:
    """The table of the README has a row for each setting, in the program's order, and no other."""
    defaults = [(source.key, source.text) for source in config.LoadedSettings(Settings(), {}).sources()]
    _, _, section = _text("README.md").partition("## Settings\n")
    assert defaults == _SETTING_ROW.findall(section.partition("\n## ")[0])


def test_sample_settings_are_the_defaults() -> None:
    """`deploy/appsettings.json` holds every key, at its default, and is accepted."""
    sample = ROOT / "deploy" / "appsettings.json"
    loaded = config.load(sample, environ={})
    assert Settings() == loaded.settings
    assert config.known_keys() == list(_keys(json.loads(sample.read_text("utf-8"))))


def _keys(settings: dict[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, dict) and name != "sites":
            yield from (f"{name}.{key}" for key in value)
        else:
            yield name


def test_every_column_is_documented() -> None:
    """The table of the README is the schema, in its order."""
    rows = [
        f"| `{column.name}` | `{column.kind.duckdb}{'' if column.is_optional else ' NOT NULL'}` | {column.meaning} |"
        for column in EVENTS
    ]
    _, _, table = _text("README.md").partition("| `events` | type | |\n| --- | --- | --- |\n")
    assert rows == table.partition("\n\n")[0].splitlines()


def test_every_metric_is_documented() -> None:
    """Whoever reads `/metrics` finds each name in the operations guide."""
    metrics = {name for name in vars(telemetry).values() if isinstance(name, str) and name.startswith("footfall_")}
    row = r"^\| `(footfall_\w+?)(?:_total)?(?:\{[^}]*\})?` \|"
    documented = set(re.findall(row, _text("docs/operations.md"), re.MULTILINE))
    assert metrics == documented


@pytest.mark.parametrize("reason", [*Skip, CONFLICT, DUPLICATE, LOST, NOT_REBUILT, UNREADABLE], ids=str)
def test_every_reason_to_skip_is_documented(reason: str) -> None:
    """Whoever reads the ledger finds each reason in the operations guide."""
    assert f"`{reason}`" in _text("docs/operations.md")


@pytest.mark.parametrize("reason", [UNKNOWN_SITE, FOREIGN_ORIGIN, TOO_OLD, PRIVACY_SIGNAL])
def test_every_rule_is_documented(reason: str) -> None:
    """Whoever is refused, and whoever reads the ledger, finds why."""
    assert f"`{reason}`" in _text("docs/operations.md")
    assert f"`{reason}`" in _text("docs/api.md")


@pytest.mark.parametrize("path", openapi.document()["paths"])
def test_every_endpoint_is_documented(path: str) -> None:
    """Each path of the OpenAPI document is in the API's text."""
    assert re.search(rf"(?:`|[A-Z]+ |, ){re.escape(path)}\b", _text("docs/api.md"))


def test_every_module_has_its_place() -> None:
    """The table of the architecture names each module without its ending, those of a room in the room's row."""
    _, _, section = _text("docs/architecture.md").partition("## Where things are\n")
    table = section.partition("\n## ")[0]
    source = ROOT / "src" / "footfall"
    assert [] == [path.name for path in source.glob("[!_]*.py") if f"`{path.stem}`" not in table]
    rows = {name: row for row in table.splitlines() for name in re.findall(r"`([\w/]+)/`", row)}
    modules = [path for path in source.glob("*/**/[!_]*.py") if path.parent.name != "processes"]  # named by role
    assert [] == [path for path in modules if f"`{path.stem}`" not in rows[path.parent.relative_to(source).as_posix()]]


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_link_leads_somewhere(document: Path) -> None:
    """A link within the project names a file that is there, and a heading in it."""
    here = ROOT / document
    for _, target in _links(document):
        name, _, anchor = target.partition("#")
        file = here.parent / name if name else here
        assert (target, True) == (target, file.exists())
        assert not anchor or anchor in _anchors(file), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_test_that_is_named_exists(document: Path) -> None:
    """A claim's proof is a test that is still there, in the file that the link leads to."""
    for text, target in _links(document):
        if text.startswith("test_"):
            file = (ROOT / document).parent / target
            assert re.search(rf"^(?:async )?def {re.escape(text)}\(", file.read_text("utf-8"), re.MULTILINE), text


def test_every_place_that_keeps_an_invariant_exists() -> None:
    """`Class.method` or `module.name`, as `docs/invariants.md` has them."""
    named = set(_PLACE.findall(_text("docs/invariants.md"))) - set(config.known_keys())
    assert named
    assert set() == named - set(_places())


def _places() -> Iterator[str]:
    for file in (ROOT / "src" / "footfall").rglob("*.py"):
        for node in ast.parse(file.read_text("utf-8")).body:
            match node:
                case ast.ClassDef():
                    yield f"{file.stem}.{node.name}"
                    yield from (f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef))
                case ast.FunctionDef():
                    yield f"{file.stem}.{node.name}"
                case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                    yield f"{file.stem}.{name}"
