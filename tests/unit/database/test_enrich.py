"""Hits and events as a database keeps them: sites, pages, visitors, sources and browsers."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from footfall.database.enrich import SALT_BYTES, Skip, enrich, enrich_again
from footfall.database.page import page_of
from footfall.database.schema import NAMES
from footfall.entry import Entry, Event, Hit
from footfall.settings import DatabaseSettings

NOON = datetime(2025, 11, 12, 12, 0, 0, 250_000)  # noqa: DTZ001 - rows hold UTC without saying so
NOON_NS = int(NOON.replace(tzinfo=UTC).timestamp() * 1_000) * 1_000_000
UTM = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")
NOTHING_ELSE = dict.fromkeys(NAMES[NAMES.index("hostname") :])
DAY_NS = 24 * 60 * 60 * 1_000_000_000
TODAY = NOON_NS // DAY_NS
SALTS = {TODAY + days: bytes([days]) * SALT_BYTES for days in range(10)}
CHROME = (
    b"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
)


def hit(
    referrer: bytes = b"",
    *,
    received_ns: int = NOON_NS,
    address: str | None = "203.0.113.7",
    user_agent: bytes = CHROME,
    site_id: str | None = "my-blog",
    path: str | None = None,
    user_id: str | None = None,
    host: str | None = None,
) -> Hit:
    return Hit(received_ns, address, referrer, user_agent, site_id, path, user_id, host)


def row_of(entry: Entry, salts: dict[int, bytes] = SALTS) -> dict[str, Any]:
    row = enrich(entry, salts)
    assert not isinstance(row, Skip)
    return dict(zip(NAMES, row, strict=True))


def visitor_of(entry: Entry, salts: dict[int, bytes] = SALTS) -> int:
    visitor: int = row_of(entry, salts)["visitor"]
    return visitor


def test_a_hit_becomes_a_page_view_with_all_that_its_headers_tell() -> None:
    """What the query said is kept, the rest is read from the headers."""
    entry = hit(b"https://news.example/item?id=1", site_id="my-blog", path="/about", user_id="user-42")

    row = row_of(entry)

    assert {
        "time": NOON.replace(microsecond=0),
        "site_id": "my-blog",
        "event_type": "page_view",
        "path": "/about",
        "visitor": row["visitor"],
        "user_id": "user-42",
        "referrer": "https://news.example/item",
        "source": None,
        "browser": "Chrome",
        "os": "Windows",
        "device": "desktop",
        "props": None,
        **dict.fromkeys(UTM),
        **NOTHING_ELSE,
        "hostname": "news.example",
        "browser_version": "142",
        "os_version": "10",
        "user_agent": CHROME.decode(),
    } == row


@pytest.mark.parametrize("received_ns", [0, 1, 999_999_999])
def test_of_the_time_of_receipt_the_second_is_kept(received_ns: int) -> None:
    """More would lead from a row to a line of the visits log, and from there to an address."""
    second = datetime(2025, 11, 12, 12)  # noqa: DTZ001 - databases hold UTC without saying so
    received_ns += int(second.replace(tzinfo=UTC).timestamp()) * 1_000_000_000

    assert second == row_of(hit(received_ns=received_ns))["time"]
    assert second == row_of(Event(received_ns, "203.0.113.7", CHROME, "my-blog", "signup"))["time"]


def test_an_event_keeps_its_own_time_type_and_props() -> None:
    """An event's timestamp is its time, whenever it came in; props become JSON."""
    entry = Event(
        NOON_NS,
        "203.0.113.7",
        CHROME,
        "my-blog",
        "signup",
        path="/join",
        occurred_us=NOON_NS // 1_000 + 1,
        referrer="https://my-blog/",
        props={"plan": "free", "näive": True},
        host="my-blog.example",
        screen_width=1_280,
        language="pt_br",
        scroll_depth=80,
        engaged_ms=12_500,
        interactive=False,
    )

    row = row_of(entry)

    assert {
        "time": NOON.replace(microsecond=250_001),
        "site_id": "my-blog",
        "event_type": "signup",
        "path": "/join",
        "visitor": row["visitor"],
        "user_id": None,
        "referrer": "https://my-blog/",
        "source": None,
        "browser": "Chrome",
        "os": "Windows",
        "device": "desktop",
        "props": '{"plan":"free","näive":true}',
        **dict.fromkeys(UTM),
        **NOTHING_ELSE,
        "hostname": "my-blog.example",
        "browser_version": "142",
        "os_version": "10",
        "user_agent": CHROME.decode(),
        "screen": "laptop",
        "language": "pt-BR",
        "scroll_depth": 80,
        "engaged_ms": 12_500,
        "is_interactive": False,
    } == row


