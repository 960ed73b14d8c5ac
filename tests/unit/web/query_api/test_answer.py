"""What `POST /api/v2/query` answers, asked over HTTP of a real database."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import time_machine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from footfall.database.duckdb.file import open_database
from footfall.sites import FunnelSettings, GoalSettings, SiteSettings
from footfall.web.query_api import names
from query_requests import MINIMAL, REQUESTS
from web_api import serving

VIEWS = [
    # time (UTC), event_type, path, visitor, bot, props
    ("2025-11-11 18:00:00", "page_view", "/", 1, None, None),  # which is 23:45 of the 11th in Kathmandu
    ("2025-11-11 18:15:00", "page_view", "/shoes/1", 1, None, None),  # midnight of the 12th
    ("2025-11-12 09:00:00", "page_view", "/", 2, None, None),
    ("2025-11-12 09:01:00", "order", "/shoes/1", 2, None, '{"size":42}'),
    ("2025-11-12 09:02:00", "page_view", "/", 3, "Googlebot", None),
    ("2025-11-13 09:00:00", "page_view", "/shoes/2", 2, None, '{"size":null}'),
]
SITES = {
    "shop": SiteSettings(
        goals=[
            GoalSettings("Shoes seen", page="/shoes/1"),
            GoalSettings("Order", event="order"),
            GoalSettings("Large order", event="order", props={"size": "42"}),
        ],
        funnels=[FunnelSettings("Buying", ["Shoes seen", "Order"])],
    ),
    "kathmandu": SiteSettings(name="Shop", group="Asia", time_zone="Asia/Kathmandu"),
}
DAYS = {"site_id": "shop", "metrics": ["visitors"], "date_range": ["2025-11-11", "2025-11-13"]}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The same events for each of the sites, the last one of them in no setting."""
    with open_database(tmp_path_factory.mktemp("data") / "footfall.duckdb") as database:
        for site_id in [*SITES, "stranger"]:
            database.executemany(
                "INSERT INTO events (time, event_type, path, visitor, bot, props, site_id) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(*view, site_id) for view in VIEWS],
            )
        with serving(database, sites=SITES, time_zone="Europe/Berlin") as client:
            yield client


def ask(client: httpx.Client, **members: Any) -> Any:
    response = client.post("/api/v2/query", json={**DAYS, **members})
    assert response.status_code == 200, response.text
    return response.json()


def rows(client: httpx.Client, **members: Any) -> list[list[Any]]:
    """Labels and figures of each row."""
    return [[*row["dimensions"], *row["metrics"]] for row in ask(client, **members)["results"]]


def refusal(client: httpx.Client, **members: Any) -> str:
    response = client.post("/api/v2/query", json={**DAYS, **members})
    assert response.status_code == 400, response.text
    problem = response.json()
    assert ["type", "title", "status", "detail", "error"] == list(problem)
    assert problem["error"] == problem["detail"]
    return str(problem["error"])


def test_without_dimensions_there_is_one_row(client: httpx.Client) -> None:
    """Also of a site never seen."""
    assert [[2, 4, 5]] == rows(client, metrics=["visitors", "pageviews", "events"])
    assert [[0, 0]] == rows(client, site_id="never-seen", metrics=["visitors", "pageviews"])


def test_metrics_come_in_the_order_asked_for(client: httpx.Client) -> None:
    """And so do the values of dimensions."""
    asked = {"metrics": ["events", "visitors"], "dimensions": ["event:page", "event:name"]}

    assert [
        ["/", "pageview", 2, 2],
        ["/shoes/1", "order", 1, 1],
        ["/shoes/1", "pageview", 1, 1],
        ["/shoes/2", "pageview", 1, 1],
    ] == rows(client, **asked)


