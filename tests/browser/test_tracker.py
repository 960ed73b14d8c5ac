"""The tracker, `/script.js`, in pages that a browser shows: each view is in the database exactly once."""

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest
from playwright.sync_api import Page, Route

from harness import Footfall, eventually
from website import Website

NEWS = "https://news.example/today"


def tag(footfall: Footfall, site_id: str, attributes: str = "") -> str:
    return f'<script defer src="{footfall.url}/script.js" data-site="{site_id}" {attributes}></script>'


def views(footfall: Footfall, site_id: str) -> dict[str, int]:
    return {page["path"]: page["views"] for page in footfall.stats(site_id)["top_paths"]}


def rows(footfall: Footfall, site_id: str) -> list[dict[str, Any]]:
    """What is in the database, in the order in which it came; Footfall is stopped for it."""
    footfall.settle()
    assert 0 == footfall.stop()
    with duckdb.connect(footfall.data_dir / "footfall.duckdb", read_only=True) as database:
        found = database.execute("SELECT * FROM events WHERE site_id = ? ORDER BY time", [site_id])
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Footfall]:
    """A Footfall of the test's own, which it may stop."""
    instance = Footfall(tmp_path).start()
    yield instance
    instance.kill()


def test_each_page_of_a_visit_is_counted_once(page: Page, website: Website, started: Footfall) -> None:
    """Also one that comes out of the back/forward cache; only the first one has a referrer."""
    website.clear({path: tag(started, "visit") + '<a href="/two">two</a>' for path in ("/one", "/two")})

    page.goto(website.url("/one?utm_source=mail"), referer=NEWS)
    eventually({"/one": 1}, lambda: views(started, "visit"))
    page.click("a")
    eventually({"/one": 1, "/two": 1}, lambda: views(started, "visit"))
    page.evaluate("setTimeout(() => history.back())")
    eventually({"/one": 2, "/two": 1}, lambda: views(started, "visit"))
    page.evaluate("setTimeout(() => history.forward())")
    eventually({"/one": 2, "/two": 2}, lambda: views(started, "visit"))

    counted = [row for row in rows(started, "visit") if row["event_type"] == "page_view"]
    assert [("/one", NEWS), ("/two", None), ("/one", None), ("/two", None)] == [
        (row["path"], row["referrer"]) for row in counted
    ]
    assert ["/one?utm_source=mail", "/two"] == website.asked  # the others came out of the cache
    assert {("site.example", "en-US")} == {(row["hostname"], row["language"]) for row in counted}
    assert "mail" == counted[0]["utm_source"]


def test_navigation_within_a_page_counts_when_its_path_changes(page: Page, website: Website, served: Footfall) -> None:
    """By pushing, replacing and going back; a query or a place in the page makes no view, the route of a hash does."""
    website.clear({"/app": tag(served, "app")})
    page.goto(website.url("/app"))
    eventually({"/app": 1}, lambda: views(served, "app"))

    page.evaluate(
        """async () => {
            history.pushState(null, "", "/app/list");
            history.pushState(null, "", "/app/list?sort=name");
            history.replaceState(null, "", "/app/list?sort=date#top");
            history.replaceState(null, "", "/app/item");
            const moved = new Promise((resolve) => addEventListener("popstate", resolve, { once: true }));
            history.back();
            await moved;
            location.hash = "#/settings?tab=2";
        }"""
    )

    expected = {"/app": 1, "/app/item": 1, "/app/list": 2, "/app/list#/settings": 1}
    eventually(expected, lambda: views(served, "app"))


def test_views_without_a_network_are_counted_when_it_is_back(page: Page, website: Website, served: Footfall) -> None:
    """Each of them once."""
    website.clear({"/": tag(served, "offline")})
    page.goto(website.url())
    eventually({"/": 1}, lambda: views(served, "offline"))

    page.context.set_offline(True)
    page.evaluate("for (const path of ['/a', '/b', '/a']) history.pushState(null, '', path)")
    page.context.set_offline(False)

    eventually({"/": 1, "/a": 2, "/b": 1}, lambda: views(served, "offline"))


def test_server_that_is_killed_and_started_again_has_each_view_once(
    page: Page, website: Website, started: Footfall
) -> None:
    """The page sends what failed again, with the same id."""
    website.clear({"/": tag(started, "killed")})
    page.goto(website.url())
    eventually({"/": 1}, lambda: views(started, "killed"))

    started.kill()
    page.evaluate("for (const path of ['/a', '/b']) history.pushState(null, '', path)")
    started.start()
    page.evaluate("history.pushState(null, '', '/c')")

    eventually({"/": 1, "/a": 1, "/b": 1, "/c": 1}, lambda: views(started, "killed"), timeout_s=60)
    started.settle()
    assert {"/": 1, "/a": 1, "/b": 1, "/c": 1} == views(started, "killed")


def test_view_whose_answer_is_lost_counts_once(page: Page, website: Website, served: Footfall) -> None:
    """The page can't know that it was counted, and sends it again; the server knows its id."""

    def duplicates() -> int:
        return int(served.ledger()["sinks"]["database"]["skipped"].get("duplicate", 0))

    website.clear({"/": tag(served, "answer")})
    ids: list[str] = []

    def lose_first_answer(route: Route) -> None:
        assert route.request.post_data is not None
        ids.append(json.loads(route.request.post_data)["event_id"])
        if len(ids) == 1:
            route.fetch()
            route.abort()
        else:
            route.continue_()

    served.settle()
    before = duplicates()  # a test before this one lost a network, and perhaps an answer
    page.route("**/event", lose_first_answer)
    with page.expect_response("**/event"):
        page.goto(website.url())

    eventually(before + 1, duplicates, timeout_s=30)
    assert ids[0] == ids[1]
    assert {"/": 1} == views(served, "answer")


