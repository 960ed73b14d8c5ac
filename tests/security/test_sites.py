"""`collector.only_known_sites`: what is taken for whom, and what a refused client is told."""

import json
from collections.abc import Iterator

import httpx
import pytest

from harness import Footfall, eventually, write_settings

SITES = {
    "my-blog": {"domains": ["blog.example", "münchen.example"], "time_zone": "Europe/Berlin"},
    "app": {},
    "shop.example": {"domains": ["shop.example"]},
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Footfall]:
    """A Footfall that takes hits and events of `SITES` alone; each test looks at what it adds itself."""
    instance = Footfall(tmp_path_factory.mktemp("guarded"))
    write_settings(instance.directory, {"sites": SITES, "collector": {"only_known_sites": True}})
    yield instance.start()
    instance.kill()


class Account:
    """What a Footfall's ledger counts from now on."""

    def __init__(self, footfall: Footfall) -> None:
        self._footfall = footfall
        self._before = self._now()

    def _now(self) -> dict[str, int]:
        ledger = self._footfall.ledger()
        return {"received": ledger["received"], **ledger["refused"]}

    def added(self) -> dict[str, int]:
        return {name: count - self._before.get(name, 0) for name, count in self._now().items()}

    def becomes(self, **expected: int) -> None:
        """Wait until just this was added."""
        eventually(expected, lambda: {name: count for name, count in self.added().items() if count})


def track(footfall: Footfall, query: str, **headers: str) -> str | None:
    """A hit: whatever it is, the image is served. Why it was refused, if it was."""
    response = httpx.get(f"{footfall.url}/track{query}", headers=headers)
    assert (200, "image/gif", 43) == (response.status_code, response.headers["content-type"], len(response.content))
    refused: str | None = response.headers.get("x-footfall-refused")
    return refused


def post(footfall: Footfall, site_id: str, **headers: str) -> httpx.Response:
    return httpx.post(
        f"{footfall.url}/event", json={"site_id": site_id, "event_type": "page_view", "path": "/"}, headers=headers
    )


OWN_PAGES = [
    "https://blog.example/posts/1",
    "https://blog.example",
    "http://BLOG.example:8080/",
    "https://www.blog.example/",
    "https://a.b.blog.example./",
    "https://xn--mnchen-3ya.example/",
]
FOREIGN_PAGES = [
    "https://evil.example/",
    "https://evilblog.example/",
    "https://blog.example.evil.example/",
    "https://example/",
    "https://user@evil.example/blog.example",
    "https://evil.example/?https://blog.example/",
    "blog.example",
    "https://[blog.example/",
]


def test_a_site_is_counted_on_its_own_pages(guarded: Footfall) -> None:
    """A domain stands for itself and all below it, on any port and with any scheme."""
    account = Account(guarded)

    for page in OWN_PAGES:
        assert track(guarded, "?site_id=my-blog", Referer=page) is None
    statuses = {
        (name, page): post(guarded, "my-blog", **{name: page}).status_code
        for name in ("Origin", "Referer")
        for page in OWN_PAGES
    }

    assert dict.fromkeys(statuses, 202) == statuses
    account.becomes(received=3 * len(OWN_PAGES))


def test_a_foreign_page_can_not_count_for_a_site(guarded: Footfall) -> None:
    """Its hits and events are refused and counted, and its image is served all the same."""
    account = Account(guarded)

    for page in FOREIGN_PAGES:
        assert "foreign_origin" == track(guarded, "?site_id=my-blog", Referer=page)
    statuses = {page: post(guarded, "my-blog", Referer=page).status_code for page in FOREIGN_PAGES}

    assert dict.fromkeys(FOREIGN_PAGES, 403) == statuses
    account.becomes(foreign_origin=2 * len(FOREIGN_PAGES))


def test_a_refused_origin_explains_itself(guarded: Footfall) -> None:
    """The answer names the page's host, the site and the setting, and a browser lets the page read it."""
    account = Account(guarded)

    refused = post(guarded, "my-blog", Origin="https://staging.example", Referer="https://blog.example/")

    account.becomes(foreign_origin=1)
    assert (httpx.codes.FORBIDDEN, "application/problem+json", "*") == (
        refused.status_code,
        refused.headers["content-type"],
        refused.headers["access-control-allow-origin"],
    )
    detail = refused.json()["detail"]
    assert all(text in detail for text in ("staging.example", "my-blog", "domains"))