@pytest.mark.parametrize(
    ("order", "pages"),
    [
        ([["event:page", "desc"]], ["/shoes/2", "/shoes/1", "/"]),
        ([["visitors", "asc"], ["event:page", "desc"]], ["/shoes/2", "/shoes/1", "/"]),
        ([], ["/", "/shoes/1", "/shoes/2"]),
    ],
)
def test_rows_are_sorted_as_asked(client: httpx.Client, order: list[Any], pages: list[str]) -> None:
    """Without an order, by the first metric, the greatest first."""
    asked = {"dimensions": ["event:page"], "order_by": order}

    assert pages == [row[0] for row in rows(client, **asked)]
    assert (order or [["visitors", "desc"]]) == ask(client, **asked)["query"]["order_by"]


def test_pages_of_an_answer_hold_each_row_once(client: httpx.Client) -> None:
    """Together they are the whole, and each says how many rows there are."""
    asked = {"dimensions": ["event:page"], "include": {"total_rows": True}}
    pages = [ask(client, **asked, pagination={"limit": 2, "offset": offset}) for offset in (0, 2, 4)]

    assert ["/", "/shoes/1", "/shoes/2"] == [row["dimensions"][0] for page in pages for row in page["results"]]
    assert [3, 3, 3] == [page["meta"]["total_rows"] for page in pages]


@pytest.mark.parametrize(
    ("site_id", "time_zone", "days"),
    [
        ("shop", None, [["2025-11-11", 2], ["2025-11-12", 2], ["2025-11-13", 1]]),
        ("kathmandu", None, [["2025-11-11", 1], ["2025-11-12", 3], ["2025-11-13", 1]]),
        ("kathmandu", "UTC", [["2025-11-11", 2], ["2025-11-12", 2], ["2025-11-13", 1]]),
        ("stranger", "America/St_Johns", [["2025-11-11", 2], ["2025-11-12", 2], ["2025-11-13", 1]]),
    ],
)
def test_days_are_those_of_a_time_zone(
    client: httpx.Client, site_id: str, time_zone: str | None, days: list[list[Any]]
) -> None:
    """The request's, else the site's, else `reporting.time_zone`."""
    more = {"time_zone": time_zone} if time_zone else {}

    assert days == rows(client, site_id=site_id, metrics=["events"], dimensions=["time:day"], **more)


def test_every_label_can_be_asked_for(client: httpx.Client) -> None:
    """Rows are only those in which something happened."""
    answer = ask(client, date_range=["2025-11-12", "2025-11-15"], dimensions=["time"], include={"time_labels": True})

    assert ["2025-11-12", "2025-11-13", "2025-11-14", "2025-11-15"] == answer["meta"]["time_labels"]
    assert ["2025-11-12", "2025-11-13"] == [row["dimensions"][0] for row in answer["results"]]


@pytest.mark.parametrize(
    ("filters", "events"),
    [
        ([["is", "event:page", ["/"]]], 2),
        ([["is", "event:page", ["/", "/shoes/2"]]], 3),
        ([["is_not", "event:page", ["/", "/shoes/2"]]], 2),
        ([["contains", "event:page", ["shoes"]]], 3),
        ([["contains_not", "event:page", ["1", "2"]]], 2),
        ([["is", "event:page", ["/"]], ["is", "event:page", ["/shoes/1"]]], 0),
        ([["or", [["is", "event:page", ["/shoes/2"]], ["is", "event:name", ["order"]]]]], 2),
        ([["not", ["and", [["is", "event:page", ["/shoes/1"]], ["is", "event:name", ["order"]]]]]], 4),
        ([["is", "event:name", ["pageview"]]], 4),
        ([["is", "event:props:size", ["42"]]], 1),
        ([["is", "event:props:size", ["(none)"]]], 4),
        ([["is", "visit:bot", ["true"]]], 1),
        ([["is", "visit:bot", ["false"]]], 5),
        ([["is", "visit:bot", ["true", "false"]]], 6),
        ([["is", "visit:bot", ["Googlebot", "false"]]], 6),
        ([["is_not", "visit:bot", ["Googlebot"]]], 5),
        ([["is", "visit:bot", ["(none)"]]], 5),
    ],
)
def test_filters_say_what_counts(client: httpx.Client, filters: list[Any], events: int) -> None:
    """Bots count only where a filter speaks of them; labels stand for what is not known."""
    answer = ask(client, metrics=["events"], filters=filters)

    assert [events] == answer["results"][0]["metrics"]
    assert filters == answer["query"]["filters"]


