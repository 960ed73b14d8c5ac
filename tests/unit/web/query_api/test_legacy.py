"""Version 1 of Plausible's Stats API, asked over HTTP of a real database."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import time_machine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from footfall.database.duckdb.file import open_database
from footfall.sites import SiteSettings
from footfall.web.query_api.legacy import PARAMETERS
from web_api import serving

VIEWS = [
    ("2025-10-31 23:30:00", "/old", 1),  # which is November in Berlin
    ("2025-11-11 09:00:00", "/a|b", 1),
    ("2025-11-12 09:00:00", "/", 1),
    ("2025-11-12 09:58:00", "/posts/1", 2),
    ("2025-11-12 10:00:00", "/posts/2", 3),
]
SITES = {"site": SiteSettings(time_zone="Europe/Berlin")}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with open_database(tmp_path_factory.mktemp("data") / "footfall.duckdb") as database:
        database.executemany(
            "INSERT INTO events (time, site_id, event_type, path, visitor) VALUES (?, 'site', 'page_view', ?, ?)", VIEWS
        )
        with serving(database, sites=SITES) as client:
            yield client


@pytest.fixture(autouse=True)
def _now() -> Iterator[None]:
    """It is 11:02 on the 12th in Berlin."""
    with time_machine.travel("2025-11-12T10:02:00Z", tick=True):
        yield


def ask(client: httpx.Client, endpoint: str, **parameters: str) -> Any:
    response = client.get(f"/api/v1/stats/{endpoint}", params={"site_id": "site", **parameters})
    assert response.status_code == 200, response.text
    return response.json() if endpoint.startswith("realtime") else response.json()["results"]


def test_live_visitors_are_those_of_five_minutes(client: httpx.Client) -> None:
    """The answer is a bare number."""
    assert 2 == ask(client, "realtime/visitors")
    assert 1 == ask(client, "realtime/visitors", filters="event:page==/posts/2")


@pytest.mark.parametrize(
    ("parameters", "views"),
    [
        ({}, 2),  # thirty days, which end yesterday; the 31st of October, late, is the 1st of November in Berlin
        ({"period": "day"}, 3),
        ({"period": "day", "date": "2025-11-11"}, 1),
        ({"period": "7d"}, 1),
        ({"period": "7d", "date": "2025-11-13"}, 4),
        ({"period": "month"}, 5),
        ({"period": "month", "date": "2025-10-05"}, 0),
        ({"period": "6mo"}, 5),
        ({"period": "year", "date": "2024-02-29"}, 0),
        ({"period": "custom", "date": "2025-11-01,2025-11-11"}, 2),
        ({"period": "month", "filters": "event:page==/|/old"}, 2),
        ({"period": "month", "filters": "event:page!=/|/old"}, 3),
        ({"period": "month", "filters": "event:page==/a\\|b"}, 1),
        ({"period": "month", "filters": "event:page==/; event:name==pageview"}, 1),
        ({"period": "month", "with_imported": "true"}, 5),
    ],
)
def test_a_period_is_relative_to_a_date(client: httpx.Client, parameters: dict[str, str], views: int) -> None:
    """By the site's calendar."""
    assert {"pageviews": {"value": views}} == ask(client, "aggregate", metrics="pageviews", **parameters)


def test_a_change_is_that_since_the_period_before(client: httpx.Client) -> None:
    """In percent, of each metric."""
    asked = {"period": "day", "metrics": "visitors, pageviews", "compare": "previous_period"}

    assert {"visitors": {"value": 3, "change": 200}, "pageviews": {"value": 3, "change": 200}} == ask(
        client, "aggregate", **asked
    )


@pytest.mark.parametrize(
    ("parameters", "first", "count"),
    [
        ({"period": "day"}, {"date": "2025-11-12 00:00:00", "visitors": 0, "pageviews": 0}, 24),
        ({"period": "7d"}, {"date": "2025-11-05", "visitors": 0, "pageviews": 0}, 7),
        ({"period": "6mo"}, {"date": "2025-06-01", "visitors": 0, "pageviews": 0}, 6),
        ({"period": "month", "interval": "month"}, {"date": "2025-11-01", "visitors": 3, "pageviews": 5}, 1),
        ({"period": "month", "interval": "week"}, {"date": "2025-11-01", "visitors": 1, "pageviews": 1}, 5),
    ],
)
def test_a_series_has_every_label(
    client: httpx.Client, parameters: dict[str, str], first: dict[str, Any], count: int
) -> None:
    """With zeros where nothing happened."""
    series = ask(client, "timeseries", metrics="visitors,pageviews", **parameters)

    assert (first, count) == (series[0], len(series))


