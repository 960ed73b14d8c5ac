import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest
from openapi_spec_validator import validate
from starlette.routing import Route

from footfall import entry as event
from footfall.collector.protocols.event_body import parse_event
from footfall.database.contents import Contents, Format, Selection
from footfall.database.query import Figures, Query
from footfall.database.reports import Reports
from footfall.problem import CONTENT_TYPE, FieldError, Problem
from footfall.queue.local.reader import QueueState
from footfall.status.ledger import Ledger
from footfall.status.service import ServiceStatus
from footfall.web import openapi
from footfall.web.api import build_app
from footfall.web.stats import MAX_PATHS, StatsAnswer, StatsQuery, parse_query

DOCUMENT = openapi.document()


def operation(path: str, method: str = "get") -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][path][method]
    return found


def parameters(path: str) -> dict[str, dict[str, Any]]:
    return {parameter["name"]: parameter["schema"] for parameter in operation(path)["parameters"]}


def member(shape: str, name: str) -> dict[str, Any]:
    """The schema of a member, without the null it may be instead."""
    schema: dict[str, Any] = DOCUMENT["components"]["schemas"][shape]["properties"][name]
    found: dict[str, Any] = schema.get("anyOf", [schema])[0]
    return found


def problems() -> Iterator[tuple[str, dict[str, Any]]]:
    for item in DOCUMENT["paths"].values():
        for described in item.values():
            for status, response in described["responses"].items():
                if CONTENT_TYPE in response.get("content", {}):
                    yield status, response["content"][CONTENT_TYPE]["example"]


def test_the_document_is_valid() -> None:
    """It is OpenAPI 3.1, and JSON."""
    validate(json.loads(json.dumps(DOCUMENT)))

    assert DOCUMENT["openapi"].startswith("3.1")


@pytest.mark.parametrize(
    ("path", "method", "statuses"),
    [
        ("/track", "get", {"200", "302"}),
        ("/track", "options", {"204"}),
        ("/event", "post", {"202", "400", "401", "403", "413", "415", "422", "429", "503"}),
        ("/event", "options", {"204"}),
        ("/stats", "get", {"200", "401", "403", "422", "429", "503"}),
        ("/export", "get", {"200", "401", "403", "422", "429", "503", "505"}),
        ("/api/v2/query", "post", {"200", "400", "401", "403", "413", "429", "503"}),
        ("/api/v2/query/schema.json", "get", {"200"}),
        ("/api/v1/stats/breakdown", "get", {"200", "400", "401", "403", "429", "503"}),
        ("/ledger", "get", {"200", "401", "403", "429"}),
        ("/metrics", "get", {"200", "401", "403", "429"}),
        ("/healthz", "get", {"200"}),
        ("/readyz", "get", {"200", "503"}),
    ],
)
def test_every_status_is_described(path: str, method: str, statuses: set[str]) -> None:
    """Each endpoint lists what it may answer."""
    assert statuses == set(operation(path, method)["responses"])


def test_the_limits_are_those_that_are_checked() -> None:
    """What the document says a field may hold is what the code lets in."""
    assert parameters("/stats")["site_id"]["maxLength"] == event.MAX_SITE_ID
    assert parameters("/stats")["limit"]["maximum"] == MAX_PATHS
    assert parameters("/stats")["limit"]["minimum"] == 1
    assert parameters("/stats")["limit"]["default"] == 10
    assert {
        name: member("EventBody", name)["maxLength"]
        for name in ("site_id", "event_type", "path", "user_id", "referrer")
    } == {
        "site_id": event.MAX_SITE_ID,
        "event_type": event.MAX_EVENT_TYPE,
        "path": event.MAX_PATH,
        "user_id": event.MAX_USER_ID,
        "referrer": event.MAX_REFERRER,
    }
    assert member("EventBody", "props")["maxProperties"] == event.MAX_PROPS
    assert DOCUMENT["components"]["schemas"]["EventBody"]["required"] == ["site_id", "event_type"]


def test_the_parameters_of_stats_are_those_it_reads() -> None:
    """All of them, and only the site is required."""
    assert list(parameters("/stats")) == ["site_id", "date", "from", "to", "limit", "bots"]
    assert parse_query([("site_id", "site")]) == StatsQuery("site")


