"""Plausible's Stats API of `footfall serve`: a public client as it is, and requests of each documented kind."""

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from harness import ANSWER_S, Footfall, eventually

MODULES = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "footfall-services" / "npm" / "node_modules"
TOKEN = "a-long-and-random-token"

CALLS = """
const Plausible = require("plausible").default;
const client = new Plausible(process.argv[1], "blog", process.argv[2]);
(async () => {
  const answers = {
    realtime: await client.getRealtime(),
    aggregate: await client.getAggregate("custom", "visitors", null, null, "2025-11-12,2025-11-13"),
    compared: await client.getAggregate("day", "pageviews", true, null, "2025-11-13"),
    filtered: await client.getAggregate("month", "visitors", null, "event:page==/posts/*", "2025-11-12"),
    timeseries: await client.getTimeseries("custom", "visitors", null, "date", "2025-11-11,2025-11-13"),
    months: await client.getTimeseries("6mo", "pageviews", null, null, "2025-11-12"),
    hours: (await client.getTimeseries("day", "visitors", null, null, "2025-11-12")).length,
    breakdown: await client.getBreakdown("month", "pageviews", "event:page", null, 2, 1, "2025-11-12"),
    page2: await client.getBreakdown("month", "pageviews", "event:page", null, 2, 2, "2025-11-12"),
    refused: await client.getBreakdown("month", "pageviews", "visit:colour").catch((error) => error.message),
    stranger: await new Plausible("wrong", "blog", process.argv[2]).getRealtime().catch((error) => error.message),
  };
  console.log(JSON.stringify(answers));
})();
"""


def view(user_id: str, path: str, timestamp: str) -> dict[str, Any]:
    return {"site_id": "blog", "event_type": "page_view", "user_id": user_id, "path": path, "timestamp": timestamp}


EVENTS = [
    view("ann", "/", "2025-11-12T09:30:00Z"),
    view("ann", "/posts/1", "2025-11-12T09:31:00Z"),
    view("bob", "/", "2025-11-12T10:00:00Z"),
    view("bob", "/posts/2", "2025-11-13T10:00:00Z"),
]


@pytest.mark.skipif(
    not (shutil.which("node") and MODULES.is_dir()) and os.environ.get("CI") != "true",
    reason="needs node and the npm package plausible: make services",
)
def test_npm_plausible_works_as_it_is(footfall: Footfall) -> None:
    """Every call that it offers, with figures, refusals and a wrong token."""
    footfall.set(FOOTFALL__REPORTING__TOKEN=TOKEN).start()
    now = datetime.now(UTC)
    live = [view("eve", "/", (now - timedelta(seconds=age)).isoformat()) for age in (1, 3_600)]
    httpx.post(f"{footfall.url}/events", json=EVENTS + live, timeout=ANSWER_S).raise_for_status()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    stats = f"{footfall.url}/stats?site_id=blog"
    eventually(len(EVENTS + live), lambda: httpx.get(stats, headers=headers, timeout=ANSWER_S).json()["total_views"])

    ended = subprocess.run(
        ["node", "-e", CALLS, TOKEN, footfall.url],
        env={**os.environ, "NODE_PATH": str(MODULES)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 0 == ended.returncode, ended.stderr
    answers = json.loads(ended.stdout)
    months = {row["date"]: row["pageviews"] for row in answers.pop("months")}
    assert ["2025-06-01", "2025-07-01", "2025-08-01", "2025-09-01", "2025-10-01", "2025-11-01"] == list(months)
    assert 4 == sum(months.values())
    assert {
        "realtime": 1,
        "aggregate": {"value": 2},
        "compared": {"value": 1, "change": -67},
        "filtered": {"value": 2},
        "timeseries": [
            {"date": "2025-11-11", "visitors": 0},
            {"date": "2025-11-12", "visitors": 2},
            {"date": "2025-11-13", "visitors": 1},
        ],
        "hours": 24,
        "breakdown": [{"page": "/", "pageviews": 2}, {"page": "/posts/1", "pageviews": 1}],
        "page2": [{"page": "/posts/2", "pageviews": 1}],
        "stranger": "The token is not the one in reporting.token.",
    } == {name: answer for name, answer in answers.items() if name != "refused"}
    assert answers["refused"].startswith('property: Invalid dimension "visit:colour"')


TEXTS = {"type": "array", "items": {"type": "string"}}
MOMENTS = {"type": "array", "items": {"type": "string", "format": "date-time"}, "minItems": 2, "maxItems": 2}
ANSWER = {
    "type": "object",
    "required": ["results", "meta", "query"],
    "properties": {
        "results": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["metrics", "dimensions"],
                "properties": {"metrics": {"items": {"type": ["number", "null"]}}, "dimensions": TEXTS},
            },
        },
        "meta": {
            "type": "object",
            "properties": {
                "imports_included": {"type": "boolean"},
                "time_labels": TEXTS,
                "total_rows": {"type": "integer"},
            },
        },
        "query": {
            "type": "object",
            "required": [
                "site_id",
                "metrics",
                "date_range",
                "filters",
                "dimensions",
                "order_by",
                "include",
                "pagination",
            ],
            "properties": {
                "site_id": {"type": "string"},
                "metrics": TEXTS,
                "date_range": MOMENTS,
                "filters": {"type": "array"},
                "dimensions": TEXTS,
                "order_by": {"type": "array", "items": {"type": "array", "minItems": 2, "maxItems": 2}},
                "include": {"type": "object"},
                "pagination": {"required": ["limit", "offset"]},
            },
        },
    },
}
"""The public shape of an answer of version 2."""

