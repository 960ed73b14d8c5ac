"""The JSON schema of `POST /api/v2/query`, made from the lists that `request` checks against.

Draft 7, because that is what most tools of clients know.
"""

from typing import Any, Final

from footfall.database.dimensions import GOAL
from footfall.database.filter import MAX_PATTERN
from footfall.entry import MAX_SITE_ID
from footfall.web.query_api import date_range, names
from footfall.web.query_api.request import (
    MAX_CLAUSE,
    MAX_CLAUSES,
    MAX_FILTERS,
    MAX_LIMIT,
    MAX_TIME_ZONE,
    MODES,
)

Schema = dict[str, Any]

_PROP: Final = {"type": "string", "pattern": names.PROP}
_COLUMN: Final = {"anyOf": [{"enum": list(names.DIMENSIONS)}, _PROP]}
_EVENT_COLUMN: Final = {
    "anyOf": [{"enum": [name for name in names.DIMENSIONS if name.startswith("event:")]}, _PROP],
}


def _tuple(*items: Schema, optional: Schema | None = None) -> Schema:
    """An array of just these members, and perhaps one more."""
    every = [*items, *([optional] if optional else [])]
    return {"type": "array", "items": every, "minItems": len(items), "maxItems": len(every), "additionalItems": False}


def _object(properties: Schema, *required: str) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": list(required)} if required else {}),
    }


def _array(items: Schema, *, least: int = 0, most: int | None = None, unique: bool = False) -> Schema:
    return {
        "type": "array",
        "items": items,
        **({"minItems": least} if least else {}),
        **({} if most is None else {"maxItems": most}),
        **({"uniqueItems": True} if unique else {}),
    }


def _clauses(most: int, *more: Schema) -> Schema:
    text: Schema = {"type": "string", "maxLength": most}
    return _array({"anyOf": [text, *more]} if more else text, least=1, most=MAX_CLAUSES)


def _filter(column: Schema, *, inner: str, has_visits: bool) -> Schema:
    """A filter; those within it are `inner`."""
    reference = {"$ref": f"#/definitions/{inner}"}
    modifiers = _object({"case_sensitive": {"type": "boolean"}})
    patterns = {"enum": list(names.PATTERN_OPERATORS)}
    operators = {"enum": list(names.OPERATORS)}
    kinds = [
        _tuple(operators, column, _clauses(MAX_CLAUSE), optional=modifiers),
        _tuple(patterns, column, _clauses(MAX_PATTERN)),
        _tuple({"enum": list(names.GOAL_OPERATORS)}, {"const": GOAL}, _clauses(MAX_CLAUSE), optional=modifiers),
        _tuple({"enum": ["and", "or"]}, _array(reference, least=1, most=MAX_FILTERS)),
        _tuple({"const": "not"}, reference),
    ]
    if has_visits:
        cities = {"const": names.CITY}, {"type": "integer"}
        kinds += [
            _tuple(operators, cities[0], _clauses(MAX_CLAUSE, cities[1]), optional=modifiers),
            _tuple(patterns, cities[0], _clauses(MAX_PATTERN, cities[1])),
            _tuple({"enum": list(names.BEHAVIOUR)}, {"$ref": "#/definitions/behaviour"}),
        ]
    return {"anyOf": kinds}


def _moments(pattern: str, form: str) -> Schema:
    return _array({"type": "string", "pattern": pattern, "format": form}) | {"minItems": 2, "maxItems": 2}


_PAIRS: Final = [_moments(date_range.DATE, "date"), _moments(date_range.MOMENT, "date-time")]

SCHEMA: Final[Schema] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "The body of POST /api/v2/query",
    **_object(
        {
            "site_id": {"type": "string", "minLength": 1, "maxLength": MAX_SITE_ID, "description": "Which site."},
            "metrics": _array({"$ref": "#/definitions/metric"}, least=1, unique=True)
            | {"description": "What to count."},
            "date_range": {"$ref": "#/definitions/date_range"},
            "dimensions": _array({"$ref": "#/definitions/dimension"}, unique=True)
            | {"description": "What to tell apart: a row for each combination. Without any there is one row."},
            "filters": _array({"$ref": "#/definitions/filter"}, most=MAX_FILTERS)
            | {"description": "What counts: all of these have to hold."},
            "order_by": _array(
                _tuple(
                    {"anyOf": [{"$ref": "#/definitions/metric"}, {"$ref": "#/definitions/dimension"}]},
                    {"enum": list(names.DIRECTIONS)},
                ),
                most=MAX_FILTERS,
            )
            | {"description": "Metrics and dimensions of the query to sort by."},
            "include": _object(
                {
                    "imports": {"type": "boolean", "description": "Imported events always count; this adds nothing."},
                    "time_labels": {"type": "boolean", "description": "All labels of the time dimension, in `meta`."},
                    "total_rows": {"type": "boolean", "description": "How many rows there are, in `meta`."},
                    "comparisons": {
                        "anyOf": [
                            {"type": "null"},
                            _object(
                                {
                                    "mode": {"enum": [mode for mode in MODES if mode != "custom"]},
                                    "match_day_of_week": {"type": "boolean"},
                                },
                                "mode",
                            ),
                            _object(
                                {
                                    "mode": {"const": "custom"},
                                    "match_day_of_week": {"type": "boolean"},
                                    "date_range": {"anyOf": _PAIRS},
                                },
                                "mode",
                                "date_range",
                            ),
                        ]
                    },
                }
            ),
            "pagination": _object(
                {
                    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": MAX_LIMIT},
                    "offset": {"type": "integer", "minimum": 0, "exclusiveMaximum": 1 << 31, "default": 0},
                }
            ),
            "time_zone": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_TIME_ZONE,
                "description": "Whose days and hours count, instead of the site's: an IANA name. Footfall's own.",
            },
        },
        "site_id",
        "metrics",
        "date_range",
    ),
    "definitions": {
        "metric": {"enum": list(names.METRICS)},
        "dimension": {"anyOf": [{"enum": [*names.DIMENSIONS, GOAL, *names.TIME]}, _PROP]},
        "date_range": {
            "anyOf": [
                {"enum": list(date_range.NAMED)},
                {"type": "string", "pattern": date_range.DAYS},
                {"type": "string", "pattern": date_range.MONTHS},
                *_PAIRS,
            ],
            "description": "Which time counts. 7d ends yesterday, 6mo with the last month.",
            "examples": ["day", "7d", ["2025-11-01", "2025-11-30"]],
        },
        "filter": _filter(_COLUMN, inner="filter", has_visits=True),
        "behaviour": _filter(_EVENT_COLUMN, inner="behaviour", has_visits=False),
    },
}
