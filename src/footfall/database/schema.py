"""The table `events`: its columns, what they mean, and how each database and an export store them.

Nothing else spells them out: the tables of both databases, their writers, exports, and the table in README.md are made
from `EVENTS`. To add a column, add it here as the last one, have `footfall.database.enrich` fill it, and give each
database a migration (`duckdb.migrations`, `clickhouse.migrations`), which can only append it.

What is not known is NULL in DuckDB. ClickHouse is faster without NULLs, so there an unknown text is the empty one; only
numbers and flags, of which no value is free, can be NULL in both.
"""

from datetime import datetime
from typing import Final

from msgspec import Struct


class Kind(Struct, frozen=True):
    """What a column holds.

    Attributes:
        name: tells kinds apart that a database stores alike.
        duckdb: its type in DuckDB.
        clickhouse: its type in ClickHouse.
    """

    name: str
    duckdb: str
    clickhouse: str


MOMENT: Final = Kind("moment", "TIMESTAMP", "DateTime64(6, 'UTC')")
"""UTC, to the microsecond, from the year 1 on; neither database's type says that it is UTC."""
TEXT: Final = Kind("text", "VARCHAR", "String")
LABEL: Final = Kind("label", "VARCHAR", "LowCardinality(String)")
"""A text of which there are few."""
HASH: Final = Kind("hash", "HUGEINT", "Int128")
"""128 bits, as a signed number."""
JSON: Final = Kind("json", "VARCHAR", "String")
PERCENT: Final = Kind("percent", "UTINYINT", "Nullable(UInt8)")
MILLISECONDS: Final = Kind("milliseconds", "UINTEGER", "Nullable(UInt32)")
FLAG: Final = Kind("flag", "BOOLEAN", "Nullable(Bool)")


class Column(Struct, frozen=True):
    """A column of `events`.

    Attributes:
        name: the same in both databases and in an export.
        kind: what it holds.
        meaning: for README.md, in Markdown.
        is_optional: it may be unknown.
    """

    name: str
    kind: Kind
    meaning: str
    is_optional: bool = False


EVENTS: Final = (
    Column("time", MOMENT, "UTC: the event's own timestamp, as it was sent; else the second in which it was received"),
    Column("site_id", LABEL, "the site; for a hit that names none, its referrer's host"),
    Column("event_type", LABEL, "`page_view` counts as a view; every hit is one"),
    Column(
        "path",
        TEXT,
        "[the page](docs/api.md#pages); `/` for a view that names none, empty for other events that name none",
    ),
    Column(
        "visitor",
        HASH,
        "128-bit hash: of site and user id, or else of site, address and user agent with a salt of the day",
    ),
    Column("user_id", TEXT, "as it was sent", is_optional=True),
    Column(
        "referrer",
        TEXT,
        "as it was sent, up to 2,048 characters, without its query (`database.referrer_queries`)",
        is_optional=True,
    ),
    Column(
        "source",
        LABEL,
        "where the visit came from, as in `Google` or `news.example`: what the campaign names, else the referrer; "
        "`NULL` for none and for the site itself",
        is_optional=True,
    ),
    Column("browser", LABEL, "its family, from the user agent", is_optional=True),
    Column("os", LABEL, "the operating system's family, from the user agent", is_optional=True),
    Column("device", LABEL, "`desktop`, `mobile`, `tablet` or `bot`; `NULL` if unknown", is_optional=True),
    Column("props", JSON, "as it was sent, JSON: `props ->> 'plan'`", is_optional=True),
    Column(
        "utm_source",
        LABEL,
        "of the campaign that led to the page, from its address; else `source` or `ref` there",
        is_optional=True,
    ),
    Column("utm_medium", LABEL, "likewise", is_optional=True),
    Column("utm_campaign", LABEL, "likewise", is_optional=True),
    Column("utm_term", LABEL, "likewise", is_optional=True),
    Column("utm_content", LABEL, "likewise", is_optional=True),
    Column("hostname", LABEL, "of the page, in lower case, as far as the request told it", is_optional=True),
    Column("browser_version", LABEL, "its major version, as in `142`", is_optional=True),
    Column("os_version", LABEL, "the major version of the operating system, as in `15`", is_optional=True),
    Column("bot", LABEL, "the name of the bot; `NULL` for everybody else", is_optional=True),
    Column(
        "screen",
        LABEL,
        "by its width in CSS pixels: `mobile` below 576, `tablet` below 992, `laptop` below 1,440, else `desktop`",
        is_optional=True,
    ),
    Column("language", LABEL, "of the browser, as in `de` or `pt-BR`", is_optional=True),
    Column("country", LABEL, "two letters (ISO 3166-1), if `geo.database` is set", is_optional=True),
    Column("region", LABEL, "its name in English, likewise", is_optional=True),
    Column("city", LABEL, "its name in English, likewise", is_optional=True),
    Column("user_agent", TEXT, "up to 512 bytes, for rules that come later", is_optional=True),
    Column(
        "click_id",
        LABEL,
        "which advertising click id the page's address had, as in `gclid`; its value is not kept",
        is_optional=True,
    ),
    Column("scroll_depth", PERCENT, "how much of the page was seen, of an `engagement` event", is_optional=True),
    Column("engaged_ms", MILLISECONDS, "how long the page was in use, likewise", is_optional=True),
    Column("is_interactive", FLAG, "`false` if the event does not end a bounce", is_optional=True),
)
"""The columns, in the order of a `Row`."""

NAMES: Final = tuple(column.name for column in EVENTS)

Row = tuple[
    datetime,
    str,
    str,
    str,
    int,
    *tuple[str | None, ...],
    int | None,
    int | None,
    bool | None,
]
"""A row of `events`, as `enrich` makes it; a plain tuple, because DuckDB reads a named one a third slower."""
