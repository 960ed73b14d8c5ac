from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import httpx
import pytest

from footfall.database.duckdb.file import open_database
from footfall.web.desk import MAX_REPORTS
from web_api import faults, serving


def test_a_day_is_answered_as_the_contract_shows(client: httpx.Client) -> None:
    """The members, their order and their form are the contract's, to the byte."""
    response = client.get("/stats", params={"site_id": "site", "date": "2025-11-12"})

    assert response.headers["content-type"] == "application/json"
    assert response.text == (
        '{"site_id":"site","date":"2025-11-12","total_views":4,"unique_users":2,'
        '"top_paths":[{"path":"/pricing","views":2},{"path":"/a","views":1},{"path":"/b","views":1}]}'
    )


def test_without_a_day_it_is_all_time(client: httpx.Client) -> None:
    """No member speaks of days then."""
    response = client.get("/stats?site_id=site&limit=1")

    assert response.text == (
        '{"site_id":"site","total_views":7,"unique_users":3,"top_paths":[{"path":"/old","views":2}]}'
    )


@pytest.mark.parametrize(
    ("days", "views"),
    [
        ({"from": "2025-11-11", "to": "2025-11-12"}, 6),
        ({"from": "2025-11-12", "to": "2025-11-12"}, 4),
        ({"from": "2025-11-12"}, 5),
        ({"to": "2025-11-12"}, 6),
        ({"from": "0001-01-01", "to": "9999-12-31"}, 7),
        ({"from": "2025-11-14"}, 0),
    ],
)
def test_a_range_holds_both_its_ends(client: httpx.Client, days: dict[str, str], views: int) -> None:
    """`from` and `to` are inclusive, each may be left open, and the answer repeats what was given."""
    answer = client.get("/stats", params={"site_id": "site", **days}).json()

    assert views == answer["total_views"]
    assert ["site_id", *days, "total_views", "unique_users", "top_paths"] == list(answer)
    assert days == {name: answer[name] for name in days}


def test_a_site_never_seen_gives_zeros(client: httpx.Client) -> None:
    """It is no error to ask for it."""
    response = client.get("/stats?site_id=never-seen&date=2025-11-12")

    assert response.status_code == 200
    assert response.text == (
        '{"site_id":"never-seen","date":"2025-11-12","total_views":0,"unique_users":0,"top_paths":[]}'
    )


@pytest.mark.parametrize(("limit", "count"), [("1", 1), ("100", 100), (None, 10)])
def test_the_limit_is_how_many_paths_come(client: httpx.Client, limit: str | None, count: int) -> None:
    """From one to a hundred, ten if none is given."""
    answer = client.get("/stats", params={"site_id": "many-paths", **({"limit": limit} if limit else {})}).json()

    assert answer["total_views"] == 150
    assert count == len(answer["top_paths"])


def test_bots_count_unless_they_are_left_out(tmp_path: Path) -> None:
    """They are kept; `bots=exclude` leaves them out of every figure."""
    with open_database(tmp_path / "footfall.duckdb") as database, serving(database) as client:
        database.execute(
            "INSERT INTO events (time, site_id, event_type, path, visitor, bot) VALUES "
            "(TIMESTAMP '2025-11-12', 'site', 'page_view', '/', 1, NULL), "
            "(TIMESTAMP '2025-11-12', 'site', 'page_view', '/robots.txt', 2, 'Googlebot')"
        )
        every, people = (
            client.get("/stats", params={"site_id": "site", "bots": bots}) for bots in ("include", "exclude")
        )

    assert (2, 2) == (every.json()["total_views"], every.json()["unique_users"])
    assert '{"site_id":"site","total_views":1,"unique_users":1,"top_paths":[{"path":"/","views":1}]}' == people.text


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("", {"site_id"}),
        ("site_id=", {"site_id"}),
        ("site_id=" + "s" * 129, {"site_id"}),
        ("site_id=a&site_id=b", {"site_id"}),
        ("site_id=site&date=2025-02-30", {"date"}),
        ("site_id=site&date=2025-1-1", {"date"}),
        ("site_id=site&date=", {"date"}),
        ("site_id=site&date=null", {"date"}),
        ("site_id=site&date=yesterday", {"date"}),
        ("site_id=site&date=2025-11-12T00:00:00Z", {"date"}),
        ("site_id=site&date=2025-11-12&date=2025-11-12", {"date"}),
        ("site_id=site&date=2025-11-12&from=2025-11-12", {"date"}),
        ("site_id=site&date=2025-11-12&to=2025-11-12", {"date"}),
        ("site_id=site&from=2025-11-13&to=2025-11-12", {"from"}),
        ("site_id=site&from=1&to=2", {"from", "to"}),
        ("site_id=site&limit=0", {"limit"}),
        ("site_id=site&limit=101", {"limit"}),
        ("site_id=site&limit=-1", {"limit"}),
        ("site_id=site&limit=ten", {"limit"}),
        ("site_id=site&bots=no", {"bots"}),
        ("site_id=site&limit=" + "9" * 5_000, {"limit"}),
        ("date=x&from=y&to=z&limit=0", {"site_id", "date", "from", "to", "limit"}),
    ],
)
def test_a_wrong_parameter_is_named(client: httpx.Client, query: str, fields: set[str]) -> None:
    """Whatever is missing, wrong or given twice is in the problem's `errors`, all of it at once."""
    response = client.get("/stats?" + query)

    assert response.status_code == 422
    assert fields == set(faults(response))


