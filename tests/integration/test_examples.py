"""The examples of the documentation: each command is run, and answers what is printed below it."""

import gzip
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from harness import Footfall, eventually, needs_tool

ROOT = Path(__file__).parents[2]
LOG = ROOT / "tests" / "data" / "access.log.gz"

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Example(NamedTuple):
    command: str
    answer: str


def _examples(document: str) -> Iterator[Example]:
    """Every command of the document's `console` blocks: what follows `$`, up to where its quotes are closed."""
    for block in _BLOCK.findall((ROOT / document).read_text("utf-8")):
        command, answer = "", ""
        for line in block.splitlines(keepends=True):
            if command and not _is_whole(command):
                command += line
            elif line.startswith("$ "):
                if command:
                    yield Example(command, answer)
                command, answer = line.removeprefix("$ "), ""
            else:
                answer += line
        yield Example(command, answer)


def _is_whole(command: str) -> bool:
    try:
        shlex.split(command.rstrip("\n"))
    except ValueError:
        return False
    return True


def _comparable(answer: str) -> str:
    """Without the time of day."""
    return re.sub(r"^date: .*$", "date: now", answer.replace("\r", ""), flags=re.MULTILINE).strip()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl: apt-get install curl")
@pytest.mark.parametrize("document", ["README.md", "docs/api.md"])
def test_printed_answers_are_real(footfall: Footfall, document: str) -> None:
    """Run from top to bottom against a new Footfall, every command answers what the document says."""
    (footfall.directory / "access.log").write_bytes(gzip.decompress(LOG.read_bytes()))
    footfall.start()
    environment = footfall.environment()
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])

    def answer(command: str) -> str:
        return _comparable(
            subprocess.run(
                ["sh", "-c", command.replace("http://127.0.0.1:8000", footfall.url)],
                cwd=footfall.directory,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                check=True,
            ).stdout
        )

    examples = list(_examples(document))
    assert examples
    for command, expected in examples:
        # A report may be asked for until it is there; sending again would count again.
        is_report = any(path in command for path in ("/stats", "/ledger", "/api/"))
        shown = (command, _comparable(expected))
        eventually(shown, lambda: (command, answer(command)), 10.0 if is_report else 0.0)  # noqa: B023 - called at once


@needs_tool("goaccess", "goaccess")
def test_goaccess_reads_the_visits_log(footfall: Footfall) -> None:
    """With the options that the guide gives, each line is one request of the page, its visitor and its time."""
    [command] = re.findall(r"^goaccess visits\.log .*$", (ROOT / "docs/operations.md").read_text("utf-8"), re.MULTILINE)
    footfall.start()
    for _ in range(2):
        headers = {"Referer": "https://blog.example/a|b", "User-Agent": "Mozilla/5.0 Firefox/140.0"}
        httpx.get(f"{footfall.url}/track", headers=headers)
    footfall.settle()
    assert 0 == footfall.stop()
    arguments = shlex.split(command.replace("report.html", "report.json"))
    subprocess.run([*arguments, "--no-global-config"], cwd=footfall.directory, check=True, capture_output=True)
    report = json.loads((footfall.directory / "report.json").read_text("utf-8"))
    assert (2, 0) == (report["general"]["valid_requests"], report["general"]["failed_requests"])
    assert r"https://blog.example/a\x7cb" == report["requests"]["data"][0]["data"]
    assert ["127.0.0.1"] == [one["data"] for one in report["hosts"]["data"]]