def test_a_comparison_is_beside_each_row(client: httpx.Client) -> None:
    """With the figures of the other time, what it is called there, and the change."""
    include = {"comparisons": {"mode": "previous_period"}, "time_labels": True}
    answer = ask(
        client, date_range=["2025-11-12", "2025-11-13"], dimensions=["time:day", "event:page"], include=include
    )

    assert ["2025-11-10", "2025-11-11"] == answer["meta"]["comparison_time_labels"]
    assert ["2025-11-10T00:00:00+01:00", "2025-11-11T23:59:59+01:00"] == answer["meta"]["comparison_date_range"]
    assert [
        (["2025-11-12", "/"], {"metrics": [0], "dimensions": ["2025-11-10", "/"], "change": [100]}),
        (["2025-11-12", "/shoes/1"], {"metrics": [0], "dimensions": ["2025-11-10", "/shoes/1"], "change": [100]}),
        (["2025-11-13", "/shoes/2"], {"metrics": [0], "dimensions": ["2025-11-11", "/shoes/2"], "change": [100]}),
    ] == [(row["dimensions"], row["comparison"]) for row in answer["results"]]


def test_a_shorter_time_has_nothing_to_compare_with(client: httpx.Client) -> None:
    """A row of a bucket that the other time does not have stands alone."""
    comparison = {"mode": "custom", "date_range": ["2025-11-11", "2025-11-11"]}
    answer = ask(
        client,
        date_range=["2025-11-12", "2025-11-13"],
        metrics=["events"],
        dimensions=["time:day"],
        include={"comparisons": comparison},
    )

    assert [{"metrics": [2], "dimensions": ["2025-11-11"], "change": [0]}, None] == [
        row.get("comparison") for row in answer["results"]
    ]
    assert {"comparisons": comparison} == answer["query"]["include"]


def test_all_begins_with_the_first_event(client: httpx.Client) -> None:
    """In the site's time zone, and ends today."""
    with time_machine.travel("2025-11-20T00:30:00+05:45", tick=True):
        answer = ask(client, site_id="kathmandu", date_range="all", include={"imports": True})

    assert ["2025-11-11T00:00:00+05:45", "2025-11-20T23:59:59+05:45"] == answer["query"]["date_range"]
    assert {"imports_included": False, "imports_skip_reason": "no_imported_data"} == answer["meta"]
    assert [2] == answer["results"][0]["metrics"]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"dimensions": ["time", "time:day"]}, "#/dimensions/1: there can be only one time dimension"),
        ({"include": {"time_labels": True}}, "#/include/time_labels: needs a time dimension"),
        ({"order_by": [["visits", "asc"]]}, '#/order_by/0: "visits" is neither a metric nor a dimension of the query'),
        ({"time_zone": "Europe/Berln"}, "#/time_zone: 'Europe/Berln' is not in this machine's time zone database"),
        ({"date_range": ["2025-02-30", "2025-03-01"]}, "#/date_range: 2025-02-30 is not a day of the calendar"),
        ({"date_range": "30d", "dimensions": ["time:minute"]}, '#/dimensions/0: "time:minute" does not suit the date'),
        ({"filters": [["is", "event:goal", ["Ordr"]]]}, '#/filters/0/2/0: Invalid goal "Ordr"; there are: Shoes seen'),
        ({"site_id": "stranger", "dimensions": ["event:goal"]}, "the dimension 'event:goal' needs goals"),
        ({"metrics": ["bounce_rate"], "dimensions": ["event:name"]}, "'bounce_rate' is of visits, and can't be told"),
        ({"metrics": ["pageviews"], "dimensions": ["visit:entry_page"]}, "'pageviews' counts events, and can't be"),
        ({"metrics": ["conversion_rate"]}, "'conversion_rate' needs 'event:goal'"),
        ({"metrics": ["percentage"]}, "'percentage' needs a dimension"),
        ({"metrics": ["time_on_page"]}, "'time_on_page' needs 'event:page'"),
        ({"metrics": ["views_per_visit"], "filters": [["is", "event:page", ["/"]]]}, "'views_per_visit' is of whole"),
        ({"include": {"comparisons": {"mode": "custom", "date_range": ["2025-11-02", "2025-11-01"]}}}, "#/include/com"),
    ],
)
def test_what_does_not_go_together_is_named(client: httpx.Client, members: dict[str, Any], said: str) -> None:
    """With what may be asked for instead, where that is known."""
    assert refusal(client, **members).startswith(said)


