"""Events that a page sends itself, as a browser sends them."""

from playwright.sync_api import Page

from harness import Footfall, eventually
from website import Website

EVENT = '{site_id: "%s", event_type: "page_view", path: location.pathname, referrer: document.referrer}'
SENT = {
    "beacon": "navigator.sendBeacon(url, JSON.stringify(event))",
    "beacon-text": "navigator.sendBeacon(url, new Blob([JSON.stringify(event)], {type: 'text/plain'}))",
    "fetch": "fetch(url, {method: 'POST', keepalive: true, body: JSON.stringify(event)})",
    "fetch-json": "fetch(url, {method: 'POST', headers: {'Content-Type': 'application/json'}, "
    "body: JSON.stringify(event)})",
}
"""By site: the ways that docs/api.md says work."""
NOT_SENT = "navigator.sendBeacon(url, new Blob([JSON.stringify(event)], {type: 'application/json'}))"


def _script(served: Footfall, site_id: str, call: str) -> str:
    return f"const url = '{served.url}/event'; const event = {EVENT % site_id}; {call};"


def test_the_documented_ways_to_send_an_event_work(page: Page, website: Website, served: Footfall) -> None:
    """From a page of another origin; also while the page is being closed."""
    website.clear({"/shop": "<title>Shop</title>"})
    page.goto(website.url("/shop"))

    for site_id, call in SENT.items():
        page.evaluate(f"() => {{ {_script(served, site_id, call)} }}")
    closing = _script(served, "closing", SENT["beacon"])
    page.evaluate(f"() => {{ addEventListener('pagehide', () => {{ {closing} }}) }}")
    page.goto("about:blank")

    sites = (*SENT, "closing")
    expected = {key: [{"path": "/shop", "views": 1}] for key in sites}
    eventually(expected, lambda: {site_id: served.stats(site_id)["top_paths"] for site_id in sites})


def test_a_beacon_that_asks_for_cookies_is_not_sent(page: Page, website: Website, served: Footfall) -> None:
    """For a blob of JSON, a browser asks to send cookies, which are not allowed; docs/api.md warns of it."""
    website.clear({"/": ""})
    page.goto(website.url())

    with page.expect_event("requestfailed") as failed:
        page.evaluate(f"() => {{ {_script(served, 'blob', NOT_SENT)} }}")

    assert f"{served.url}/event" == failed.value.url
    assert 0 == served.stats("blob")["total_views"]
