"""What a page's address says, and what a view's address is."""

from datetime import date
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from footfall.database.buckets import Interval
from footfall.problem import Problem
from footfall.web.pages.address import DIMENSIONS, Filter, Match, View, view_of
from footfall.web.pages.span import Comparison, Period

texts = st.text(st.characters(codec="utf-8"), max_size=50)
filters = st.builds(
    Filter,
    st.sampled_from([*DIMENSIONS, "prop.plan", "prop.größe"]),
    st.sampled_from(Match),
    st.lists(texts, min_size=1, max_size=3).map(tuple),
)
days = st.none() | st.dates(date(1971, 1, 1), date(9000, 1, 1))
views = st.builds(
    View,
    period=st.sampled_from([period for period in Period if period is not Period.CUSTOM]),
    day=days,
    comparison=st.sampled_from(Comparison),
    metric=st.none() | st.sampled_from(["visits", "pageviews"]),
    interval=st.none() | st.sampled_from(Interval),
    tabs=st.lists(st.sampled_from(["channels", "cities"]), max_size=2, unique=True).map(tuple),
    has_bots=st.booleans(),
    filters=st.lists(filters, max_size=4, unique_by=lambda one: (one.name, one.match)).map(tuple),
)


@given(views)
def test_an_address_says_all_that_a_view_shows(view: View) -> None:
    """Whoever opens the address of a view sees that view."""
    assert view_of(parse_qsl(view.query.removeprefix("?"), keep_blank_values=True)) == view


def test_an_address_can_be_read_by_a_person() -> None:
    """Its parameters are words, and the characters of paths stand as they are."""
    view = View(period=Period.DAYS_7).with_filter("page", "/blog/a b").with_filter("source", "Hacker News")

    assert view.query == "?period=7d&page=/blog/a%20b&source=Hacker%20News"


def test_the_view_that_a_page_has_by_itself_has_a_bare_address() -> None:
    """Nothing is said that needs not be said."""
    assert View().query == ""


def test_a_filter_takes_the_place_of_one_of_the_same_name() -> None:
    """A click on another row shows that row, and a filter that was removed is gone."""
    view = View().with_filter("page", "/a").with_filter("page", "/b")

    assert view.filters == (Filter("page", Match.IS, ("/b",)),)
    assert view.without_filter(view.filters[0]) == View()


def test_a_panel_shows_one_of_its_tabs() -> None:
    """A tab that is chosen takes the place of another one of its panel, and of no other panel's."""
    view = View(tabs=("channels", "cities")).with_tab("referrers", ["sources", "channels", "referrers"])

    assert view.tabs == ("cities", "referrers")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("period=week", "period"),
        ("date=25.11.2026", "date"),
        ("date=0001-01-01", "date"),
        ("period=custom&from=2026-11-01", "from"),
        ("period=custom&from=2026-11-02&to=2026-11-01", "from"),
        ("compare=maybe", "compare"),
        ("interval=decade", "interval"),
        ("pgae=/", "pgae"),
        ("page=" + "x" * 2_049, "page"),
        ("&".join(f"page=/{number}" for number in range(21)), "filters"),
    ],
)
def test_a_wrong_parameter_is_named(query: str, field: str) -> None:
    """An address that asks for what there is not is refused with the name of the parameter."""
    with pytest.raises(Problem) as refused:
        view_of(parse_qsl(query))

    assert (refused.value.status, [error.field for error in refused.value.field_errors]) == (422, [field])
