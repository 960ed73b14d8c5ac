from typing import Any

import httpx
import pytest

from footfall.web import openapi


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