@pytest.mark.parametrize("site_id", [None, ""])
@pytest.mark.parametrize(
    ("referrer", "host", "path"),
    [
        (b"https://example.com", "example.com", "/"),
        (b"https://WWW.Example.com:8443/pricing?plan=free#top", "www.example.com", "/pricing"),
        (b"http://user:password@example.com/a/b/", "example.com", "/a/b/"),
        (b"http://[2001:db8::1]:8000/x", "2001:db8::1", "/x"),
        ("https://bücher.example/straße".encode(), "bücher.example", "/straße"),
    ],
)
def test_a_hit_that_names_no_site_belongs_to_its_referrer(
    site_id: str | None, referrer: bytes, host: str, path: str
) -> None:
    """The host is taken in lower case and without a port, the path without its query."""
    row = row_of(hit(referrer, site_id=site_id))

    assert (host, path, None) == (row["site_id"], row["path"], row["source"])


@pytest.mark.parametrize(
    "referrer", [b"", b"about:blank", b"example.com/page", b"https://", b"http://[", b"file:///tmp/x.html", b"\xff\x00"]
)
def test_a_hit_without_site_or_host_is_skipped(referrer: bytes) -> None:
    """A page that can't be told has no place in anybody's figures."""
    assert Skip.NO_SITE is enrich(hit(referrer, site_id=None), SALTS)


def test_a_hit_whose_site_is_too_long_is_skipped() -> None:
    """128 characters is the longest site id, wherever it comes from."""
    assert "é" * 128 == row_of(hit(site_id="é" * 128))["site_id"]
    assert Skip.SITE_ID_TOO_LONG is enrich(hit(site_id="é" * 129), SALTS)
    assert Skip.SITE_ID_TOO_LONG is enrich(hit(b"https://" + b"a" * 129 + b"/", site_id=None), SALTS)


def test_long_values_of_a_hit_are_cut() -> None:
    """Nobody checked a hit's values: path and referrer are cut at 2,048 characters."""
    row = row_of(hit("https://x.example/é".encode() + "😀".encode() * 5_000, path="/" + "é" * 5_000))

    assert ("/" + "é" * 2_047, ("https://x.example/é" + "😀" * 5_000)[:2_048]) == (row["path"], row["referrer"])


def test_the_path_of_a_hit_with_a_site_is_the_referrers_when_none_is_given() -> None:
    """The page that shows the image is the page that was viewed."""
    assert "/post-1" == row_of(hit(b"https://blog.example/post-1?x=1"))["path"]
    assert "/" == row_of(hit(b""))["path"]


@pytest.mark.parametrize(
    ("written", "page"),
    [
        ("/pricing", "/pricing"),
        ("pricing", "/pricing"),
        ("/pricing?plan=team#top", "/pricing"),
        ("https://example.com/x?y#z", "/x"),
        ("HTTPS://user@example.com:8443", "/"),
        ("https://example.com?x=/y", "/"),
        ("?page=2", "/"),
        ("#top", "/"),
        (" /pricing\n", "/pricing"),
        ("/Pricing/", "/Pricing/"),
        ("/caf%C3%A9", "/caf%C3%A9"),
        ("//double", "//double"),
        ("/go/https://other.example/x", "/go/https://other.example/x"),
    ],
)
def test_a_page_has_one_path_however_it_is_written(written: str, page: str) -> None:
    """Scheme, host, query and fragment are off, and a slash is before it: for hits, imported lines and events alike."""
    entries: list[Entry] = [
        hit(path=written),
        hit(path=written, host=""),
        Event(NOON_NS, None, b"", "my-blog", "page_view", path=written),
        Event(NOON_NS, None, b"", "my-blog", "signup", path=written),
    ]

    assert [page] * 4 == [row_of(entry)["path"] for entry in entries]


