"""Requests to the query API, for property tests: much of what one may look like, and some of what it may not."""

from typing import Any

from hypothesis import strategies as st

from footfall.web.query_api import names
from footfall.web.query_api.request import MODES

MINIMAL: dict[str, Any] = {"site_id": "site", "metrics": ["visitors"], "date_range": "7d"}

METRICS = st.sampled_from([*names.METRICS, "exit_rate", ""])
DIMENSIONS = st.sampled_from(
    [*names.DIMENSIONS, *names.TIME, "event:goal", "event:props:plan", "event:props:", "event:props:a\nb", "segment"]
)
DATES = st.sampled_from(
    [
        "day",
        "24h",
        "7d",
        "0d",
        "07d",
        "5000d",
        "5001d",
        "6mo",
        "101mo",
        "month",
        "year",
        "all",
        "week",
        "2025-11-12",
        "2025-02-30",
        "2025-11-12T09:30:00Z",
        "2025-11-12T09:30:00.5+05:45",
        "2025-11-12T09:30:00",
    ]
)
RANGES = DATES | st.lists(DATES, min_size=1, max_size=3)
CLAUSES = st.lists(st.sampled_from(["", "/", "x" * 2_049, "x" * 1_001, 7, True, None, 1.5]), max_size=2)
MODIFIERS = st.sampled_from([{}, {"case_sensitive": False}, {"case_sensitive": 1}, {"a": True}, None])
OPERATORS = st.sampled_from(
    [*names.OPERATORS, *names.PATTERN_OPERATORS, *names.BEHAVIOUR, "and", "or", "not", "matches_wildcard", 1]
)
LEAVES = st.tuples(OPERATORS, DIMENSIONS, CLAUSES).map(list) | st.tuples(OPERATORS, DIMENSIONS, CLAUSES, MODIFIERS).map(
    list
)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: (
        st.tuples(st.sampled_from(["and", "or", "not"]), st.lists(inner, max_size=2)).map(list)
        | st.tuples(st.sampled_from(["not", *names.BEHAVIOUR, "and"]), inner).map(list)
    ),
    max_leaves=4,
)
ORDERS = st.tuples(METRICS | DIMENSIONS, st.sampled_from(["asc", "desc", "up"])).map(list)
COMPARISONS = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from([*MODES, "x"]),
        "date_range": RANGES,
        "match_day_of_week": st.sampled_from([True, 1]),
    },
)
INCLUDES = st.fixed_dictionaries(
    {},
    optional={
        "imports": st.booleans(),
        "time_labels": st.booleans() | st.none(),
        "total_rows": st.booleans(),
        "comparisons": COMPARISONS,
        "other": st.booleans(),
    },
)
PAGES = st.fixed_dictionaries(
    {},
    optional={
        "limit": st.sampled_from([0, 1, 10_000, 10_001, True, "1"]),
        "offset": st.sampled_from([-1, 0, 1 << 31, False]),
    },
)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "site_id": st.sampled_from(["site", "", "s" * 129, 1]),
        "metrics": st.lists(METRICS, max_size=3),
        "date_range": RANGES,
        "dimensions": st.lists(DIMENSIONS, max_size=3),
        "filters": st.lists(FILTERS, max_size=2),
        "order_by": st.lists(ORDERS, max_size=2),
        "include": INCLUDES,
        "pagination": PAGES,
        "time_zone": st.sampled_from(["UTC", "", "z" * 65, None]),
        "other": st.none(),
    },
)
"""Much of what a request may look like, and some of what it may not."""