def test_goals_can_be_told_apart(client: httpx.Client) -> None:
    """An event counts for each goal that it fits; rates are of those who might have reached it."""
    asked = {"metrics": ["visitors", "events", "conversion_rate"], "dimensions": ["event:goal"]}

    assert [["Large order", 1, 1, 50.0], ["Order", 1, 1, 50.0], ["Shoes seen", 1, 1, 50.0]] == rows(client, **asked)


@pytest.mark.parametrize(
    ("goals", "events"),
    [
        (["is", "event:goal", ["Order"]], 1),
        (["is", "event:goal", ["Order", "Shoes seen"]], 2),
        (["contains", "event:goal", ["order"]], 1),
        (["contains", "event:goal", ["ORDER"], {"case_sensitive": False}], 1),
        (["is", "event:goal", ["order"], {"case_sensitive": False}], 1),
        (["contains", "event:goal", ["nothing"]], 0),
        (["not", ["is", "event:goal", ["Order"]]], 4),
    ],
)
def test_goals_can_be_filtered(client: httpx.Client, goals: list[Any], events: int) -> None:
    """By their names."""
    assert [[events]] == rows(client, metrics=["events"], filters=[goals])


@pytest.mark.parametrize(
    ("filters", "events"),
    [
        ([["matches", "event:page", ["^/shoes/[0-9]$"]]], 3),
        ([["matches_not", "event:page", ["^/shoes/[0-9]$"]]], 2),
        ([["contains", "event:page", ["SHOES"], {"case_sensitive": False}]], 3),
        ([["has_done", ["is", "event:name", ["order"]]]], 3),
        ([["has_not_done", ["is", "event:goal", ["Order"]]]], 2),
    ],
)
def test_patterns_and_behaviour_say_what_counts(client: httpx.Client, filters: list[Any], events: int) -> None:
    """As the public documentation has them."""
    assert [[events]] == rows(client, metrics=["events"], filters=filters)


@pytest.mark.parametrize("pattern", ["(", "a{2,1}", "\\", "(?=a)", "[z-a]"])
def test_a_pattern_that_is_none_is_refused(client: httpx.Client, pattern: str) -> None:
    """It is the request's error, and named."""
    assert "is not of RE2" in refusal(client, filters=[["matches", "event:page", [pattern]]])


def test_percentages_are_of_all_visitors(client: httpx.Client) -> None:
    """Also in a comparison, and where only some rows are shown."""
    asked = {"metrics": ["percentage"], "dimensions": ["event:page"], "pagination": {"limit": 1}}
    comparison = {"mode": "custom", "date_range": ["2025-11-11", "2025-11-11"]}
    [row] = ask(client, **asked, include={"comparisons": comparison})["results"]

    assert (["/"], [100.0], [100.0]) == (row["dimensions"], row["metrics"], row["comparison"]["metrics"])