def test_the_examples_are_real() -> None:
    """What is shown as sent is accepted, and what is shown as answered has the answer's very form."""
    [sent] = {
        json.dumps(content["example"]) for content in operation("/event", "post")["requestBody"]["content"].values()
    }
    answered = operation("/stats")["responses"]["200"]["content"]["application/json"]["example"]
    account = operation("/ledger")["responses"]["200"]["content"]["application/json"]["example"]

    parse_event(sent.encode(), received_ns=1_800_000_000_000_000_000, address=None, user_agent=b"", vouch=lambda: None)
    assert json.dumps(answered, separators=(",", ":")).encode() == msgspec.json.encode(
        msgspec.convert(answered, StatsAnswer)
    )
    assert account == msgspec.to_builtins(msgspec.convert(account, Ledger))


@pytest.mark.parametrize(("status", "example"), list(problems()))
def test_the_problems_look_as_they_are_sent(status: str, example: dict[str, Any]) -> None:
    """An example of an error has the members, in the order, that the code writes."""
    sent = Problem(int(status), example["detail"], [FieldError(**fault) for fault in example.get("errors", [])])

    assert sent.body() == json.dumps(example, separators=(",", ":")).encode()


def test_the_documentation_has_the_address_that_browsers_reach() -> None:
    """The line to paste, and the list of servers; the page itself still asks where it came from."""
    public = openapi.document("https://stats.example/footfall")

    assert ["/", "https://stats.example/footfall"] == [server["url"] for server in public["servers"]]
    line = 'navigator.sendBeacon("https://stats.example/footfall/event", JSON.stringify({site_id:'
    assert line in public["paths"]["/event"]["post"]["description"]
    assert ["/"] == [server["url"] for server in DOCUMENT["servers"]]


def test_only_data_needs_the_token() -> None:
    """The document names the token where it may be asked for, and nowhere else."""
    guarded = {
        path for path, item in DOCUMENT["paths"].items() for described in item.values() if "security" in described
    }

    legacy = {f"/api/v1/stats/{name}" for name in ("realtime/visitors", "aggregate", "timeseries", "breakdown")}
    queries = {"/api/v2/query", "/api/v2/funnel", "/api/v1/sites", *legacy}
    assert guarded == {"/event", "/events", "/stats", "/export", "/ledger", "/metrics", *queries}
    assert DOCUMENT["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


PAGES = ("/sites/", "/assets/")
"""What people look at has no place in the description of an API."""


class NoReports(Reports):
    """A database that is never asked."""

    def answer(self, queries: Sequence[Query]) -> list[list[Figures]]:
        raise NotImplementedError

    def first_events(self, site_id: str | None = None) -> dict[str, datetime]:
        raise NotImplementedError

    def trouble(self) -> str | None:
        return None


class NoContents(Contents):
    """One that is never asked, either."""

    def query(self, sql: str) -> NoReturn:
        raise NotImplementedError

    def export(self, selection: Selection, form: Format, *, is_restorable: bool = False) -> NoReturn:
        raise NotImplementedError

    def snapshot(self) -> NoReturn:
        raise NotImplementedError


def test_every_path_is_described() -> None:
    """Whoever adds a report describes it, in this document and in docs/api.md."""
    status = ServiceStatus(lambda: QueueState(0, {}, 0, {}, {}, {}, 0), sinks=(), checks={})
    app = build_app(reports=NoReports(), contents=NoContents(), access=None, status=status)
    paths = {route.path for route in app.routes if isinstance(route, Route)}
    documentation = {path for path in paths if path == "/openapi.json" or path.startswith("/docs")}
    pages = {path for path in paths if path in {"/", "/first", "/session", "/system"} or path.startswith(PAGES)}
    manual = (Path(__file__).parents[3] / "docs" / "api.md").read_text("utf-8")

    assert paths - documentation - pages <= set(DOCUMENT["paths"])
    assert [] == [path for path in DOCUMENT["paths"] if f"{path}`" not in manual]
