"""The OpenAPI 3.1 document of every endpoint, the collector's included."""

from typing import Final

from footfall import __version__
from footfall.collector.protocols.event_body import MAX_EVENTS
from footfall.collector.protocols.event_fields import EventBody
from footfall.collector.protocols.footfall import JSON_TYPES, MAX_EVENTS_BYTES, Accepted, ManyAccepted
from footfall.entry import MAX_PATH, MAX_SITE_ID, MAX_USER_ID
from footfall.problem import FieldError
from footfall.status.ledger import Ledger
from footfall.web.export import MEDIA_TYPES, ExportQuery
from footfall.web.openapi_parts import (
    Json,
    ProblemBody,
    again_later,
    guarded,
    parameter,
    problem,
    reference,
    refusals,
    schemas,
    status,
)
from footfall.web.query_api.answer import Answer
from footfall.web.query_api.description import query_api_paths
from footfall.web.query_api.funnel import FunnelAnswer, FunnelRequest
from footfall.web.query_api.listing import SiteList
from footfall.web.stats import StatsAnswer, StatsQuery

_COLLECTING: Final = "collecting"
_REPORTING: Final = "reporting"
_OPERATING: Final = "operating"

_TRACK: Final = """\
Records a hit and answers with a transparent image of one pixel, whatever the request holds: a visitor's page must
never break. The time, `Referer`, `User-Agent` and the address are recorded."""
_EVENT: Final = """\
Records an event. `202` means that it is in the queue; it is in `/stats` within a second. The body may come as
`text/plain`, and with `Content-Encoding: gzip`. A field that is not listed is ignored.

From a page, also one that is being closed, this line works (give `sendBeacon` the text itself, not a `Blob` of
`application/json`, for which browsers ask to send cookies):

    navigator.sendBeacon("{url}/event", JSON.stringify({{site_id: "my-site", event_type: "page_view",
      path: location.pathname, referrer: document.referrer}}))

A server that sends events for its visitors gives their `ip` and `user_agent`, and needs the token for that."""
_EVENTS: Final = """\
Records many events, each judged on its own: a JSON array, or one JSON object a line. All that is accepted is in the
queue when the answer comes. Give each an `event_id`, and the whole can be sent again when no answer came."""
_STATS: Final = """\
Page views, distinct users and the most viewed pages of a site. Days are UTC. A site never seen gives zeros."""
_LEDGER: Final = """\
Accounts for every hit and event: once traffic stops, `received` = `written` + `skipped` + `pending` for each sink.
It survives restarts."""


_SHAPES: Final = (
    EventBody,
    Accepted,
    ManyAccepted,
    StatsAnswer,
    Answer,
    FunnelRequest,
    FunnelAnswer,
    SiteList,
    Ledger,
    ProblemBody,
)


def document(public_url: str | None = None) -> Json:
    """The document, ready for JSON.

    Args:
        public_url: where browsers reach the collector, if that is set.
    """
    servers = [{"url": "/", "description": "Where this page comes from."}]
    if public_url is not None:
        servers.append({"url": public_url, "description": "Where browsers reach the collector."})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Footfall",
            "version": __version__,
            "summary": "Self-hosted web analytics that never loses a hit",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": servers,
        "tags": [
            {"name": _COLLECTING, "description": "On the collector's port."},
            {"name": _REPORTING, "description": "On the collector's port, or on its own where it runs alone."},
            {"name": _OPERATING, "description": "On the port of each."},
        ],
        "paths": {
            "/track": {"get": _track(), "options": _preflight()},
            "/event": {"post": _event(public_url or "http://127.0.0.1:8000"), "options": _preflight()},
            "/events": {"post": _events(), "options": _preflight()},
            "/script.js": {"get": _script()},
            "/stats": {"get": _stats()},
            "/export": {"get": _export()},
            **query_api_paths(_REPORTING),
            "/ledger": {"get": _ledger()},
            "/metrics": {"get": _metrics()},
            "/healthz": {"get": _healthz()},
            "/readyz": {"get": _readyz()},
        },
        "components": {
            "schemas": schemas(*_SHAPES),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The value of `reporting.token`; not needed where none is set.",
                }
            },
        },
    }


