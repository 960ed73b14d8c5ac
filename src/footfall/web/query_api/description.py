"""The query API in the OpenAPI document."""

from typing import Final

from footfall.web.openapi_parts import Json, again_later, guarded, parameter, problem, reference, refusals
from footfall.web.query_api import legacy
from footfall.web.query_api.answer import Answer
from footfall.web.query_api.funnel import FunnelAnswer, FunnelRequest
from footfall.web.query_api.listing import SiteList

_QUERY: Final = """\
Figures of a site, in the shape of Plausible's Stats API v2, which its clients can use as it is. Bots are left out,
unless a filter names `visit:bot`. What is unknown, or does not go together, is refused, and the answer names it."""


def query_api_paths(tag: str) -> Json:
    """Each path and what it takes and answers.

    Args:
        tag: what it is listed under.
    """
    schema = "/api/v2/query/schema.json"
    example = {"site_id": "site-abc-123", "metrics": ["visitors"], "date_range": "7d", "dimensions": ["visit:source"]}
    wrong = {
        **refusals(),
        "400": problem(400, "The request is not one that can be answered; `error` says so, too."),
        "503": again_later(503, "Too many reports are being made, or this one took too long."),
    }

    def operation(name: str, summary: str, answer: Json, **more: object) -> Json:
        answers = {"200": {"description": "The answer.", "content": {"application/json": {"schema": answer}}}, **wrong}
        described = {"tags": [tag], "operationId": name, "summary": summary, "security": guarded()}
        return {**described, **more, "responses": answers}

    def of_legacy(name: str) -> Json:
        required = {"site_id": "site-abc-123", "property": "event:page"}
        parameters = [
            parameter(
                one,
                {"type": "string", **({"examples": [required[one]]} if one in required else {})},
                "As docs/api.md says.",
                required=one in required,
            )
            for one in legacy.PARAMETERS[name]
        ]
        answer = {"type": "integer"} if name.startswith("realtime") else {"type": "object"}
        return operation(name.replace("/", "_"), f"Plausible's Stats API v1: {name}", answer, parameters=parameters)

    content = {"application/json": {"schema": {"type": "object"}, "example": example}}
    query = operation(
        "query",
        "Any figures of a site",
        reference(Answer),
        description=_QUERY,
        externalDocs={"url": schema, "description": "The JSON schema of the body."},
        requestBody={"required": True, "content": content},
    )
    query["responses"]["413"] = problem(413, "The body is too large.")
    shown = {"200": {"description": "The schema, draft 7.", "content": {"application/schema+json": {}}}}
    return {
        "/api/v2/query": {"post": query},
        "/api/v2/funnel": {
            "post": operation(
                "funnel",
                "How many visitors reach each step of a funnel",
                reference(FunnelAnswer),
                requestBody={"required": True, "content": {"application/json": {"schema": reference(FunnelRequest)}}},
            )
        },
        schema: {"get": {"tags": [tag], "summary": "What /api/v2/query takes", "responses": shown}},
        "/api/v1/sites": {"get": operation("sites", "The sites that there are", reference(SiteList))},
        **{f"/api/v1/stats/{name}": {"get": of_legacy(name)} for name in legacy.PARAMETERS},
    }