@pytest.mark.parametrize(
    ("written", "page"),
    [
        ("/item?id=7#top", "/item?id=7"),
        ("https://example.com/item?id=7&UTM_source=mail&lang=de", "/item?id=7&lang=de"),
        ("/item?utm_source=mail&utm_campaign=may", "/item"),
        ("/item?", "/item"),
        ("item?id=7", "/item?id=7"),
    ],
)
def test_queries_can_tell_pages_apart(written: str, page: str) -> None:
    """`database.path_queries` = `keep` is for sites such as `/item?id=7`; a campaign makes no page of its own."""
    keep = DatabaseSettings(path_queries="keep")
    of_hits = [enrich(entry, SALTS, keep) for entry in (hit(path=written), hit(b"https://example.com/" + b"item?id=7"))]

    assert [page, "/item?id=7"] == [row[NAMES.index("path")] for row in of_hits if not isinstance(row, Skip)]


CAMPAIGN = "utm_source=mail&UTM_Medium=news+letter&x=1&utm_campaign=m%C3%A4rz&utm_term=&utm_source=second"
NEWSLETTER = ("mail", "news letter", "märz", None, None)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(
    "entry",
    [
        hit(f"https://blog.example/a?{CAMPAIGN}#top".encode()),
        hit(f"https://blog.example/a?{CAMPAIGN}".encode(), path="/a"),
        hit(b"https://news.example/?utm_source=other", path=f"/a?{CAMPAIGN}"),
        hit(b"https://news.example/?utm_source=other", path=f"/a?{CAMPAIGN}", host=""),
        Event(NOON_NS, None, b"", "my-blog", "page_view", path=f"https://blog.example/a?{CAMPAIGN}"),
    ],
)
def test_a_campaign_is_kept_whatever_becomes_of_the_query(entry: Entry, *, keep: bool) -> None:
    """It is in the page's address, which for the image is its referrer; the first of two counts, and none is empty."""
    settings = DatabaseSettings(path_queries="keep" if keep else "strip")
    row = enrich(entry, SALTS, settings)
    assert not isinstance(row, Skip)
    named = dict(zip(NAMES, row, strict=True))
    assert NEWSLETTER == tuple(named[name] for name in UTM)
    assert named["path"] in {"/a", "/a?x=1"}


@pytest.mark.parametrize(
    "entry",
    [hit(b"https://news.example/?utm_source=x", host="", path="/"), hit(path="/?a=utm_")],
)
def test_a_campaign_of_another_page_is_none(entry: Entry) -> None:
    """Of an imported line, the referrer is the page before."""
    row = row_of(entry)
    assert [None] * 5 == [row[name] for name in UTM]


@pytest.mark.parametrize(("event_type", "path"), [("page_view", "/"), ("signup", "")])
def test_an_event_without_path_has_the_root_only_if_it_is_a_view(event_type: str, path: str) -> None:
    """A view is always of a page; anything else need not be, and where an event came from is not where it happened."""
    entry = Event(NOON_NS, None, b"", "my-blog", event_type, referrer="https://news.example/item")

    assert path == row_of(entry)["path"]


def test_text_that_is_not_utf8_is_made_storable() -> None:
    """HTTP promises no encoding of header values."""
    row = row_of(hit(b"https://example.com/caf\xe9", user_agent=b"\xff\xfe", path="/"))

    assert "https://example.com/caf\ufffd" == row["referrer"]


# Visitors.


def test_a_visitor_is_the_same_all_day() -> None:
    """Whatever the page, the time of day or the referrer."""
    first = hit(received_ns=TODAY * DAY_NS, path="/")
    last = hit(b"https://news.example/", received_ns=(TODAY + 1) * DAY_NS - 1, path="/pricing")

    assert visitor_of(first) == visitor_of(last)


def test_an_event_and_a_hit_come_from_the_same_visitor() -> None:
    """A page may use both ways."""
    event = Event(NOON_NS, "203.0.113.7", CHROME, "my-blog", "page_view")

    assert visitor_of(hit()) == visitor_of(event)


@pytest.mark.parametrize(
    "other",
    [
        hit(received_ns=NOON_NS + DAY_NS),
        hit(site_id="my-shop"),
        hit(address="203.0.113.8"),
        hit(address=None),
        hit(user_agent=b"curl/8.0"),
        hit(user_id="user-42"),
        # The same characters, divided otherwise.
        hit(site_id="my-blog2", address="03.0.113.7"),
        hit(address="203.0.113.7M", user_agent=CHROME[1:]),
    ],
)
def test_another_day_site_address_or_browser_is_another_visitor(other: Hit) -> None:
    """Visits can't be linked over days or sites."""
    assert visitor_of(hit()) != visitor_of(other)


