"""Parts of the OpenAPI document: parameters, answers and errors."""

from typing import Any

import msgspec
from msgspec import Struct

from footfall.problem import CONTENT_TYPE, FieldError, phrase

Json = dict[str, Any]


class ProblemBody(Struct, frozen=True):
    """Why a request was not granted, RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []


def status(description: str, example: Json) -> Json:
    """A JSON answer with an example."""
    return {"description": description, "content": {"application/json": {"example": example}}}


def parameter(name: str, schema: Json, description: str, *, required: bool = False) -> Json:
    """A parameter of a query."""
    return {"name": name, "in": "query", "required": required, "description": description, "schema": schema}


def again_later(status: int, description: str) -> Json:
    """An error that may go away, so that the answer says when to try again."""
    return {
        **problem(status, description),
        "headers": {"Retry-After": {"description": "In seconds.", "schema": {"type": "integer"}}},
    }


def problem(status: int, description: str, *field_errors: FieldError) -> Json:
    """An error, with an example of its answer."""
    example = ProblemBody("about:blank", phrase(status), status, description, list(field_errors))
    return {
        "description": description,
        "content": {CONTENT_TYPE: {"schema": reference(ProblemBody), "example": _without_empty(example)}},
    }


def _without_empty(example: ProblemBody) -> Json:
    members: Json = msgspec.to_builtins(example)
    return {name: value for name, value in members.items() if value}


def reference(shape: type[Struct]) -> Json:
    """A reference to a shape in `schemas`."""
    return {"$ref": f"#/components/schemas/{shape.__name__}"}


def schemas(*shapes: type[Struct]) -> Json:
    """The JSON schemas of these shapes, by name."""
    _, components = msgspec.json.schema_components(shapes, ref_template="#/components/schemas/{name}")
    return components


def guarded() -> list[Json]:
    """With the token, or without where none is set."""
    return [{"token": []}, {}]


def refusals() -> Json:
    """Whoever may not read reports."""
    unauthorised = problem(401, "The token is missing or wrong.")
    unauthorised["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return {
        "401": unauthorised,
        "403": problem(
            403, "No token is set, and the request is not from the user that runs Footfall, on the same machine."
        ),
        "429": again_later(429, "This address asks for too many reports, or has tried too many tokens."),
    }
