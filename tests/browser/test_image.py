"""The image in a page, as a browser loads it."""

import httpx
from playwright.sync_api import Page

from harness import Footfall, eventually
from website import Website


def _image(served: Footfall, site_id: str) -> str:
    return f'<img src="{served.url}/track?site_id={site_id}" referrerpolicy="no-referrer-when-downgrade" alt="">'


def test_view_of_each_page_is_counted_under_its_path(page: Page, website: Website, served: Footfall) -> None:
    """The image tells the page's path, and the view is counted once."""
    pages = {path: _image(served, "image") + '<a href="/two">two</a>' for path in ("/one", "/two")}
    website.clear(pages)

    page.goto(website.url("/one?from=mail"))
    page.click("a")
    page.wait_for_url("**/two")

    eventually([{"path": "/one", "views": 1}, {"path": "/two", "views": 1}], lambda: served.stats("image")["top_paths"])


def test_page_whose_policy_names_its_images_shows_nothing_to_the_visitor(
    page: Page, website: Website, served: Footfall
) -> None:
    """A strict content security policy needs to allow one host, and then the image is loaded without a complaint."""
    website.clear({"/": _image(served, "policy")}, Content_Security_Policy=f"default-src 'none'; img-src {served.url}")
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))

    with page.expect_response(f"{served.url}/track*") as loaded:
        page.goto(website.url())

    assert httpx.codes.OK == loaded.value.status
    eventually(1, lambda: served.stats("policy")["total_views"])
    assert [] == [text for text in complaints if served.url in text]
