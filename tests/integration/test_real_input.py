"""A real site's access log, imported, and its headers sent as live hits."""

import gzip
import http.client
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from footfall.visit_log.line import VisitLine, parse_line
from harness import Footfall

LOG = Path(__file__).parents[1] / "data" / "access.log.gz"
DAYS = ("2015-05-17", "2015-05-18", "2015-05-19", "2015-05-20")
SITE = "semicomplete"


class Line(NamedTuple):
    """What an independent few lines make of a line of the log."""

    day: str
    address: str
    path: str
    referrer: str
    user_agent: str


def _counted() -> list[Line]:
    """The log, split at its quotes, as one would with awk."""
    lines = []
    for text in gzip.decompress(LOG.read_bytes()).decode("ascii").split("\n")[:-1]:
        parts = text.split('"')
        if len(parts) != 7:  # the torn line
            continue
        address, request, referrer, user_agent = parts[0].split()[0], parts[1], parts[3], parts[5]
        day = re.search(r"\[(\d+)/May/2015", text)
        assert day is not None
        path = request.split()[1].partition("?")[0]
        lines.append(Line(f"2015-05-{day[1]}", address, path, referrer, user_agent))
    return lines


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Footfall]:
    """A running Footfall with the log imported into its data."""
    footfall = Footfall(tmp_path_factory.mktemp("imported"))
    with gzip.open(LOG) as packed, (footfall.directory / "access.log").open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    footfall.start()
    result = footfall.command("import", "access.log", "--site-id", SITE)
    assert result.returncode == 0, result.stderr
    assert "9,999 hits sent\n1 skipped: no closing quote of the user agent (line 8,899)\n" == result.stdout
    footfall.settle()
    yield footfall
    footfall.kill()


def test_each_well_formed_line_is_one_line_of_the_visits_log(imported: Footfall) -> None:
    """Address, referrer and user agent of 9,999 lines, in their order; the torn line is none."""
    expected = [(_logged(line.referrer), _logged(line.user_agent), line.address) for line in _counted()]
    visits = [parse_line(text) for text in imported.lines()]
    assert 9_999 == len(visits)
    assert expected == [(visit.referrer, visit.user_agent, visit.address) for visit in visits]


def _logged(value: str) -> bytes:
    r"""What the client had sent: Apache writes `-` for nothing, and a byte beyond ASCII as `\xHH`."""
    if value == "-":
        return b""
    return re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes.fromhex(match[1].decode()), value.encode("ascii"))


@pytest.mark.parametrize("day", DAYS)
def test_each_day_has_the_figures_of_an_independent_count(imported: Footfall, day: str) -> None:
    """Totals, unique users and top paths of every day."""
    lines = [line for line in _counted() if line.day == day]
    views = Counter(line.path for line in lines)
    top = sorted(views.items(), key=lambda item: (-item[1], item[0]))[:10]
    assert {
        "site_id": SITE,
        "date": day,
        "total_views": len(lines),
        "unique_users": len({(line.address, line.user_agent) for line in lines}),
        "top_paths": [{"path": path, "views": count} for path, count in top],
    } == imported.stats(SITE, date=day)


def test_importing_again_counts_nothing_twice(imported: Footfall) -> None:
    """The same log is known again, packed or not."""
    shutil.copy(LOG, imported.directory / "packed.gz")
    result = imported.command("import", "packed.gz", "--site-id", SITE)
    assert 0 == result.returncode
    assert result.stdout.startswith("0 hits sent; 10,000 lines had been imported before")


def test_live_hits_decode_to_what_was_sent(footfall: Footfall) -> None:
    """Every referrer and user agent of the log, sent by an HTTP client, comes back from its line to the letter."""
    lines = _counted()
    footfall.start("run", "collector", "storage")
    connection = http.client.HTTPConnection("127.0.0.1", footfall.port)
    for line in lines:
        headers = {"Referer": line.referrer, "User-Agent": line.user_agent}
        connection.request("GET", "/track?site_id=live", headers={name: v for name, v in headers.items() if v != "-"})
        response = connection.getresponse()
        response.read()
        assert 200 == response.status
    connection.close()
    assert 0 == footfall.stop()
    visits: list[VisitLine] = [parse_line(text) for text in footfall.lines()]
    expected = [(_sent(line.referrer), _sent(line.user_agent), "127.0.0.1") for line in lines]
    assert expected == [(visit.referrer, visit.user_agent, visit.address) for visit in visits]


def _sent(value: str) -> bytes:
    return b"" if value == "-" else value.strip().encode("ascii")