def test_another_salt_is_another_visitor() -> None:
    """Without the salt, trying out all addresses would find the visitor's."""
    assert visitor_of(hit(), {TODAY: b"a" * SALT_BYTES}) != visitor_of(hit(), {TODAY: b"b" * SALT_BYTES})


def test_the_salt_is_that_of_the_day_on_which_it_happened() -> None:
    """An event that comes a day late still counts with its day's visitors."""
    late = Event(NOON_NS + DAY_NS, "203.0.113.7", CHROME, "my-blog", "page_view", occurred_us=NOON_NS // 1_000)

    assert visitor_of(hit()) == visitor_of(late, {TODAY: SALTS[TODAY]})


def test_a_time_before_1970_has_its_own_day() -> None:
    """Days are counted downwards, too."""
    old = Event(NOON_NS, "203.0.113.7", CHROME, "my-blog", "page_view", occurred_us=-1)

    assert visitor_of(hit(), {TODAY: b"a" * SALT_BYTES}) == visitor_of(old, {-1: b"a" * SALT_BYTES})


def test_a_user_id_tells_a_visitor_by_itself() -> None:
    """The same user is one visitor over days, addresses and browsers, and needs no salt."""
    here = hit(user_id="user-42")
    there = hit(received_ns=NOON_NS + 400 * DAY_NS, address="198.51.100.1", user_agent=b"curl/8.0", user_id="user-42")

    assert visitor_of(here, {}) == visitor_of(there, {})


def test_user_ids_of_two_sites_are_not_linked() -> None:
    """`user-1` here and `user-1` there are two people."""
    assert visitor_of(hit(user_id="user-1")) != visitor_of(hit(user_id="user-1", site_id="my-shop"))


@pytest.mark.parametrize("user_id", ["", "x" * 129])
def test_a_user_id_that_is_empty_or_too_long_counts_as_none(user_id: str) -> None:
    """The image is served whatever the query says, so it is ignored rather than refused."""
    row = row_of(hit(user_id=user_id))

    assert (None, visitor_of(hit())) == (row["user_id"], row["visitor"])


def test_the_address_is_not_in_a_row() -> None:
    """Nothing but the salted hash depends on it."""
    row, other = row_of(hit(b"https://news.example/")), row_of(hit(b"https://news.example/", address="198.51.100.1"))

    assert "203.0.113.7" not in str(row)
    assert {"visitor"} == {column for column in NAMES if row[column] != other[column]}


TEXTS = st.text(max_size=300)
ENTRIES = st.one_of(
    st.builds(
        Hit,
        received_ns=st.integers(0, 4 * 10**18),
        address=st.none() | TEXTS,
        referrer=st.binary(max_size=300) | st.from_regex(rb"https?://[a-z.:\[\]@/?#-]{0,300}"),
        user_agent=st.binary(max_size=2_000),
        site_id=st.none() | TEXTS,
        path=st.none() | TEXTS,
        user_id=st.none() | TEXTS,
        host=st.none() | TEXTS,
    ),
    st.builds(
        Event,
        received_ns=st.integers(0, 4 * 10**18),
        address=st.none() | TEXTS,
        user_agent=st.binary(max_size=2_000),
        site_id=st.text(min_size=1, max_size=128),
        event_type=st.text(min_size=1, max_size=64),
        path=st.none() | TEXTS | TEXTS.map("https://{}".format),
        occurred_us=st.none() | st.integers(-(6 * 10**16), 4 * 10**15),
        referrer=st.none() | TEXTS,
        props=st.none() | st.dictionaries(TEXTS, st.none() | st.booleans() | st.floats() | TEXTS, max_size=5),
    ),
)


@given(ENTRIES)
def test_whatever_comes_can_be_stored_or_is_skipped(entry: Entry) -> None:
    """One entry that can't be stored would keep all that come after it out of the database."""
    row = enrich(entry, dict.fromkeys([_day_of(entry)], b"0" * SALT_BYTES))

    if not isinstance(row, Skip):
        values: dict[str, Any] = dict(zip(NAMES, row, strict=True))
        for value in row:
            assert not isinstance(value, str) or value.encode().decode() == value
        assert -(2**127) <= values["visitor"] < 2**127
        assert 1 <= len(values["site_id"]) <= 128


def _day_of(entry: Entry) -> int:
    occurred_us = entry.occurred_us if isinstance(entry, Event) else None
    return (entry.received_ns // 1_000 if occurred_us is None else occurred_us) // (DAY_NS // 1_000)


# Sources.


@pytest.mark.parametrize(
    ("referrer", "source"),
    [
        ("https://www.google.com/", "Google"),
        ("https://google.de/search?q=x", "Google"),
        ("https://www.google.co.uk/", "Google"),
        ("https://www.google.com.br/", "Google"),
        ("android-app://com.google.android.googlequicksearchbox/", "Google"),
        ("https://mail.google.com/mail/u/0/", "Gmail"),
        ("https://www.bing.com/search?q=x", "Bing"),
        ("https://duckduckgo.com/", "DuckDuckGo"),
        ("https://search.yahoo.co.jp/search", "Yahoo! Japan"),
        ("https://yandex.ru/", "Yandex"),
        ("http://www.baidu.com/link?url=x", "Baidu"),
        ("https://www.ecosia.org/", "Ecosia"),
        ("https://l.facebook.com/l.php", "Facebook"),
        ("https://t.co/abc", "X"),
        ("https://mobile.twitter.com/", "X"),
        ("https://www.linkedin.com/feed/", "LinkedIn"),
        ("https://old.reddit.com/r/python/", "Reddit"),
        ("https://news.ycombinator.com/item?id=1", "Hacker News"),
        ("https://youtu.be/x", "YouTube"),
        ("https://github.com/x/y", "GitHub"),
        ("https://l.instagram.com/", "Instagram"),
        ("https://www.pinterest.co.uk/pin/1", "Pinterest"),
        ("https://de.wikipedia.org/wiki/X", "Wikipedia"),
        ("https://www.news.example:8080/x", "news.example"),
        ("https://not-google.com/", "not-google.com"),
        ("https://google.example/", "google.example"),
        ("https://x.com.example/", "x.com.example"),
        ("https://localhost/", None),
        ("about:blank", None),
        ("nonsense", None),
        (None, None),
    ],
)
def test_a_source_is_named_for_its_host(referrer: str | None, source: str | None) -> None:
    """Well-known sites have their names, others their host without `www.`."""
    entry = Event(NOON_NS, None, b"", "my-blog", "page_view", referrer=referrer)

    assert source == row_of(entry)["source"]


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("https://shop.example/reset?token=1", "https://shop.example/reset"),
        ("https://shop.example/reset?a=b?c#d", "https://shop.example/reset"),
        ("https://shop.example/#/reset?token=1", "https://shop.example/"),
        ("https://shop.example/reset", "https://shop.example/reset"),
        ("?token=1", None),
        ("shop.example?token=1", "shop.example"),
    ],
)
def test_a_referrer_is_stored_without_what_it_asked_for(sent: str, stored: str | None) -> None:
    """Of a hit as of an event, unless it is to be kept."""
    posted = Event(NOON_NS, None, b"", "my-blog", "page_view", referrer=sent)
    for entry in (posted, hit(sent.encode())):
        assert stored == row_of(entry)["referrer"]
        kept = enrich(entry, SALTS, DatabaseSettings(referrer_queries="keep"))
        assert isinstance(kept, tuple)
        assert sent in kept


