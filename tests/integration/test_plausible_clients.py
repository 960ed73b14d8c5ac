"""Public clients of Plausible's Stats API, unmodified, against `footfall serve`."""

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
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
    filtered: await client.getAggregate("month", "visitors", null, "event:page==/posts/1|/posts/2", "2025-11-12"),
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
