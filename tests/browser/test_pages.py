"""The pages, as a person sees them in a browser."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from harness import Footfall, write_settings

VISITS = [
    ("ada", "/", "https://news.ycombinator.com/item?id=1"),
    ("ada", "/pricing", None),
    ("ben", "/", "https://www.google.com/"),
    ("cem", "/docs", None),
]


@pytest.fixture(scope="module")
def shop(served: Footfall) -> str:
    """The address of a site with three visitors today, one of whom saw two pages."""
    now = datetime.now(UTC)
    for number, (user_id, path, referrer) in enumerate(VISITS):
        moment = (now - timedelta(seconds=60 - number)).isoformat()
        served.post(
            site_id="shop", event_type="page_view", user_id=user_id, path=path, referrer=referrer, timestamp=moment
        ).raise_for_status()
    served.settle()
    return f"{served.url}/sites/shop"


def test_the_first_hit_is_told_while_the_page_is_open(page: Page, tmp_path: Path) -> None:
    """A newcomer reads how to begin, and sees the site as soon as its first hit is there, without a reload."""
    footfall = Footfall(tmp_path).start()
    try:
        page.goto(footfall.url)
        expect(page.get_by_role("heading", name="Nobody has called yet")).to_be_visible()
        expect(page.locator("pre").first).to_contain_text(f"{footfall.url}/script.js")
        expect(page.locator("pre").last).to_contain_text('referrerpolicy="no-referrer-when-downgrade"')

        httpx.get(f"{footfall.url}/track?site_id=my-site").raise_for_status()

        expect(page.get_by_role("link", name="my-site")).to_be_visible()
    finally:
        footfall.kill()


def test_a_site_shows_its_figures_and_what_makes_them_up(page: Page, shop: str) -> None:
    """Visitors, visits and views of today, the pages that were seen, and where the visitors came from."""
    page.goto(f"{shop}?period=24h")

    figures = page.locator(".figures")
    expect(figures.get_by_role("link", name="Visitors")).to_contain_text("3")
    expect(figures.get_by_role("link", name="Views 4")).to_be_visible()
    expect(page.locator("#pages tbody tr").first).to_contain_text("/")
    expect(page.locator("#sources")).to_contain_text("Hacker News")


def test_a_click_on_a_row_filters_everything_and_back_undoes_it(page: Page, shop: str) -> None:
    """The filter stands in the address and as a chip; the back button, or a click on the chip, takes it away."""
    page.goto(f"{shop}?period=24h")
    visitors = page.locator(".figures li").first

    page.locator("#sources").get_by_role("link", name="Hacker News").click()

    expect(page.locator(".chips")).to_contain_text("Hacker News")
    expect(visitors).to_contain_text("1")
    assert page.url == f"{shop}?period=24h&source=Hacker%20News"

    page.go_back()
    expect(visitors).to_contain_text("3")
    page.go_forward()
    expect(visitors).to_contain_text("1")
    page.locator(".chips a").first.click()
    expect(visitors).to_contain_text("3")


def test_whoever_tries_it_with_curl_is_told_where_the_hit_is(page: Page, served: Footfall) -> None:
    """A hit of a program is a bot's, which the page leaves out; where there are only such hits, it says so."""
    httpx.get(f"{served.url}/track?site_id=tried", headers={"User-Agent": "curl/8.14.1"}).raise_for_status()
    served.settle()
    page.goto(f"{served.url}/sites/tried")
    visitors = page.locator(".figures li").first
    expect(visitors).to_contain_text("0")

    page.get_by_role("note").get_by_role("link", name="Count bots as well").click()

    expect(visitors).to_contain_text("1")
    expect(page.get_by_role("note")).to_have_count(0)


def test_a_shared_address_shows_the_same(page: Page, shop: str) -> None:
    """Whoever opens the address of a filtered view sees that view."""
    page.goto(f"{shop}?period=24h&page=/docs&tab=entry-pages")

    expect(page.locator(".figures li").first).to_contain_text("1")
    expect(page.locator("#pages")).to_contain_text("Entry pages")


def test_the_page_works_without_scripts(page: Page, shop: str) -> None:
    """Filters, tabs and lists are links, and the chart has its table."""
    context = page.context.browser.new_context(java_script_enabled=False)  # type: ignore[union-attr] # it has one
    plain = context.new_page()
    plain.goto(f"{shop}?period=24h")

    plain.locator("#sources").get_by_role("link", name="Hacker News").click()
    expect(plain.locator(".figures li").first).to_contain_text("1")
    plain.locator("#pages").get_by_role("link", name="All pages").click()
    expect(plain.get_by_role("row", name="/pricing")).to_be_visible()
    context.close()


def test_the_chart_is_read_with_the_keyboard(page: Page, shop: str) -> None:
    """An arrow key shows the figures of a point, and the one before it."""
    page.goto(f"{shop}?period=24h")
    page.locator("[data-chart]").focus()

    page.keyboard.press("ArrowLeft")
    tip = page.locator(".tip")
    expect(tip).to_contain_text("3")
    page.keyboard.press("ArrowLeft")
    expect(tip).to_contain_text("0")