@pytest.mark.parametrize("site_id", ["example.com", "www.example.com", "Example.COM"])
@pytest.mark.parametrize("referrer", [b"https://example.com/", b"https://www.example.com/", b"http://EXAMPLE.com:81"])
def test_a_visit_from_the_same_site_has_no_source(site_id: str, referrer: bytes) -> None:
    """Going on to another page brings nobody new, whether the site's id is its host or the log knows the host."""
    assert row_of(hit(referrer, site_id=site_id, host=""))["source"] is None
    assert row_of(hit(referrer, site_id="my-blog", host=site_id))["source"] is None
    assert row_of(hit(b"https://news.example/", site_id=site_id, host=site_id))["source"] == "news.example"


@pytest.mark.parametrize("path", [None, "/pricing"])
def test_the_image_has_no_source(path: str | None) -> None:
    """The referrer that a browser sends with it is the page that shows it, whatever the site is called."""
    assert row_of(hit(b"https://blog.example/pricing", site_id="my-blog", path=path))["source"] is None


def test_an_event_that_names_its_own_host_has_no_source_there() -> None:
    """By a whole address in `path`, or by the `Origin` that its browser sends."""
    path = "https://www.blog.example/b"

    assert [None, "news.example"] == [
        row_of(Event(NOON_NS, None, b"", "my-blog", "page_view", path, referrer=referrer))["source"]
        for referrer in ("https://blog.example/a", "https://news.example/")
    ]
    sent_by_page = [
        Event(NOON_NS, None, b"", "my-blog", "page_view", "/b", referrer=referrer, host="blog.example")
        for referrer in ("https://www.blog.example/a", "https://news.example/")
    ]
    assert [None, "news.example"] == [row_of(event)["source"] for event in sent_by_page]