@pytest.mark.parametrize(
    ("query", "errors"),
    [
        ("foo=1", {"foo": "is not known; known are site_id, date, from, to, limit"}),
        ("form=2025-11-12", {"form": "is not known; did you mean from?"}),
        ("Date=2025-11-12&lmit=5&limit=0", {"Date": "date", "lmit": "limit", "limit": "must be"}),
        ("colour=blue&colour=red", {"colour": "is not known"}),
    ],
)
def test_an_unknown_parameter_is_refused(client: httpx.Client, query: str, errors: dict[str, str]) -> None:
    """Who misspells a day would else read the figures of all time. The nearest known one is named."""
    response = client.get("/stats?site_id=site&" + query)

    assert response.status_code == 422
    assert set(errors) == set(faults(response))
    for error in response.json()["errors"]:
        assert errors[error["field"]] in error["detail"]


@pytest.mark.parametrize(
    "sql", ["' OR 1=1 --", "x'; DROP TABLE events; --", '" OR ""="', "$site_id", "site\0", "\ud7ff😀"]
)
def test_sql_is_text(client: httpx.Client, sql: str) -> None:
    """No parameter is ever part of a statement: a site's name is taken as it is, all else is refused."""
    named = client.get("/stats", params={"site_id": sql})

    assert {"site_id": sql, "total_views": 0, "unique_users": 0, "top_paths": []} == named.json()
    for name in ("date", "from", "to", "limit"):
        assert client.get("/stats", params={"site_id": "site", name: sql}).status_code == 422
    assert client.get("/stats?site_id=site").json()["total_views"] == 7


def test_bytes_that_are_no_text_are_answered(client: httpx.Client) -> None:
    """A query that is not UTF-8 names a site never seen, or none."""
    assert client.get("/stats?site_id=%ff%fe%ed%a0%80").json()["total_views"] == 0
    assert client.get("/stats?site_id=site&limit=%ff").status_code == 422


def test_what_is_written_is_in_the_next_report(tmp_path: Path) -> None:
    """The writer's connection stays open, and nothing is kept from one report to the next."""
    with open_database(tmp_path / "footfall.duckdb") as database, serving(database) as client:
        counts = []
        for _ in range(3):
            database.execute(
                "INSERT INTO events (time, site_id, event_type, path, visitor) "
                "VALUES (TIMESTAMP '2025-11-12', 'site', 'page_view', '/', 1)"
            )
            counts.append(client.get("/stats?site_id=site").json()["total_views"])

    assert counts == [1, 2, 3]


def test_a_report_that_takes_too_long_is_refused(slow_database: duckdb.DuckDBPyConnection) -> None:
    """It ends as a problem that says what to do, and the next request is served."""
    with serving(slow_database, limit_s=0.1) as client:
        response = client.get("/stats?site_id=site")

        assert response.status_code == 503
        assert "fewer days" in response.json()["detail"]
        assert int(response.headers["retry-after"]) > 0
        assert client.get("/healthz").status_code == 200


def test_long_reports_hold_nothing_else_up(slow_database: duckdb.DuckDBPyConnection) -> None:
    """No more than a few run at the same time, those that wait give up in time, and other paths answer at once."""
    waves = 3
    with serving(slow_database, limit_s=1.0) as client, ThreadPoolExecutor(waves * MAX_REPORTS) as pool:
        reports = [pool.submit(client.get, "/stats?site_id=site") for _ in range(waves * MAX_REPORTS)]

        assert client.get("/healthz").status_code == 200
        assert not any(report.done() for report in reports)
        problems = Counter(report.result().json()["detail"].split(".")[0] for report in reports)

    # Those that wait give up at about the moment when the first ones end: who still gets a turn then is chance.
    assert set(problems) == {"The report took too long", "Too many reports are being made"}
    assert all(count >= MAX_REPORTS for count in problems.values())
