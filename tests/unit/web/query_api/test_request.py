"""What the query API is asked: the parser and the JSON schema agree, and a refusal names its place."""

from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from footfall.problem import Problem
from footfall.web.query_api import names
from footfall.web.query_api.request import check, decode
from footfall.web.query_api.schema import SCHEMA
from query_requests import MINIMAL, REQUESTS

VALIDATOR = jsonschema.Draft7Validator(SCHEMA)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 20_000) | st.just(0.5) | st.text("ab:\x00é", max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab", max_size=3), inner, max_size=3),
    max_leaves=6,
)


def is_taken(document: Any) -> bool:
    try:
        check(document)
    except Problem as problem:
        return (problem.status, problem.detail[:1]) != (400, "#")
    return True


@settings(max_examples=200)
@given(document=REQUESTS | JSON | st.builds(lambda more: {**MINIMAL, **more}, REQUESTS))
def test_the_schema_takes_what_the_parser_takes(document: Any) -> None:
    """And the other way round; whatever is refused is refused with the place where it is."""
    assert VALIDATOR.is_valid(document) == is_taken(document)


@pytest.mark.parametrize(
    "member",
    [
        {"metrics": list(names.METRICS)},
        {"dimensions": [*names.DIMENSIONS, *names.TIME, "event:goal", "event:props:plan"]},
        *({"filters": [[operator, name, ["x"]]]} for operator in names.OPERATORS for name in names.DIMENSIONS),
        *({"filters": [[operator, "event:goal", ["x"]]]} for operator in names.GOAL_OPERATORS),
        {"filters": [["has_done", ["or", [["is", "event:name", ["a"]], ["not", ["is", "event:goal", ["b"]]]]]]]},
        {"filters": [["is", "visit:city", [2867714]]]},
        {"filters": [["contains", "visit:country", ["d"], {"case_sensitive": False}]]},
        {"date_range": ["2025-11-12T09:30:00.123456+05:45", "2025-11-12T10:30:00Z"]},
        {"include": {"comparisons": {"mode": "custom", "date_range": ["2025-11-01", "2025-11-02"]}}},
        {"pagination": {"limit": 10_000, "offset": 20_000}},
    ],
)
def test_what_is_documented_is_taken(member: dict[str, Any]) -> None:
    """By the parser and by the schema."""
    assert is_taken({**MINIMAL, **member})
    assert VALIDATOR.is_valid({**MINIMAL, **member})


@pytest.mark.parametrize(
    ("member", "detail"),
    [
        ({"metrics": ["visitors", "visitor"]}, '#/metrics/1: Invalid metric "visitor"; did you mean "visitors"?'),
        ({"metrics": []}, "#/metrics: must not be empty"),
        ({"metrics": ["visits", "visits"]}, '#/metrics/1: "visits" is given twice'),
        ({"metrics": ["total_revenue"]}, '#/metrics/0: Invalid metric "total_revenue": revenue is not recorded'),
        ({"dimensions": ["visit:country_name"]}, '#/dimensions/0: Invalid dimension "visit:country_name": ask for'),
        ({"date_range": "bad"}, '#/date_range: Invalid date range "bad"; there are: day, 24h,'),
        ({"filters": ["is", "event:page", ["/"]]}, "#/filters/0: must be a filter: [operator, dimension, [value"),
        ({"filters": [["is", "segment", [1]]]}, '#/filters/0/1: Invalid dimension "segment": segments are not stored'),
        ({"filters": [["like", "event:page", ["/"]]]}, '#/filters/0/0: Invalid operator "like"; there are: is,'),
        ({"filters": [["and", [["is", "time", ["x"]]]]]}, "#/filters/0/1/0/1: time can't be filtered; date_range says"),
        ({"filters": [["matches", "event:goal", ["x"]]]}, '#/filters/0/0: "event:goal" takes is or contains, not'),
        ({"filters": [["has_done", ["is", "visit:os", ["x"]]]]}, "#/filters/0/1/1: has_done and has_not_done take"),
        ({"order_by": [["visitors", "up"]]}, "#/order_by/0: must be [metric or dimension,"),
        ({"include": {"labels": True}}, "#/include/labels: there is no such member; there are: imports, time_labels"),
        ({"include": {"comparisons": {"mode": "custom"}}}, "#/include/comparisons/date_range: goes with the mode"),
        ({"pagination": {"limit": 0}}, "#/pagination/limit: must be a whole number from 1 to 10000"),
        ({"colour": 1}, "#/colour: there is no such member; there are: site_id, metrics,"),
        ({"site_id": ""}, "#/site_id: must be a text of 1 to 128 characters"),
    ],
)
def test_a_refusal_names_the_place(member: dict[str, Any], detail: str) -> None:
    """And what may stand there."""
    with pytest.raises(Problem) as refusal:
        check({**MINIMAL, **member})

    assert refusal.value.detail.startswith(detail), refusal.value.detail


@pytest.mark.parametrize("name", ["site_id", "metrics", "date_range"])
def test_what_is_required_is_named(name: str) -> None:
    """Where it should be."""
    with pytest.raises(Problem, match=f"#/{name}: is required"):
        check({key: value for key, value in MINIMAL.items() if key != name})


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"site_id=1", b'"\\ud800"'])
def test_a_body_that_is_not_json_is_refused(body: bytes) -> None:
    """Whatever else it is."""
    with pytest.raises(Problem, match="The body is not JSON") as refusal:
        check(decode(body))

    assert refusal.value.status == 400