# Browsers.


@pytest.mark.parametrize(
    ("user_agent", "browser", "system", "device"),
    [
        (CHROME.decode(), "Chrome", "Windows", "desktop"),
        (
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_1) AppleWebKit/537.73.11 (KHTML, like Gecko) "
                "Version/7.0.1 Safari/537.73.11"
            ),
            "Safari",
            "Mac OS X",
            "desktop",
        ),
        (
            "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:27.0) Gecko/20100101 Firefox/27.0",
            "Firefox",
            "Ubuntu",
            "desktop",
        ),
        (
            (
                "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/116.0.0.0 "
                "Safari/537.36"
            ),
            "Chrome",
            "Chrome OS",
            "desktop",
        ),
        (
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
                "Version/17.0 Mobile/15E148 Safari/604.1"
            ),
            "Mobile Safari",
            "iOS",
            "mobile",
        ),
        (
            (
                "Mozilla/5.0 (iPad; CPU OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
                "Version/17.0 Mobile/15E148 Safari/604.1"
            ),
            "Mobile Safari",
            "iOS",
            "tablet",
        ),
        (
            (
                "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/116.0.0.0 "
                "Mobile Safari/537.36"
            ),
            "Chrome Mobile",
            "Android",
            "mobile",
        ),
        (
            (
                "Mozilla/5.0 (Linux; Android 13; SM-X900) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/116.0.0.0 "
                "Safari/537.36"
            ),
            "Chrome",
            "Android",
            "tablet",
        ),
        ("Mozilla/5.0 (Android 14; Tablet; rv:130.0) Gecko/130.0 Firefox/130.0", "Firefox Mobile", "Android", "tablet"),
        ("Mozilla/5.0 (Mobile; rv:48.0) Gecko/48.0 Firefox/48.0 KAIOS/2.5", "Firefox Mobile", "KaiOS", "mobile"),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "Googlebot", None, "bot"),
        (
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 6_0 like Mac OS X) AppleWebKit/536.26 (KHTML, like Gecko) "
                "Version/6.0 Mobile/10A5376e Safari/8536.25 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
            ),
            "Googlebot",
            "iOS",
            "bot",
        ),
        ("curl/8.0", "curl", None, "bot"),
        ("", None, None, None),
    ],
)
def test_a_user_agent_tells_browser_system_and_device(
    user_agent: str, browser: str | None, system: str | None, device: str | None
) -> None:
    """Families are named as ua-parser names them; what it does not know stays empty."""
    row = row_of(hit(user_agent=user_agent.encode()))

    assert (browser, system, device) == (row["browser"], row["os"], row["device"])


def test_a_long_user_agent_is_judged_by_its_beginning() -> None:
    """The time it takes is bounded, whatever a stranger sends."""
    row = row_of(hit(user_agent=b"curl/8.0 " + b"x" * 60_000 + b" (compatible; Googlebot/2.1)"))

    assert ("curl", "curl") == (row["browser"], row["bot"])


@pytest.mark.parametrize(
    ("width", "screen"),
    [
        (None, None),
        (0, None),
        (1, "mobile"),
        (575, "mobile"),
        (576, "tablet"),
        (991, "tablet"),
        (992, "laptop"),
        (1_439, "laptop"),
        (1_440, "desktop"),
        (65_535, "desktop"),
    ],
)
def test_a_screen_has_a_class(width: int | None, screen: str | None) -> None:
    """The width itself would tell visitors apart."""
    assert screen == row_of(Event(NOON_NS, None, b"", "my-blog", "page_view", screen_width=width))["screen"]


