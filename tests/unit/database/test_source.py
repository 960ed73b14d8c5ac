"""The sources that are known: by host, and by what links call them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from footfall.database.source import KINDS, source_named, source_of


@pytest.mark.parametrize(
    ("referrer", "name", "kind"),
    [
        ("https://www.google.com/", "Google", "search"),
        ("https://www.google.co.uk/search", "Google", "search"),
        ("https://google.com.br/", "Google", "search"),
        ("https://duckduckgo.com/", "DuckDuckGo", "search"),
        ("android-app://com.google.android.googlequicksearchbox/", "Google", "search"),
        ("https://m.facebook.com/x", "Facebook", "social"),
        ("https://old.reddit.com/r/x", "Reddit", "social"),
        ("android-app://com.linkedin.android", "LinkedIn", "social"),
        ("https://m.youtube.com/watch", "YouTube", "video"),
        ("https://www.amazon.de/", "Amazon", "shopping"),
        ("https://chatgpt.com/", "ChatGPT", "ai"),
        ("https://gemini.google.com/", "Gemini", "ai"),
        ("https://mail.google.com/", "Gmail", None),
        ("https://docs.google.com/", "Google Docs", None),
    ],
)
def test_a_known_host_has_a_name_and_a_kind(referrer: str, name: str, kind: str | None) -> None:
    """The nearest host at or above the referrer's counts; `google.*` is a domain of any country."""
    assert name == source_of(referrer, "my-blog")
    assert [kind] * bool(kind) == [one for one, names in KINDS.items() if name in names]


@pytest.mark.parametrize(
    ("referrer", "name"),
    [
        ("https://google.example/", "google.example"),
        ("https://notgoogle.com/", "notgoogle.com"),
        ("https://www.news.example/", "news.example"),
        ("https://google/", "google"),
        ("https://localhost:3000/", None),
        ("http://127.0.0.1/", None),
        ("http://[::1]/", None),
        ("https://My-Blog.example/a", None),
        ("https://www.my-blog.example/a", None),
        ("https://shop.my-blog.example/", "shop.my-blog.example"),
    ],
)
def test_any_other_host_is_its_own_name(referrer: str, name: str | None) -> None:
    """But the site itself, and the visitor's own machine, are no source."""
    assert name == source_of(referrer, "www.my-blog.example")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("google", "Google"),
        ("GOOGLE", "Google"),
        (" Facebook ", "Facebook"),
        ("fb", "Facebook"),
        ("hackernews", "Hacker News"),
        ("hacker news", "Hacker News"),
        ("l.facebook.com", "Facebook"),
        ("WWW.Google.co.uk", "Google"),
        ("adwords", "Google"),
        ("Spring-Letter", "Spring-Letter"),
        ("News.Example", "News.Example"),
        (".", "."),
    ],
)
def test_a_link_may_name_a_source_in_many_spellings(text: str, name: str) -> None:
    """Known ones get one name; all others stay as they were written."""
    assert name == source_named(text)


@given(st.text(max_size=40))
def test_a_source_that_a_link_names_keeps_its_name(text: str) -> None:
    """What has been named once is named the same again, so that a rebuild changes nothing."""
    assert source_named(text) == source_named(source_named(text))
    assert source_named(text.upper()).lower() == source_named(text.upper().lower()).lower()


def test_a_name_is_of_one_kind() -> None:
    """Else the order of the kinds would decide on a channel."""
    names = [name for names in KINDS.values() for name in names]
    assert len(names) == len(set(names))
    assert all("'" not in name and "\\" not in name and name == name.strip() for name in names)
