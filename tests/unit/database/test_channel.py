"""Channels: the rules as a table, and the same answer from Python and from DuckDB."""

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from footfall.database.channel import CHANNEL_COLUMNS, CHANNELS, DIRECT, RULES, channel_of, channel_sql
from footfall.database.source import KINDS


def visit(**known: str) -> dict[str, str]:
    return dict.fromkeys(CHANNEL_COLUMNS, "") | known


@pytest.mark.parametrize(
    ("channel", "known"),
    [
        ("Direct", {}),
        ("Direct", {"utm_term": "shoes"}),
        ("Cross-network", {"source": "Google", "utm_campaign": "Spring Cross-Network", "utm_medium": "cpc"}),
        ("Paid Shopping", {"source": "Amazon", "utm_medium": "cpc"}),
        ("Paid Shopping", {"source": "Google", "utm_medium": "ppc", "utm_campaign": "shop-may"}),
        ("Paid Search", {"source": "Google", "utm_medium": "CPC"}),
        ("Paid Search", {"source": "Bing", "utm_medium": "paidsearch"}),
        ("Paid Search", {"source": "Google", "utm_source": "AdWords"}),
        ("Paid Search", {"source": "Google", "click_id": "gclid"}),
        ("Paid Search", {"source": "Bing", "click_id": "msclkid"}),
        ("Organic Search", {"source": "Google", "click_id": "msclkid"}),
        ("Organic Social", {"source": "Facebook", "click_id": "fbclid"}),
        ("Paid Social", {"source": "Facebook", "utm_medium": "retargeting"}),
        ("Paid Social", {"source": "Facebook", "utm_source": "fb_ads"}),
        ("Paid Video", {"source": "YouTube", "utm_medium": "cpv", "utm_campaign": "cpx"}),
        ("Paid Video", {"source": "YouTube", "utm_medium": "cpc"}),
        ("Display", {"source": "news.example", "utm_medium": "banner"}),
        ("Display", {"source": "news.example", "utm_medium": "cpm"}),
        ("Paid Search", {"source": "Google", "utm_medium": "cpm"}),
        ("Paid Other", {"source": "news.example", "utm_medium": "cpc"}),
        ("Paid Other", {"utm_medium": "paid"}),
        ("Organic Shopping", {"source": "eBay"}),
        ("Organic Shopping", {"source": "news.example", "utm_campaign": "shopping week"}),
        ("Organic Shopping", {"source": "news.example", "utm_campaign": "e-shop"}),
        ("Organic Shopping", {"source": "news.example", "utm_campaign": "eshop"}),
        ("Referral", {"source": "news.example", "utm_campaign": "workshop"}),
        ("Organic Social", {"source": "X"}),
        ("Organic Social", {"source": "news.example", "utm_medium": "Social-Media"}),
        ("Organic Social", {"utm_medium": "sm"}),
        ("Organic Video", {"source": "Vimeo"}),
        ("Organic Video", {"source": "news.example", "utm_medium": "my-video"}),
        ("AI Assistants", {"source": "ChatGPT"}),
        ("Organic Search", {"source": "DuckDuckGo"}),
        ("Organic Search", {"source": "news.example", "utm_medium": "organic"}),
        ("Email", {"source": "Newsletter-May"}),
        ("Email", {"source": "list", "utm_medium": "E-Mail"}),
        ("Email", {"source": "list", "utm_medium": "e_mail"}),
        ("Affiliates", {"source": "news.example", "utm_medium": "affiliate"}),
        ("Audio", {"source": "news.example", "utm_medium": "audio"}),
        ("SMS", {"source": "sms"}),
        ("SMS", {"utm_medium": "SMS"}),
        ("Mobile Push Notifications", {"utm_medium": "web-push"}),
        ("Mobile Push Notifications", {"utm_medium": "mobile app"}),
        ("Mobile Push Notifications", {"source": "firebase"}),
        ("Referral", {"utm_medium": "link"}),
        ("Referral", {"source": "news.example"}),
        ("Referral", {"source": "Gmail"}),
    ],
)
def test_a_visit_has_a_channel(channel: str, known: dict[str, str]) -> None:
    """By the first rule that holds, in the order of Google Analytics 4."""
    assert channel == channel_of(visit(**known))


def test_every_channel_is_reached_by_some_visit() -> None:
    """The order hides none."""
    assert len(CHANNELS) == len(set(CHANNELS)) == len(RULES) + 1
    assert DIRECT == CHANNELS[-1]


WORDS = ["", "cpc", "CPM", "paid", "ppc", "social", "sm", "email", "e mail", "push", "video", "organic", "link", "shop"]
TEXTS = st.sampled_from(
    [*WORDS, "cross-network", "adwords", "x\n", "sms", "sms\n", "\u212a", "new\u017fletter", "\u0130"]
) | st.text(max_size=8)
SOURCES = st.sampled_from([name for names in KINDS.values() for name in names[:5]] + ["Google", "Bing", "b.example"])
VISITS = st.fixed_dictionaries(
    {
        "source": SOURCES | TEXTS,
        "utm_source": TEXTS,
        "utm_medium": TEXTS,
        "utm_campaign": TEXTS,
        "click_id": st.sampled_from(["", "gclid", "msclkid", "fbclid"]),
    }
)


@pytest.fixture(scope="module")
def database() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


@given(visits=st.lists(VISITS, min_size=1, max_size=200))
def test_the_database_says_the_same(database: duckdb.DuckDBPyConnection, visits: list[dict[str, str]]) -> None:
    """Whatever the texts are, letters of any alphabet and ends of lines included."""
    patterns: list[str] = []

    def matches(text: str, pattern: str) -> str:
        patterns.append(pattern)
        return f"regexp_matches({text}, ${len(patterns)}, 's')"

    expression = channel_sql({name: name for name in CHANNEL_COLUMNS}, matches)
    columns = ", ".join(f"unnest(${len(patterns) + at}) AS {name}" for at, name in enumerate(CHANNEL_COLUMNS, 1))
    values = [[visit[name] for visit in visits] for name in CHANNEL_COLUMNS]
    rows = database.execute(f"SELECT {expression} FROM (SELECT {columns})", [*patterns, *values]).fetchall()
    assert [channel_of(visit) for visit in visits] == [channel for (channel,) in rows]