def test_a_funnel_counts_step_by_step(client: httpx.Client) -> None:
    """Who sees the shoes first, and orders then; the second visitor has only ordered."""
    asked = {"site_id": "shop", "funnel": "Buying", "date_range": ["2025-11-11", "2025-11-13"]}
    answer = client.post("/api/v2/funnel", json=asked).json()

    assert [
        {"goal": "Shoes seen", "visitors": 1, "conversion_rate": 100.0, "step_conversion_rate": 100.0, "dropped": 0},
        {"goal": "Order", "visitors": 0, "conversion_rate": 0.0, "step_conversion_rate": 0.0, "dropped": 1},
    ] == answer["results"]
    dates = ["2025-11-11T00:00:00+01:00", "2025-11-13T23:59:59+01:00"]
    assert {**asked, "date_range": dates, "filters": [], "time_zone": "Europe/Berlin"} == answer["query"]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"funnel": "Selling"}, '#/funnel: Invalid funnel "Selling"; there are: Buying'),
        ({"site_id": "stranger"}, '#/funnel: Invalid funnel "Buying"; there are: none; sites.SITE_ID.funnels'),
        ({"funnel": 1}, "#/funnel: must be the name of a funnel"),
        ({"metrics": ["visitors"]}, "#/metrics: there is no such member"),
        ({"date_range": ["2025-11-13", "2025-11-11"]}, "#/date_range: 2025-11-13 is after"),
        ({"filters": [["is", "visit:colour", ["a"]]]}, '#/filters/0/1: Invalid dimension "visit:colour"'),
    ],
)
def test_a_funnel_that_is_none_is_refused(client: httpx.Client, members: dict[str, Any], said: str) -> None:
    """By the same rules as a query."""
    asked = {"site_id": "shop", "funnel": "Buying", "date_range": "day", **members}
    response = client.post("/api/v2/funnel", json=asked)

    assert 400 == response.status_code
    assert response.json()["error"].startswith(said), response.text


def test_filters_that_are_nested_too_deeply_are_refused(client: httpx.Client) -> None:
    """So no request makes a statement without bounds."""
    nested: list[Any] = ["is", "event:page", ["/"]]
    for _ in range(100):
        nested = ["not", nested]

    assert "more than 16 deep" in refusal(client, filters=[nested])


def test_a_body_has_a_limit(client: httpx.Client) -> None:
    """It is refused before it is read to its end."""
    response = client.post("/api/v2/query", content=b" " * (1 << 20) + b"{}")

    assert (413, "The body is larger than 1048576 bytes.") == (response.status_code, response.json()["error"])


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/api/v2/query", 405), ("GET", "/api/v3/query", 404)])
def test_a_router_s_refusal_says_error_too(client: httpx.Client, method: str, path: str, status: int) -> None:
    """Clients of Plausible look nowhere else."""
    response = client.request(method, path)

    assert status == response.status_code
    assert response.json()["error"] == response.json()["detail"]


def test_the_schema_is_served(client: httpx.Client) -> None:
    """With the vocabulary of this version."""
    schema = client.get("/api/v2/query/schema.json").json()

    assert list(names.METRICS) == schema["definitions"]["metric"]["enum"]


def test_sites_are_listed(client: httpx.Client) -> None:
    """Those of the settings first, and those never declared."""
    sites = client.get("/api/v1/sites").json()["sites"]

    assert [("shop", "Europe/Berlin"), ("kathmandu", "Asia/Kathmandu"), ("stranger", "Europe/Berlin")] == [
        (site["domain"], site["timezone"]) for site in sites
    ]
    assert ["Shoes seen", "Order", "Large order"] == sites[0]["goals"]
    assert ["Buying"] == sites[0]["funnels"]
    assert ("Shop", "Asia", True) == (sites[1]["name"], sites[1]["group"], sites[1]["is_declared"])
    assert ("stranger", None, False) == (sites[2]["name"], sites[2]["group"], sites[2]["is_declared"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(more=REQUESTS, site_id=st.sampled_from(["shop", "stranger"]))
def test_any_request_is_answered_or_refused(client: httpx.Client, more: dict[str, Any], site_id: str) -> None:
    """With figures in the shape that is documented, or with an error that names something; never with a failure."""
    asked = {**MINIMAL, **more, "site_id": site_id}
    response = client.post("/api/v2/query", json=asked)

    assert response.status_code in {200, 400}, response.text
    if response.status_code == 400:
        assert re.search(r"#/|'\w", response.json()["error"]), response.text
    else:
        for row in response.json()["results"]:
            assert len(row["metrics"]) == len(asked["metrics"])
            assert len(row["dimensions"]) == len(asked.get("dimensions", []))
