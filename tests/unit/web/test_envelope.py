import duckdb
import httpx
import pytest

from footfall.status.service import ServiceStatus
from web_api import REPORTING_PATHS, TOKEN, fail, faults, serving


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
        right = client.get(path, headers={"Authorization": f"Bearer {TOKEN}", "Host": "stats.example.com"})

    assert right.status_code in {200, 302}
    assert without.status_code == (200 if is_open else 401)
    assert without.headers.get("www-authenticate", "").startswith("Bearer") is not is_open


def test_a_wrong_token_is_refused(database: duckdb.DuckDBPyConnection) -> None:
    """Whatever its bytes."""
    with serving(database, token=TOKEN) as client:
        response = client.get("/stats?site_id=site", headers={b"Authorization": "Bearer öpen-sesame".encode()})

    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")


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