@pytest.mark.parametrize(
    ("sent", "language"),
    [
        ("de", "de"),
        ("EN-us", "en-US"),
        ("pt_BR", "pt-BR"),
        ("zh-hant-tw", "zh-Hant-TW"),
        ("es-419", "es-419"),
        ("de-CH-1996", "de-CH"),
        ("en-US@posix", "en-US"),
        ("", None),
        ("C", None),
        ("-", None),
        ("немецкий", None),
    ],
)
def test_a_language_is_written_in_one_way(sent: str, language: str | None) -> None:
    """Language, script and region of a BCP 47 tag; what is none is not known."""
    assert language == row_of(Event(NOON_NS, None, b"", "my-blog", "page_view", language=sent))["language"]


@pytest.mark.parametrize(
    ("entry", "hostname"),
    [
        (hit(b"https://WWW.Example.com:8443/a"), "www.example.com"),
        (hit(b"https://example.com/a", path="/b"), "example.com"),
        (hit(b"https://example.com/a", path="https://other.example/b"), "other.example"),
        (hit(b"https://news.example/a", path="/b", host="blog.example"), "blog.example"),
        (hit(b"https://news.example/a", path="/b", host=""), None),
        (hit(), None),
        (hit(b"https://" + b"a" * 300 + b"/"), "a" * 253),
        (
            Event(NOON_NS, None, b"", "my-blog", "page_view", host="example.com", referrer="https://b.example/"),
            "example.com",
        ),
        (Event(NOON_NS, None, b"", "my-blog", "page_view", path="https://Example.com/"), "example.com"),
        (Event(NOON_NS, None, b"", "my-blog", "page_view", referrer="https://b.example/"), None),
    ],
)
def test_a_page_has_a_host_name_if_the_request_tells_it(entry: Entry, hostname: str | None) -> None:
    """It is never the host of the page before."""
    assert hostname == row_of(entry)["hostname"]


@pytest.mark.parametrize(
    ("entry", "click_id"),
    [
        (hit(path="/?gclid=Cj0K"), "gclid"),
        (hit(path="/?a=1&GCLID=Cj0K#x"), "gclid"),
        (hit(b"https://my-blog/?fbclid=Iw"), "fbclid"),
        (hit(b"https://news.example/?fbclid=Iw", path="/", host=""), None),
        (hit(path="/?fbclid=Iw&gclid=Cj0K"), "gclid"),
        (hit(path="/?gclid="), None),
        (hit(path="/?id=1"), None),
        (hit(path="/gclid=1"), None),
    ],
)
def test_of_a_click_id_only_the_kind_is_kept(entry: Entry, click_id: str | None) -> None:
    """Its value names one click of one person."""
    row = row_of(entry)
    assert click_id == row["click_id"]
    assert not {"Cj0K", "Iw"} & {str(value) for value in row.values()}


@pytest.mark.parametrize(
    ("path", "page"),
    [
        ("/#/settings?tab=2", "/#/settings"),
        ("/app?id=7#!/item", "/app#!/item"),
        ("/#top", "/"),
        ("/#access_token=secret/1", "/"),
    ],
)
def test_route_in_a_fragment_belongs_to_the_page(path: str, page: str) -> None:
    """Where a single-page application keeps its pages there; a place in a page makes no page, and a token none."""
    assert page == page_of(path, keep_query=False)


def posted(path: str, referrer: str | None = None) -> Event:
    return Event(NOON_NS, None, b"", "my-blog", "page_view", path=path, referrer=referrer)


@pytest.mark.parametrize(
    ("entry", "utm_source", "source"),
    [
        (posted("/?utm_source=google", "https://news.example/"), "google", "Google"),
        (posted("/?utm_source=Letter&ref=a&source=b"), "Letter", "Letter"),
        (posted("/?ref=a&source=hn"), "hn", "Hacker News"),
        (posted("/?REF=producthunt.com", "https://news.example/"), "producthunt.com", "Product Hunt"),
        (posted("/?xref=a&resource=b", "https://news.example/"), None, "news.example"),
        (posted("/?ref=&source=", "https://news.example/"), None, "news.example"),
        (hit(b"https://my-blog/?utm_source=fb"), "fb", "Facebook"),
        (hit(b"https://my-blog/?utm_source=fb", path="/a"), "fb", "Facebook"),
        (hit(b"https://news.example/?utm_source=fb", path="/a", host=""), None, "news.example"),
    ],
)
def test_a_link_may_name_the_source(entry: Entry, utm_source: str | None, source: str | None) -> None:
    """`utm_source`, else `source`, else `ref` of the page's query; the referrer comes after them."""
    row = row_of(entry)
    assert (utm_source, source) == (row["utm_source"], row["source"])


