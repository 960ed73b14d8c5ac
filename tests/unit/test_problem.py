"""Error answers: the members of RFC 9457, and every field that is wrong."""

import json
from functools import partial
from typing import Annotated

import msgspec
import pytest
from msgspec import Meta, Struct, field

from footfall.problem import FieldError, Problem, field_errors_of


class Shape(Struct):
    name: Annotated[str, Meta(min_length=1)]
    count: Annotated[int, Meta(ge=1, le=100)] = 10
    since: str | None = field(default=None, name="from")


def test_body_has_the_members_of_the_rfc() -> None:
    """Type, title, status and detail, and under `errors` each field with what was expected of it."""
    problem = Problem(422, "The event was not accepted.", [FieldError("site_id", "is required")])

    assert {
        "type": "about:blank",
        "title": "Unprocessable Content",
        "status": 422,
        "detail": "The event was not accepted.",
        "errors": [{"field": "site_id", "detail": "is required"}],
    } == json.loads(problem.body())


def test_body_without_faults_has_no_errors() -> None:
    """Where no field is at fault, there is no empty list of them."""
    assert {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "There is nothing here.",
    } == json.loads(Problem(404, "There is nothing here.").body())


@pytest.mark.parametrize("document", [{"name": "a"}, {"name": "a", "count": 100, "from": "x"}, {"name": "a", "x": []}])
def test_right_document_has_no_faults(document: dict[str, object]) -> None:
    """Optional fields may be absent, unknown ones present."""
    assert [] == field_errors_of(document, Shape)


def test_every_fault_is_found() -> None:
    """The first wrong field does not hide the others; a field is called what the client calls it."""
    field_errors = field_errors_of({"count": 101, "from": 5}, Shape)

    assert [
        FieldError("name", "is required"),
        FieldError("count", "must be a whole number from 1 to 100"),
        FieldError("from", "must be a text"),
    ] == field_errors


@pytest.mark.parametrize("count", ["1", "100"])
def test_text_is_a_number_where_all_is_text(count: str) -> None:
    """A query has no types of its own."""
    assert [] == field_errors_of({"name": "a", "count": count}, Shape, partial(msgspec.convert, strict=False))


@pytest.mark.parametrize("count", ["", "0", "101", "ten", "1.5"])
def test_text_that_is_no_such_number_is_a_fault(count: str) -> None:
    """Bounds hold for text, too."""
    assert ["count"] == [
        error.field
        for error in field_errors_of({"name": "a", "count": count}, Shape, partial(msgspec.convert, strict=False))
    ]


def test_number_as_text_is_a_fault_in_json() -> None:
    """JSON has types, and they are held to."""
    expected = [FieldError("count", "must be a whole number from 1 to 100")]
    assert expected == field_errors_of({"name": "a", "count": "1"}, Shape)


def test_clients_of_plausible_find_the_detail_where_they_look() -> None:
    """On the paths of the query API it is in `error`, too; nowhere else."""
    problem = Problem(400, "#/metrics: is required")

    assert problem.detail == json.loads(problem.body_for("/api/v2/query"))["error"]
    assert problem.body() == problem.body_for("/stats")