def _track() -> Json:
    return {
        "tags": [_COLLECTING],
        "operationId": "track",
        "summary": "Record a hit with an image",
        "description": _TRACK,
        "parameters": [
            parameter("site_id", {"type": "string", "maxLength": MAX_SITE_ID}, "Else the referrer's host."),
            parameter("path", {"type": "string", "maxLength": MAX_PATH}, "Else the referrer's path."),
            parameter("user_id", {"type": "string", "maxLength": MAX_USER_ID}, "Who."),
        ],
        "responses": {
            "200": {
                "description": "The image.",
                "content": {"image/gif": {}},
                "headers": {
                    "Cache-Control": {"schema": {"type": "string", "const": "no-store"}},
                    "X-Footfall-Refused": {
                        "description": "Why the hit was not recorded, as the ledger counts it; absent if it was.",
                        "schema": {"type": "string", "examples": ["unknown_site"]},
                    },
                },
            },
            "302": {
                "description": "Where the image is, if `collector.pixel_url` is set.",
                "headers": {"Location": {"schema": {"type": "string", "format": "uri"}}},
            },
        },
    }


def _script() -> Json:
    return {
        "tags": [_COLLECTING],
        "operationId": "script",
        "summary": "The script that counts the pages which load it",
        "responses": {
            "200": {
                "description": "The script; compressed for whoever takes gzip.",
                "content": {"text/javascript": {}},
                "headers": {"ETag": {"schema": {"type": "string"}}},
            },
            "304": {"description": "It is the one that `If-None-Match` names."},
        },
    }


def _event(url: str) -> Json:
    body = {
        "schema": reference(EventBody),
        "example": {
            "site_id": "site-abc-123",
            "event_type": "page_view",
            "path": "/pricing",
            "user_id": "user-xyz-789",
            "timestamp": "2025-11-12T19:30:01Z",
        },
    }
    return {
        "tags": [_COLLECTING],
        "operationId": "event",
        "summary": "Record an event",
        "description": _EVENT.format(url=url),
        "security": _for_visitors(),
        "parameters": _options(),
        "requestBody": {"required": True, "content": dict.fromkeys(map(bytes.decode, JSON_TYPES), body)},
        "responses": {
            "202": {
                "description": "It is in the queue.",
                "content": {"application/json": {"schema": reference(Accepted), "example": {"status": "accepted"}}},
            },
            "400": problem(400, "The body is not JSON."),
            "401": problem(401, _FOR_VISITORS),
            "403": problem(403, "It asks not to be counted, or comes from a page of another site."),
            "413": problem(413, "The body is larger than `collector.max_body_bytes`."),
            "415": problem(
                415, "The body is neither `application/json` nor `text/plain`, or compressed, but not with gzip."
            ),
            "422": problem(422, "A field is missing or wrong.", FieldError("site_id", "is required")),
            "429": again_later(429, _RATE),
            "503": again_later(503, "The queue can't take it now; try again."),
        },
    }


def _events() -> Json:
    array = {"type": "array", "items": reference(EventBody), "minItems": 1, "maxItems": MAX_EVENTS}
    lines = {"schema": {"type": "string", "description": "A JSON object a line (NDJSON)."}}
    return {
        "tags": [_COLLECTING],
        "operationId": "events",
        "summary": "Record many events",
        "description": _EVENTS,
        "security": _for_visitors(),
        "parameters": _options(),
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": array}, "application/x-ndjson": lines, "text/plain": lines},
        },
        "responses": {
            "202": {
                "description": "Those that were accepted are in the queue; the others are named.",
                "content": {"application/json": {"schema": reference(ManyAccepted)}},
            },
            "400": problem(400, "The body is not JSON."),
            "401": problem(401, _FOR_VISITORS),
            "403": problem(403, "The request asks not to be counted."),
            "413": problem(413, f"There are more than {MAX_EVENTS} events, or {MAX_EVENTS_BYTES} bytes."),
            "415": problem(
                415, "The body is neither JSON nor NDJSON nor `text/plain`, or compressed, but not with gzip."
            ),
            "422": problem(422, "None of the events was accepted."),
            "429": again_later(429, _RATE),
            "503": again_later(503, "The queue can't take them now; try again."),
        },
    }