BOTS = [
    ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "Googlebot"),
    (
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
        "GPTBot",
    ),
    ("facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", "FacebookBot"),
    ("Mozilla/5.0 (compatible; SiteExplorer/1.0b; +http://siteexplorer.info/)", "SiteExplorer"),
    ("UniversalFeedParser/4.2-pre-314-svn +http://feedparser.org/", "UniversalFeedParser"),
    (
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/142.0.0.0 Safari/537.36",
        "HeadlessChrome",
    ),
]
NO_BOTS = [
    CHROME.decode(),
    "Mozilla/5.0 (Linux; Android 13; CUBOT P60) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120 Mobile Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Version/17.0 Mobile Safari/604.1",
    "MyShop/3.1 CFNetwork/1410.0.3 Darwin/22.6.0",
    "",
]


@pytest.mark.parametrize(("user_agent", "bot"), BOTS)
def test_a_bot_has_a_name(user_agent: str, bot: str) -> None:
    """Crawlers, feed readers, browsers without a screen: of a hit as of an event."""
    for entry in (
        hit(user_agent=user_agent.encode()),
        Event(NOON_NS, None, user_agent.encode(), "my-blog", "page_view"),
    ):
        row = row_of(entry)
        assert ("bot", bot) == (row["device"], row["bot"])


@pytest.mark.parametrize("user_agent", NO_BOTS)
def test_a_browser_is_no_bot(user_agent: str) -> None:
    """Nor is an application, nor who does not say what it is."""
    row = row_of(hit(user_agent=user_agent.encode()))
    assert row["bot"] is None
    assert "bot" != row["device"]


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        ("curl/8.5.0", "curl"),
        ("python-requests/2.32.3", "python-requests"),
        ("Python-urllib/3.12", "Python-urllib"),
        ("Go-http-client/2.0", "Go-http-client"),
    ],
)
def test_an_http_library_is_a_bot_unless_it_reports_events(user_agent: str, name: str) -> None:
    """One that asks for pages is a robot; a server that reports its users' events is not."""
    assert name == row_of(hit(user_agent=user_agent.encode()))["bot"]
    row = row_of(Event(NOON_NS, None, user_agent.encode(), "my-blog", "signup"))
    assert (None, None) == (row["device"], row["bot"])


@pytest.mark.parametrize(
    "entry",
    [
        hit(b"https://my-blog/?utm_source=fb"),
        hit(b"https://www.google.com/", path="/", host="blog.example"),
        hit(b"https://blog.example/", path="/", host="blog.example"),
        hit(user_agent=b"curl/8.5"),
        Event(NOON_NS, None, b"curl/8.5", "my-blog", "signup", screen_width=390, language="de", interactive=False),
        Event(NOON_NS, None, CHROME, "my-blog", "signup", path="/?ref=hn", referrer="https://t.co/x", host="my-blog"),
        *(hit(user_agent=user_agent.encode()) for user_agent, _ in BOTS),
    ],
)
def test_a_row_that_is_enriched_again_stays_as_it_is(entry: Entry) -> None:
    """By the same rules, from what a row has kept."""
    row = enrich(entry, SALTS)
    assert not isinstance(row, Skip)
    assert row == enrich_again(row)


def test_a_row_gets_what_later_rules_know() -> None:
    """Its columns are filled from the texts that it has; what it does not have stays unknown."""
    row = row_of(Event(NOON_NS, None, CHROME, "my-blog", "page_view", referrer="https://t.co/x"))
    old = row | dict.fromkeys(("browser_version", "os_version", "device")) | {"source": "t.co", "browser": "Mozilla"}
    assert row == dict(zip(NAMES, enrich_again(tuple(old.values())), strict=True))
    nothing = old | {"user_agent": None}
    assert "Mozilla" == dict(zip(NAMES, enrich_again(tuple(nothing.values())), strict=True))["browser"]