def test_a_breakdown_comes_in_pages(client: httpx.Client) -> None:
    """The value has the name of the property without what stands before it."""
    asked = {"period": "month", "metrics": "pageviews", "property": "event:page", "limit": "2"}
    pages = [ask(client, "breakdown", page=str(page), **asked) for page in (1, 2, 3, 4)]

    assert ["/", "/a|b", "/old", "/posts/1", "/posts/2"] == [row["page"] for page in pages for row in page]
    assert [2, 2, 1, 0] == list(map(len, pages))
    assert [{"plan": "(none)", "visitors": 3}] == ask(client, "breakdown", period="month", property="event:props:plan")


@pytest.mark.parametrize(
    ("endpoint", "parameters", "said"),
    [
        ("aggregate", {"site_id": ""}, "site_id: must be"),
        ("aggregate", {"colour": "blue"}, "colour: there is no such parameter; there are: site_id, period"),
        ("aggregate", {"metrics": "visitors,visitor"}, 'metrics: Invalid metric "visitor"; did you mean "visitors"?'),
        ("aggregate", {"metrics": "total_revenue"}, 'metrics: Invalid metric "total_revenue": revenue is not recorded'),
        ("aggregate", {"period": "2d"}, 'period: Invalid period "2d"; there are: day, 7d'),
        ("aggregate", {"period": "custom"}, "date: must be two days"),
        ("aggregate", {"period": "custom", "date": "2025-11-12,2025-11-11"}, "date: 2025-11-12 is after"),
        ("aggregate", {"date": "12.11.2025"}, "date: must be a day"),
        ("aggregate", {"date": "2025-02-30"}, "date: 2025-02-30 is not a day"),
        ("aggregate", {"date": "0001-01-05"}, "date: "),
        ("aggregate", {"period": "12mo", "date": "0001-01-05"}, "date: lies too far in the past"),
        ("aggregate", {"compare": "year"}, "compare: must be"),
        ("aggregate", {"with_imported": "yes"}, "with_imported: must be true or false"),
        ("aggregate", {"filters": "event:page~/"}, 'filters: "event:page~/" must be property==value'),
        ("aggregate", {"filters": "visit:colour==blue"}, 'filters: Invalid dimension "visit:colour"'),
        ("timeseries", {"interval": "minute"}, "interval: must be one of hour, date"),
        ("breakdown", {}, "property: is required"),
        ("breakdown", {"property": "visit:colour"}, 'property: Invalid dimension "visit:colour"'),
        ("breakdown", {"property": "time:day"}, 'property: "time:day" is no property'),
        ("breakdown", {"property": "event:page", "limit": "1001"}, "limit: must be a whole number from 1 to 1000"),
        ("breakdown", {"property": "event:page", "page": "0"}, "page: must be"),
        ("realtime/visitors", {"period": "day"}, "period: there is no such parameter; there are: site_id, filters"),
    ],
)
def test_what_is_not_known_is_named(client: httpx.Client, endpoint: str, parameters: dict[str, str], said: str) -> None:
    """By its parameter, in the member where Plausible's clients look."""
    response = client.get(f"/api/v1/stats/{endpoint}", params={"site_id": "site", **parameters})

    assert 400 == response.status_code
    assert response.json()["error"].startswith(said), response.text


def test_a_parameter_is_given_once(client: httpx.Client) -> None:
    """Else nobody knows which was meant."""
    response = client.get("/api/v1/stats/aggregate?site_id=a&site_id=b")

    assert "site_id: is given more than once" == response.json()["error"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    endpoint=st.sampled_from(sorted(PARAMETERS)),
    given_=st.dictionaries(
        st.sampled_from(PARAMETERS["breakdown"][1:]),
        st.sampled_from(
            [
                "day",
                "7d",
                "custom",
                "2025-11-12",
                "2025-11-01,2025-11-12",
                "9999-12-31",
                "visitors,events",
                "1",
                "true",
                "event:page",
                "event:page==/*",
                "a==b;c",
                "==",
                "\\|",
                "visit:bot==true",
                "é\x00",
                "",
            ]
        ),
    ),
)
def test_any_parameters_are_answered_or_refused(client: httpx.Client, endpoint: str, given_: dict[str, str]) -> None:
    """Never with a failure."""
    response = client.get(f"/api/v1/stats/{endpoint}", params={"site_id": "site", **given_})

    assert response.status_code in {200, 400}, response.text