def _preflight() -> Json:
    return {
        "tags": [_COLLECTING],
        "summary": "CORS preflight",
        "responses": {
            "204": {
                "description": "Any site may send; no credentials.",
                "headers": {"Access-Control-Allow-Origin": {"schema": {"type": "string", "const": "*"}}},
            }
        },
    }


def _stats() -> Json:
    query = schemas(StatsQuery)["StatsQuery"]
    example = {
        "site_id": "site-abc-123",
        "date": "2025-11-12",
        "total_views": 1450,
        "unique_users": 212,
        "top_paths": [{"path": "/pricing", "views": 700}, {"path": "/blog/post-1", "views": 500}],
    }
    return {
        "tags": [_REPORTING],
        "operationId": "stats",
        "summary": "The figures of a site",
        "description": _STATS,
        "security": guarded(),
        "parameters": [
            parameter(name, schema, schema.pop("description"), required=name in query["required"])
            for name, schema in query["properties"].items()
        ],
        "responses": {
            "200": {
                "description": "The figures.",
                "content": {"application/json": {"schema": reference(StatsAnswer), "example": example}},
            },
            **refusals(),
            "422": problem(422, "A parameter is missing or wrong.", FieldError("site_id", "is required")),
            "503": again_later(503, "Too many reports are being made, or this one took too long."),
        },
    }


def _export() -> Json:
    query = schemas(ExportQuery)["ExportQuery"]
    return {
        "tags": [_REPORTING],
        "operationId": "export",
        "summary": "The events of a site",
        "description": "Streams them, as `footfall export` writes them. If the answer breaks off, it is not whole.",
        "security": guarded(),
        "parameters": [
            parameter(name, schema, schema.pop("description"), required=name in query["required"])
            for name, schema in query["properties"].items()
        ],
        "responses": {
            "200": {
                "description": "The events.",
                "content": {media_type.partition(";")[0]: {} for media_type in MEDIA_TYPES.values()},
            },
            **refusals(),
            "422": problem(422, "A parameter is missing, wrong or not known.", FieldError("site_id", "is required")),
            "503": again_later(503, "Too many exports are being made, or the database does not answer."),
            "505": problem(505, "The request is HTTP/1.0, in which a client can't tell whether an answer is whole."),
        },
    }


def _ledger() -> Json:
    account = {"written": 1450, "skipped": {}, "pending": 0}
    example = {"received": 1450, "refused": {}, "sinks": {"visit_log": account, "database": account}}
    return {
        "tags": [_OPERATING],
        "operationId": "ledger",
        "summary": "Where everything that came in has gone",
        "description": _LEDGER,
        "security": guarded(),
        "responses": {
            "200": {
                "description": "The accounts.",
                "content": {"application/json": {"schema": reference(Ledger), "example": example}},
            },
            **refusals(),
        },
    }


def _metrics() -> Json:
    return {
        "tags": [_OPERATING],
        "operationId": "metrics",
        "summary": "Metrics for Prometheus",
        "security": guarded(),
        "responses": {
            "200": {"description": "Prometheus text.", "content": {"text/plain": {"schema": {"type": "string"}}}},
            **refusals(),
        },
    }


def _healthz() -> Json:
    return {
        "tags": [_OPERATING],
        "operationId": "healthz",
        "summary": "Whether the process lives",
        "responses": {"200": status("It does.", {"status": "alive"})},
    }


def _readyz() -> Json:
    return {
        "tags": [_OPERATING],
        "operationId": "readyz",
        "summary": "Whether every role can do its work",
        "responses": {
            "200": status("Each can.", {"status": "ready", "roles": {"reporting": "ready"}}),
            "503": status(
                "Names those that can't, and why.", {"status": "not ready", "roles": {"storage": "no space"}}
            ),
        },
    }


def _options() -> list[Json]:
    switch = {"type": "integer", "enum": [0, 1], "default": 0}
    return [
        parameter("strict", switch, "Refuse a field that is not listed."),
        parameter("explain", switch, "List the fields that were ignored."),
    ]


def _for_visitors() -> list[Json]:
    """Without the token, or with it for `ip` and `user_agent`."""
    return [{}, {"token": []}]


_FOR_VISITORS = "It has `ip` or `user_agent`, and the token is missing or wrong."
_RATE = "This address sends more than `collector.rate_limit_per_minute`."
