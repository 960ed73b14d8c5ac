"""Who has done one thing after another, whichever database is asked: the same as the definition, in plain Python."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from figures import KINDS, MIDNIGHT, Row, figures_of
from figures import Figures as Database
from footfall.database.dimensions import PAGE
from footfall.database.filter import HasDone, Operator, Where
from footfall.database.query import Query

PATHS = ["/", "/a", "/b"]
NUMBERS = count()

ROWS = st.lists(
    st.builds(
        Row,
        path=st.sampled_from(PATHS),
        visitor=st.integers(1, 3),
        time=st.integers(0, 5).map(lambda minutes: MIDNIGHT + timedelta(minutes=minutes)),
    ),
    max_size=14,
)
STEPS = st.lists(st.lists(st.sampled_from(PATHS), min_size=1, max_size=2, unique=True), min_size=1, max_size=4)


def has_done(rows: Sequence[Row], steps: Sequence[Sequence[str]]) -> bool:
    """Whether events of one visitor fit the steps, each after that of the step before."""
    reached, before = None, list[str]()
    for step in steps:
        later = [
            row.time
            for row in rows
            if row.path in step
            and (reached is None or row.time > reached or (row.time == reached and row.path not in before))
        ]
        if not later:
            return False
        reached, before = min(later), list(step)
    return True


@pytest.fixture(params=KINDS, scope="module")
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """One database for many examples: each takes a site of its own."""
    with figures_of(request) as figures:
        yield figures


@settings(max_examples=40)
@given(rows=ROWS, steps=STEPS)
def test_steps_are_taken_in_their_order(database: Database, rows: list[Row], steps: list[list[str]]) -> None:
    """An event takes one step at most, and of those of one moment only another sort comes after."""
    site_id = f"funnel-{next(NUMBERS)}"
    database.add(*(replace(row, site_id=site_id) for row in rows))
    wheres = [Where(PAGE, Operator.IS, tuple(step)) for step in steps]
    end = MIDNIGHT + timedelta(minutes=5)  # what comes at the end does not count
    query = Query(
        site_id=site_id, metrics=("visitors",), filter=HasDone(wheres[0], tuple(wheres[1:])), start=MIDNIGHT, end=end
    )

    [[found]] = database.reports().answer([query])

    counted = [row for row in rows if row.time < end]
    visitors = {row.visitor for row in counted}
    assert (sum(has_done([row for row in counted if row.visitor == one], steps) for one in visitors),) == found.metrics