def test_somebody_who_sees_nothing_is_led_to_what_there_is(page: Page, served: Footfall) -> None:
    """A site whose events are all old says so, and one click shows them."""
    old = {"site_id": "old", "event_type": "page_view", "path": "/", "timestamp": "2015-05-20T12:00:00Z"}
    served.post(**old).raise_for_status()
    served.settle()
    page.goto(f"{served.url}/sites/old")
    expect(page.get_by_text("first event is of 2015-05-20")).to_be_visible()

    page.get_by_role("link", name="Show all time").click()

    expect(page.locator(".figures li").first).to_contain_text("1")


def test_goals_are_counted_and_filter(page: Page, tmp_path: Path) -> None:
    """A goal of the settings is a row with its share of visitors, and a click shows who reached it."""
    footfall = Footfall(tmp_path)
    write_settings(tmp_path, {"sites": {"shop": {"goals": [{"name": "Sign-up", "event": "Signup"}]}}})
    footfall.start()
    try:
        for user_id, event_type in (("ada", "page_view"), ("ada", "Signup"), ("ben", "page_view")):
            footfall.post(site_id="shop", event_type=event_type, user_id=user_id, path="/").raise_for_status()
        footfall.settle()
        page.goto(f"{footfall.url}/sites/shop")

        row = page.get_by_role("row", name="Sign-up")
        expect(row).to_contain_text("50%")
        row.get_by_role("link").click()

        expect(page.locator(".figures li").first).to_contain_text("1")
    finally:
        footfall.kill()


def test_tabs_that_nobody_sees_keep_no_other_waiting(page: Page, shop: str) -> None:
    """A browser has six connections to a server, so six tabs with a stream each would be all that can be opened."""
    tabs = [page, *(page.context.new_page() for _ in range(6))]
    for tab in tabs:
        tab.add_init_script("Object.defineProperty(document, 'hidden', {get: () => !window.isSeen})")
        tab.goto(f"{shop}?period=24h")

    with page.expect_request("**/sites/shop/live"):
        page.evaluate("isSeen = true; document.dispatchEvent(new Event('visibilitychange'))")


def test_a_list_is_searched_and_sorted(page: Page, shop: str) -> None:
    """The whole list of pages finds what has a text in it, in upper or lower case."""
    page.goto(f"{shop}/lists/pages?period=24h")
    expect(page.locator("tbody tr")).to_have_count(3)

    page.get_by_role("searchbox").fill("PRIC")
    page.keyboard.press("Enter")

    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody")).to_contain_text("/pricing")


@pytest.mark.parametrize("site_id", ["<script>alert(1)</script>", "a/b?c#d", "שלום", "👣" * 60, "%2e%2e", "x" * 128])
def test_any_site_id_has_a_page(page: Page, served: Footfall, site_id: str) -> None:
    """Whatever a site is called, its card leads to its page, and its name is text."""
    path = "/" + "long" * 500
    served.post(site_id=site_id, event_type="page_view", path=path).raise_for_status()
    served.settle()

    page.goto(served.url)
    page.get_by_role("link", name=site_id).click()

    expect(page.get_by_role("heading", level=1)).to_have_text(site_id)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_what_is_wrong_with_an_address_is_told_on_a_page(page: Page, shop: str) -> None:
    """A person who mistypes an address reads which parameter it is."""
    answer = page.goto(f"{shop}?period=fortnight")

    assert answer is not None
    assert answer.status == 422
    expect(page.get_by_role("main")).to_contain_text("period must be one of")


def test_the_system_page_accounts_for_every_hit(page: Page, served: Footfall, shop: str) -> None:  # noqa: ARG001
    """What was received and written is the ledger's, and the claim is made only where it holds."""
    page.goto(f"{served.url}/system")

    expect(page.locator("#verdict")).to_contain_text("Nothing that was accepted is lost")
    expect(page.get_by_role("main")).to_contain_text(f"Received: {served.ledger()['received']:,} hits and events")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Footfall]:
    """A service that strangers may reach, so that it has a token."""
    footfall = Footfall(tmp_path_factory.mktemp("guarded"), FOOTFALL__REPORTING__TOKEN="open-sesame-and-more")
    yield footfall.start()
    footfall.kill()


def test_a_person_logs_in_with_the_token_and_out_again(page: Page, guarded: Footfall) -> None:
    """The page that was asked for comes after the right token, not after a wrong one, and not after logging out."""
    page.goto(f"{guarded.url}/system")
    page.get_by_label("Token").fill("open-sesame-or-less")
    page.get_by_role("button").click()
    expect(page.get_by_role("alert")).to_contain_text("not the token")

    page.goto(f"{guarded.url}/system")
    page.get_by_label("Token").fill("open-sesame-and-more")
    page.get_by_role("button").click()
    expect(page.locator("#verdict")).to_be_visible()
    assert page.url == f"{guarded.url}/system"

    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Token")).to_be_visible()


def test_programs_are_told_of_the_token(guarded: Footfall) -> None:
    """A client that does not ask for HTML gets a problem, and no form."""
    answer = httpx.get(f"{guarded.url}/", headers={"Accept": "*/*"})

    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
