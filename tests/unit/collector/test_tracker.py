"""The tracker's script: what is checked in, and how it is served."""

import base64
import gzip
import hashlib
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from footfall.collector import tracker
from harness import Footfall

ROOT = Path(__file__).parents[3]
SCRIPT = Path(tracker.__file__).with_name("script.js").read_bytes()


def _build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tracker_build", ROOT / "tracker" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_script_is_what_its_source_builds() -> None:
    """To the byte; `make tracker` makes it."""
    assert _build().built().encode() == SCRIPT


def test_script_is_small() -> None:
    """Less than 1.5 kB on the way."""
    assert len(gzip.compress(SCRIPT, 9, mtime=0)) < 1_500


def test_documented_integrity_is_that_of_the_script() -> None:
    """A page that pasted another one would have no tracker."""
    digest = base64.b64encode(hashlib.sha384(SCRIPT).digest()).decode()
    assert f'integrity="sha384-{digest}"' in (ROOT / "docs" / "tracker.md").read_text("utf-8")


@pytest.mark.parametrize("word", [b"cookie", b"localStorage", b"sessionStorage", b"indexedDB", b"eval(", b"Function("])
def test_script_stores_nothing_and_evaluates_nothing(word: bytes) -> None:
    """It can't do what it does not name."""
    assert word not in SCRIPT


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Footfall]:
    """A collector alone, behind a token."""
    instance = Footfall(tmp_path_factory.mktemp("collector"), FOOTFALL__REPORTING__TOKEN="a-long-enough-token")
    yield instance.start("run", "collector")
    instance.kill()


def _get(collector: Footfall, **headers: str) -> httpx.Response:
    return httpx.get(f"{collector.url}/script.js", headers={name.replace("_", "-"): headers[name] for name in headers})


def test_every_page_may_load_the_script(collector: Footfall) -> None:
    """Without a token, from any site, from a collector that makes no reports."""
    response = _get(collector, Accept_Encoding="identity")
    assert (200, SCRIPT) == (response.status_code, response.content)
    expected: Mapping[str, str] = {
        "content-type": "text/javascript; charset=utf-8",
        "access-control-allow-origin": "*",
        "cross-origin-resource-policy": "cross-origin",
        "x-content-type-options": "nosniff",
        "cache-control": "public, max-age=86400",
        "vary": "accept-encoding",
    }
    assert expected == {name: response.headers.get(name) for name in expected}
    assert "content-encoding" not in response.headers


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [("gzip", "gzip"), ("br, GZIP;q=0.5", "gzip"), ("gzip;q=0", None), ("br", None), ("gzip; q=0.0, br", None)],
)
def test_script_is_compressed_for_those_who_take_it(collector: Footfall, accepted: str, coding: str | None) -> None:
    """As RFC 9110 says how they tell."""
    response = _get(collector, Accept_Encoding=accepted)
    assert (coding, SCRIPT) == (response.headers.get("content-encoding"), response.content)


def test_browser_that_has_the_script_is_told_so(collector: Footfall) -> None:
    """By its tag, whichever coding it came in."""
    tag = _get(collector).headers["etag"]
    response = _get(collector, If_None_Match=f'"other", {tag}')
    assert (304, b"", tag) == (response.status_code, response.content, response.headers["etag"])
    assert 200 == _get(collector, If_None_Match='"other"').status_code


def test_script_is_counted_nowhere(collector: Footfall) -> None:
    """Neither as received nor as refused, not even when it is loaded ahead; other methods are told which there are."""
    _get(collector, Sec_Purpose="prefetch;prerender", Sec_GPC="1")
    head = httpx.head(f"{collector.url}/script.js", headers={"accept-encoding": "identity"})
    wrong = httpx.post(f"{collector.url}/script.js", content=b"x")
    assert (200, str(len(SCRIPT)), b"") == (head.status_code, head.headers["content-length"], head.content)
    assert (405, "GET, HEAD") == (wrong.status_code, wrong.headers["allow"])
    ledger = httpx.get(f"{collector.url}/ledger", headers={"authorization": "Bearer a-long-enough-token"}).json()
    assert (0, {}) == (ledger["received"], ledger["refused"])