def test_closing_a_tab_tells_how_long_and_how_far_it_was_read(page: Page, website: Website, started: Footfall) -> None:
    """Once for each of two tabs, of which one was scrolled to its end."""
    text = '<!doctype html><body style="margin: 0"><div style="height: 2880px">long</div>'
    website.clear({path: text + tag(started, "tabs") for path in ("/read", "/glanced")})
    other = page.context.new_page()
    page.clock.install()  # of both tabs
    page.goto(website.url("/read"))
    other.goto(website.url("/glanced"))
    eventually({"/glanced": 1, "/read": 1}, lambda: views(started, "tabs"))

    page.evaluate("new Promise((done) => { addEventListener('scroll', done, {once: true}); scrollTo(0, 9999) })")
    page.evaluate("scrollTo(0, 0)")
    page.clock.fast_forward("10:00")
    for tab in (page, other):
        tab.close(run_before_unload=True)
    eventually(4, lambda: started.ledger()["sinks"]["database"]["written"])

    told = {row["path"]: row for row in rows(started, "tabs") if row["event_type"] == "engagement"}
    assert {"/glanced": 25, "/read": 100} == {path: row["scroll_depth"] for path, row in told.items()}
    assert all(600_000 <= row["engaged_ms"] < 660_000 for row in told.values())


def test_clicks_and_events_are_told_with_their_properties(page: Page, website: Website, started: Footfall) -> None:
    """Links that lead away, files, marked elements, and what scripts tell, even before the tracker is there."""
    links = """
        <script>
            window.footfall = function () { (footfall.q = footfall.q || []).push(arguments) };
            footfall("early");
        </script>
        <a id="out" href="http://other.example:1/a?token=1">out</a>
        <a id="file" href="/files/report.PDF?v=1">file</a>
        <a id="in" href="#there">in</a>
        <button data-footfall-event="Sign up" data-footfall-event-plan="pro"><b id="marked">go</b></button>
        <script>addEventListener("click", (event) => event.preventDefault())</script>"""
    website.clear({"/": links + tag(started, "clicks")})
    page.goto(website.url())
    for element in ("#out", "#file", "#in", "#marked"):
        page.click(element)
    page.evaluate("footfall('purchase', {seats: 3, trial: false}, {user_id: 'user-42', interactive: false})")
    eventually(6, lambda: started.ledger()["sinks"]["database"]["written"])

    told = [row for row in rows(started, "clicks") if row["event_type"] != "engagement"]
    assert [
        ("Sign up", {"plan": "pro"}),
        ("early", None),
        ("file_download", {"url": website.url("/files/report.PDF")}),
        ("outbound_link", {"url": "http://other.example:1/a"}),
        ("page_view", None),
        ("purchase", {"seats": 3, "trial": False}),
    ] == sorted(((row["event_type"], json.loads(row["props"] or "null")) for row in told), key=lambda row: row[0])


@pytest.mark.parametrize(
    ("skip", "signal"),
    [
        ("gpc dnt", "Object.defineProperty(navigator, 'globalPrivacyControl', {value: true})"),
        ("dnt", "Object.defineProperty(navigator, 'doNotTrack', {value: '1'})"),
        ("localhost site.example", ""),
        ("page_view engagement", ""),
    ],
)
def test_what_is_skipped_is_not_counted(page: Page, website: Website, served: Footfall, skip: str, signal: str) -> None:
    """By the wish of the visitor, by host, or by kind; other pages of the same visitor are counted."""
    site_id = f"skip {skip}"
    website.clear({"/skipped": tag(served, site_id, f'data-skip="{skip}"'), "/counted": tag(served, site_id)})
    page.add_init_script(signal)

    page.goto(website.url("/skipped"))
    page.evaluate("typeof footfall == 'function' || fail()")
    page.goto(website.url("/counted"))

    eventually({"/counted": 1}, lambda: views(served, site_id))


def test_printed_snippet_counts(page: Page, website: Website, served: Footfall) -> None:
    """What the start prints can be pasted as it is."""
    [snippet] = [line for line in served.output().splitlines() if "<script" in line]
    website.clear({"/": snippet})
    page.goto(website.url())
    eventually({"/": 1}, lambda: views(served, "my-site"))


def test_script_that_is_in_a_page_twice_counts_once(page: Page, website: Website, served: Footfall) -> None:
    """Its template and its content management system may both have brought it."""
    website.clear({"/": tag(served, "twice") * 2, "/next": tag(served, "twice")})
    page.goto(website.url())
    page.goto(website.url("/next"))
    eventually({"/": 1, "/next": 1}, lambda: views(served, "twice"))


def test_strict_policy_with_integrity_needs_to_name_the_server_only(
    page: Page, website: Website, served: Footfall
) -> None:
    """No inline code, no evaluation, nothing from elsewhere; and the bytes are what the page says."""
    script = httpx.get(f"{served.url}/script.js").content
    integrity = f"sha384-{base64.b64encode(hashlib.sha384(script).digest()).decode()}"
    website.clear(
        {"/": tag(served, "strict", f'integrity="{integrity}" crossorigin')},
        Content_Security_Policy=f"default-src 'none'; script-src {served.url}; connect-src {served.url}",
    )
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(website.url())

    eventually({"/": 1}, lambda: views(served, "strict"))
    assert [] == [text for text in complaints if served.url in text]
    assert [] == page.context.cookies()
    assert 0 == page.evaluate("localStorage.length + sessionStorage.length")
