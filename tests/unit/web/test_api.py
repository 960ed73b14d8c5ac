import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import duckdb
import httpx
import pytest
import uvicorn

from footfall.database.duckdb.file import open_database
from footfall.database.duckdb.reader import DuckdbReports
from footfall.queue.local.store import QueueState
from footfall.status.access import ReportAccess
from footfall.status.service import ServiceStatus
from footfall.web import openapi
from footfall.web.api import MAX_REPORTS, build_app

TOKEN = "open-sesame"
STATE = QueueState(
    received=3,
    refused={"invalid": 1},
    last_sequence=1,
    sinks={},
    lag_batches={"visit_log": 1, "database": 1},
    lag_seconds={"visit_log": 0.5, "database": 0.5},
    bytes=4096,
)
REPORTING_PATHS = ["/stats?site_id=site", "/ledger", "/metrics", "/healthz", "/readyz", "/docs", "/openapi.json", "/"]


def read_state() -> QueueState:
    return STATE


def fail() -> NoReturn:
    raise RuntimeError("the secret reason")


def service_status() -> ServiceStatus:
    return ServiceStatus(read_state, sinks=("visit_log", "database"), checks={"reporting": lambda: None})


@contextmanager
def serving(
    database: duckdb.DuckDBPyConnection,
    *,
    token: str | None = None,
    status: ServiceStatus = service_status(),  # noqa: B008 - it keeps nothing
    limit_s: float = 30.0,
) -> Iterator[httpx.Client]:
    """A client of the real API on a port of its own."""
    reports = DuckdbReports(database, limit_s=limit_s)
    app = build_app(reports=reports, access=ReportAccess(token), status=status, wait_s=limit_s)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        with httpx.Client(
            base_url=f"http://localhost:{listener.getsockname()[1]}", timeout=30, trust_env=False
        ) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """Three days of the site `site`: two views on the 11th, four on the 12th, one on the 13th."""
    with open_database(tmp_path_factory.mktemp("data") / "footfall.duckdb") as database:
        database.execute(
            "INSERT INTO events (time, site_id, event_type, path, visitor) "
            "SELECT time, 'site', 'page_view', path, visitor FROM (VALUES "
            "(TIMESTAMP '2025-11-11 00:00:00', '/old', 1), (TIMESTAMP '2025-11-11 23:59:59.999999', '/old', 2), "
            "(TIMESTAMP '2025-11-12 00:00:00', '/pricing', 1), (TIMESTAMP '2025-11-12 12:00:00', '/pricing', 2), "
            "(TIMESTAMP '2025-11-12 12:00:00', '/b', 2), (TIMESTAMP '2025-11-12 23:59:59.999999', '/a', 2), "
            "(TIMESTAMP '2025-11-13 00:00:00', '/new', 3)) AS views(time, path, visitor)"
        )
        database.execute(
            "INSERT INTO events (time, site_id, event_type, path, visitor) "
            "SELECT TIMESTAMP '2025-11-12', 'many-paths', 'page_view', '/' || i, 1 "
            "FROM range(150) numbers(i)"
        )
        yield database


@pytest.fixture(scope="module")
def client(database: duckdb.DuckDBPyConnection) -> Iterator[httpx.Client]:
    with serving(database) as client:
        yield client