DAY = ["2025-11-12", "2025-11-12"]
DOCUMENTED: list[tuple[dict[str, Any], list[list[Any]]]] = [
    ({"metrics": ["visitors", "pageviews", "events"], "date_range": DAY}, [[2, 3, 3]]),
    (
        {"metrics": ["visitors"], "date_range": DAY, "dimensions": ["visit:country", "visit:city"]},
        [["(not set)"] * 2 + [2]],
    ),
    ({"metrics": ["visitors", "events"], "date_range": DAY, "dimensions": ["visit:utm_medium"]}, [["(not set)", 2, 3]]),
    (
        {"metrics": ["visitors"], "date_range": ["2025-11-12", "2025-11-13"], "dimensions": ["time:day"]},
        [["2025-11-12", 2], ["2025-11-13", 1]],
    ),
    (
        {"metrics": ["visitors"], "date_range": DAY, "dimensions": ["time:hour"], "include": {"time_labels": True}},
        [["2025-11-12 09:00:00", 1], ["2025-11-12 10:00:00", 1]],
    ),
    (
        {
            "metrics": ["visitors"],
            "date_range": DAY,
            "dimensions": ["event:page"],
            "order_by": [["visitors", "desc"], ["event:page", "asc"]],
            "pagination": {"limit": 1, "offset": 1},
            "include": {"total_rows": True},
        },
        [["/posts/1", 1]],
    ),
    (
        {"metrics": ["visits", "bounce_rate", "views_per_visit", "visit_duration"], "date_range": DAY},
        [[2, 50, 1.5, 30]],
    ),
    ({"metrics": ["visitors", "percentage"], "date_range": DAY, "dimensions": ["visit:entry_page"]}, [["/", 2, 100.0]]),
    (
        {
            "metrics": ["visitors"],
            "date_range": DAY,
            "filters": [["and", [["contains", "event:page", ["posts"]], ["not", ["is", "visit:os", ["GNU/Linux"]]]]]],
        },
        [[1]],
    ),
    (
        {"metrics": ["visitors"], "date_range": DAY, "filters": [["has_done", ["is", "event:page", ["/posts/1"]]]]},
        [[1]],
    ),
    ({"metrics": ["visitors"], "date_range": DAY, "filters": [["matches", "event:page", ["^/posts/[0-9]+$"]]]}, [[1]]),
    (
        {
            "metrics": ["visitors"],
            "date_range": DAY,
            "filters": [["contains", "event:page", ["POSTS"], {"case_sensitive": False}]],
        },
        [[1]],
    ),
    (
        {"metrics": ["visitors", "conversion_rate"], "date_range": DAY, "dimensions": ["event:goal"]},
        [["Read", 1, 50.0]],
    ),
    (
        {
            "metrics": ["visitors", "group_conversion_rate"],
            "date_range": DAY,
            "dimensions": ["visit:device"],
            "filters": [["is", "event:goal", ["Read"]]],
        },
        [["(not set)", 1, 50.0]],
    ),
    (
        {"metrics": ["visitors"], "date_range": DAY, "dimensions": ["event:props:plan"], "include": {"imports": True}},
        [["(none)", 2]],
    ),
    ({"metrics": ["visitors"], "date_range": "24h"}, [[1]]),
    ({"metrics": ["pageviews"], "date_range": "all"}, [[5]]),
    ({"metrics": ["visitors"], "date_range": ["2025-11-12T09:30:30+00:00", "2025-11-12T09:59:59Z"]}, [[1]]),
]
"""Requests of each kind that Plausible documents, and the labels and figures of each row."""


def test_documented_requests_are_answered(footfall: Footfall) -> None:
    """In the public shape, with the token as a key, and with the right figures."""
    sites = {"blog": {"goals": [{"name": "Read", "page": "/posts/*"}]}}
    footfall.set(FOOTFALL__REPORTING__TOKEN=TOKEN, FOOTFALL__SITES=json.dumps(sites)).start()
    now = view("eve", "/", datetime.now(UTC).isoformat())
    httpx.post(f"{footfall.url}/events", json=[*EVENTS, now], timeout=ANSWER_S).raise_for_status()
    with httpx.Client(base_url=footfall.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=ANSWER_S) as client:
        eventually(5, lambda: client.get("/stats?site_id=blog").json()["total_views"])
        answers = [client.post("/api/v2/query", json={"site_id": "blog", **asked}) for asked, _ in DOCUMENTED]
        for dates in ["day", "7d", "28d", "30d", "91d", "month", "6mo", "12mo", "year"]:
            asked = {"site_id": "blog", "metrics": ["visitors"], "date_range": dates, "dimensions": ["time"]}
            answer = client.post("/api/v2/query", json=asked)
            assert answer.status_code == httpx.codes.OK, answer.text
            jsonschema.validate(answer.json(), ANSWER)

    assert [200] * len(DOCUMENTED) == [answer.status_code for answer in answers], [answer.text for answer in answers]
    for answer, (asked, expected) in zip(answers, DOCUMENTED, strict=True):
        jsonschema.validate(answer.json(), ANSWER)
        rows = [[*row["dimensions"], *row["metrics"]] for row in answer.json()["results"]]
        assert (asked, expected) == (asked, rows)