def test_the_snippet_is_for_a_site_that_is_taken(guarded: Footfall) -> None:
    """What is printed to be pasted works."""
    assert "/track?site_id=my-blog" in guarded.output()


def test_an_unknown_site_is_refused(guarded: Footfall) -> None:
    """The hit's image is served, the event's answer names the field and the setting, and both are counted."""
    account = Account(guarded)

    assert "unknown_site" == track(guarded, "?site_id=my-blgo", Referer="https://blog.example/")
    refused = post(guarded, "my-blgo", Origin="https://blog.example")

    account.becomes(unknown_site=2)
    assert httpx.codes.UNPROCESSABLE_ENTITY == refused.status_code
    [error] = refused.json()["errors"]
    assert ("site_id", True) == (error["field"], "my-blgo" in error["detail"] and "sites" in error["detail"])


def test_a_hit_without_a_site_id_counts_for_its_host(guarded: Footfall) -> None:
    """That host has to be a known site, too."""
    account = Account(guarded)

    track(guarded, "", Referer="https://shop.example/cart")
    track(guarded, "", Referer="https://other.example/")
    track(guarded, "")

    account.becomes(received=1, unknown_site=2)


def test_a_client_that_names_no_page_is_taken(guarded: Footfall) -> None:
    """Servers, apps and pages with `no-referrer` send neither header, or one that says nothing."""
    account = Account(guarded)

    for headers in ({}, {"Origin": "null"}, {"Referer": ""}, {"Referer": "about:blank"}):
        assert httpx.codes.ACCEPTED == post(guarded, "my-blog", **headers).status_code
        track(guarded, "?site_id=my-blog", **headers)

    account.becomes(received=8)


def test_a_site_without_domains_takes_any_page(guarded: Footfall) -> None:
    """Whoever lists none has said only that the site exists."""
    account = Account(guarded)

    assert httpx.codes.ACCEPTED == post(guarded, "app", Origin="https://anywhere.example").status_code

    account.becomes(received=1)


def test_each_of_many_events_is_held_against_its_own_site(guarded: Footfall) -> None:
    """Those that may be counted are; the answer says of each other one why it was not."""
    account = Account(guarded)
    events = [{"site_id": site_id, "event_type": "signup"} for site_id in ("app", "nobody", "my-blog", "shop.example")]

    answer = httpx.post(guarded.url + "/events", json=events, headers={"Origin": "https://shop.example"})

    account.becomes(received=2, unknown_site=1, foreign_origin=1)
    assert (httpx.codes.ACCEPTED, 2, [1, 2]) == (
        answer.status_code,
        answer.json()["accepted"],
        [refused["index"] for refused in answer.json()["refused"]],
    )
    assert "blog" in json.dumps(answer.json()["refused"][1])


def test_an_import_into_an_unknown_site_is_refused(guarded: Footfall) -> None:
    """Nothing is sent, and the text lists the sites that there are."""
    log = guarded.directory / "access.log"
    log.write_text('192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5 "-" "curl/8.0"\n')
    account = Account(guarded)

    refused = guarded.command("import", str(log), "--site-id", "my-blgo")

    assert (2, "") == (refused.returncode, refused.stdout)
    assert all(text in refused.stderr for text in ("my-blgo", "my-blog", "only_known_sites")), refused.stderr
    assert {} == {name: count for name, count in account.added().items() if count}
    assert 0 == guarded.command("import", str(log), "--site-id", "my-blog").returncode
    account.becomes(received=1)


def test_without_the_setting_sites_keep_nobody_out(footfall: Footfall) -> None:
    """`sites` alone says what is known of some, and an import into another one says that it is not among them."""
    write_settings(footfall.directory, {"sites": SITES})
    log = footfall.directory / "access.log"
    log.write_text('192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5 "-" "curl/8.0"\n')
    footfall.start()

    assert httpx.codes.ACCEPTED == post(footfall, "anything", Origin="https://evil.example").status_code
    assert httpx.codes.ACCEPTED == post(footfall, "my-blog", Origin="https://evil.example").status_code
    imported = footfall.command("import", str(log), "--site-id", "my-blgo")

    assert (0, True) == (imported.returncode, "my-blgo is not among the sites" in imported.stderr), imported.stderr
    Account(footfall).becomes()
    eventually(3, lambda: footfall.ledger()["received"])