@pytest.fixture
def slow_database(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A site with more views than anybody has time to count."""
    with duckdb.connect(tmp_path / "slow.duckdb") as database:
        database.execute(
            "CREATE VIEW events AS SELECT 'site' AS site_id, 'page_view' AS event_type, '/' AS path, "
            "i % 100 AS visitor, TIMESTAMP '2025-11-12' AS time FROM range(1_000_000_000_000) numbers(i)"
        )
        yield database


def faults(response: httpx.Response) -> dict[str, str]:
    """The fields a problem names, checked to be a problem as documented."""
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert response.status_code == problem["status"]
    return {fault["field"]: fault["detail"] for fault in problem.get("errors", [])}


# GET /stats


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
        ("site_id=site&limit=" + "9" * 5_000, {"limit"}),
        ("date=x&from=y&to=z&limit=0", {"site_id", "date", "from", "to", "limit"}),
    ],
)
def test_a_wrong_parameter_is_named(client: httpx.Client, query: str, fields: set[str]) -> None:
    """Whatever is missing, wrong or given twice is in the problem's `errors`, all of it at once."""
    response = client.get("/stats?" + query)

    assert response.status_code == 422
    assert fields == set(faults(response))


def test_an_unknown_parameter_is_ignored(client: httpx.Client) -> None:
    """A newer client may send what this server does not know."""
    assert client.get("/stats?site_id=site&colour=blue&colour=red").json()["total_views"] == 7


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


# What the process says of itself


def test_the_state_of_the_process_is_answered(client: httpx.Client) -> None:
    """Health, readiness, the ledger and the metrics come from the service status, as it gives them."""
    account = {"written": 0, "skipped": {}, "pending": 3}

    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready", "roles": {"reporting": "ready"}}
    assert client.get("/ledger").json() == {
        "received": 3,
        "refused": {"invalid": 1},
        "sinks": {"visit_log": account, "database": account},
    }
    metrics = client.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "footfall_received_total 3.0" in metrics.text


def test_a_failure_tells_the_client_nothing(
    database: duckdb.DuckDBPyConnection, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected error is a plain problem outside and a traceback in the log."""
    broken = ServiceStatus(fail, sinks=(), checks={})
    with serving(database, status=broken) as client:
        response = client.get("/ledger")

    assert response.status_code == 500
    assert faults(response) == {}
    assert "secret" not in response.text
    assert response.headers["x-content-type-options"] == "nosniff"
    [record] = [record for record in caplog.records if record.name == "footfall.web.envelope"]
    assert record.levelname == "ERROR"
    assert "'/ledger'" in record.getMessage()
    assert record.exc_info is not None
    assert "secret" in str(record.exc_info[1])


# Who may ask


@pytest.mark.parametrize("path", REPORTING_PATHS)
def test_with_a_token_data_needs_it(database: duckdb.DuckDBPyConnection, path: str) -> None:
    """Figures, the ledger, the metrics and the pages: 401 without the token, answered with it; the rest is open."""
    is_open = path in {"/healthz", "/readyz", "/docs", "/openapi.json"}
    with serving(database, token=TOKEN) as client:
        without = client.get(path)
        wrong = client.get(path, headers={b"Authorization": "Bearer öpen-sesame".encode()})
        right = client.get(path, headers={"Authorization": f"Bearer {TOKEN}", "Host": "stats.example.com"})

    assert right.status_code in {200, 302}
    for response in (without, wrong):
        assert response.status_code == (200 if is_open else 401)
        assert response.headers.get("www-authenticate", "").startswith("Bearer") is not is_open


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"X-Forwarded-For": "192.0.2.1"}, {"Forwarded": "for=192.0.2.1"}]
)
def test_without_a_token_only_this_machine_reads(client: httpx.Client, headers: dict[str, str]) -> None:
    """A request by a foreign name or through a proxy is refused with what would help, health stays open."""
    response = client.get("/stats?site_id=site", headers=headers)

    assert response.status_code == 403
    assert faults(response) == {}
    assert "reporting.token" in response.json()["detail"]
    assert client.get("/healthz", headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["localhost/ledger?", "localhost/ledger#", "localhost\\ledger", "/ledger?"])
def test_no_host_bends_the_path(database: duckdb.DuckDBPyConnection, host: str) -> None:
    """What the access let pass is what is answered, whatever the `Host` header would make of the address."""
    with serving(database, token=TOKEN) as client:
        assert client.get("/healthz", headers={"Host": host}).json() == {"status": "alive"}


# HTTP


def test_an_unknown_path_is_a_problem(client: httpx.Client) -> None:
    """404 as any other error, and a slash too many is no redirect."""
    for path in ("/no-such-path", "/stats/", "/docs/index.html", "/docs/%2E%2E/stats"):
        response = client.get(path)
        assert response.status_code == 404
        assert faults(response) == {}


@pytest.mark.parametrize("path", REPORTING_PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_another_method_is_a_problem(client: httpx.Client, method: str, path: str) -> None:
    """405 says which methods there are."""
    response = client.request(method, path)

    assert response.status_code == 405
    assert faults(response) == {}
    assert {"GET", "HEAD"} == set(response.headers["allow"].split(", "))


@pytest.mark.parametrize("path", [*REPORTING_PATHS, "/no-such-path", "/stats", "/docs/init.js"])
def test_every_answer_has_the_security_headers(client: httpx.Client, path: str) -> None:
    """Browsers guess no type, tell no referrer and show nothing in a frame, whatever was asked."""
    headers = client.get(path).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == ("public, max-age=86400" if path == "/docs/init.js" else "no-store")


# The documentation


def test_the_start_leads_to_the_documentation(client: httpx.Client) -> None:
    """Until there are pages."""
    response = client.get("/")

    assert response.status_code == 302
    assert response.headers["location"] == "/docs"


def test_the_documentation_needs_no_other_address(client: httpx.Client) -> None:
    """The page names only files of this server, they are there, and the browser is told to load nothing else."""
    page = client.get("/docs")
    script = client.get("/docs/init.js")
    named = re.findall(r'(?:src|href)="([^"]*)"', page.text)

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'self';")
    assert "://" not in page.text + script.text + page.headers["content-security-policy"]
    assert "validatorUrl: null" in script.text
    assert "<script>" not in page.text
    assert "/docs/init.js" in named
    for name in named:
        asset = client.get(name)
        assert asset.status_code == 200
        assert asset.content


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("swagger-ui.css", "text/css; charset=utf-8"),
        ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
        ("favicon-32x32.png", "image/png"),
    ],
)
def test_swagger_ui_is_served_from_here(client: httpx.Client, name: str, media_type: str) -> None:
    """With types a browser accepts under `nosniff`, and kept by it for a day."""
    response = client.get(f"/docs/{name}")

    assert media_type == response.headers["content-type"]
    assert response.headers["cache-control"] == "public, max-age=86400"


def documented_reports() -> dict[str, Any]:
    paths = openapi.document()["paths"]
    return {
        path: item["get"] for path, item in paths.items() if "get" in item and item["get"]["tags"] != ["collecting"]
    }


@pytest.mark.parametrize(("path", "operation"), list(documented_reports().items()))
def test_each_documented_path_answers(client: httpx.Client, path: str, operation: dict[str, Any]) -> None:
    """With the documented parameters it gives the documented status and type."""
    required = {
        parameter["name"]: parameter["schema"]["examples"][0]
        for parameter in operation.get("parameters", [])
        if parameter["required"]
    }

    response = client.get(path, params=required)

    assert response.status_code == 200
    assert response.headers["content-type"].partition(";")[0] in operation["responses"]["200"]["content"]


def test_the_document_is_served(client: httpx.Client) -> None:
    """`/openapi.json` is the document the code builds."""
    assert openapi.document() == client.get("/openapi.json").json()
