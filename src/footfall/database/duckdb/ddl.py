"""The tables of a DuckDB database.

- `events`: a row for each entry that has a site; the columns are those of `footfall.database.schema`.
- `positions`: for each source the last `sequence` in `events`, rows `written`, entries `skipped` by reason (JSON);
  under the source `removed`, how many rows were removed again, by reason.
- `salts`: the secrets that tell visitors without a user id apart, one for each UTC `day`.
- `event_ids`: a 128-bit hash of site and `event_id` for each event of the last days that had one, the second in which
  it was received, and a hash of its sender (`footfall.database.rows.SeenId`), NULL where that is not known.
- `erasures`: what a person has had removed (`footfall.database.erasure.Erasure`), once it is gone.
- `rolled_days`, `dirty_days` (`footfall.database.duckdb.days`) and `rolled_months` say what the derived tables hold.
- `visits` and `page_views` are derived: the visits of a day, and how often each page was viewed on it.
- `month_pages`, `month_visitors` and `month_anonymous` are derived from those: for each month the views of pages, the
  visitors with a user id who viewed one, and the number of those without.
- `format`: the number of this layout, in one row. `footfall.database.duckdb.migrations` bring older ones up to it.
"""

from typing import Final

from footfall.database.schema import EVENTS

_EVENTS: Final = ",\n    ".join(
    f"{column.name} {column.kind.duckdb}{'' if column.is_optional else ' NOT NULL'}" for column in EVENTS
)

TABLES: Final = f"""
CREATE TABLE events (
    {_EVENTS}
);
CREATE TABLE positions (
    source VARCHAR PRIMARY KEY,
    sequence BIGINT NOT NULL,
    written BIGINT NOT NULL,
    skipped JSON NOT NULL
);
CREATE TABLE salts (day DATE PRIMARY KEY, salt BLOB NOT NULL, made_at TIMESTAMP NOT NULL);
CREATE TABLE event_ids (id HUGEINT NOT NULL, seen_at TIMESTAMP NOT NULL, sender BIGINT);
CREATE TABLE erasures (id VARCHAR PRIMARY KEY, record JSON NOT NULL);
CREATE TABLE format (version INTEGER NOT NULL);
CREATE TABLE rolled_days (day DATE NOT NULL);
CREATE TABLE dirty_days (site_id VARCHAR NOT NULL, day DATE NOT NULL);
CREATE TABLE rolled_months (site_id VARCHAR NOT NULL, month DATE NOT NULL);
CREATE TABLE visits (
    site_id VARCHAR NOT NULL, day DATE NOT NULL, visitor HUGEINT NOT NULL, is_known BOOLEAN NOT NULL,
    bot VARCHAR NOT NULL, visit_start BIGINT NOT NULL, duration BIGINT NOT NULL, is_bounce UTINYINT NOT NULL,
    visit_pageviews INTEGER NOT NULL, visit_events INTEGER NOT NULL,
    entry_page VARCHAR, entry_page_hostname VARCHAR, source VARCHAR, referrer VARCHAR, utm_source VARCHAR,
    utm_medium VARCHAR, utm_campaign VARCHAR, utm_content VARCHAR, utm_term VARCHAR, device VARCHAR, screen VARCHAR,
    language VARCHAR, browser VARCHAR, browser_version VARCHAR, os VARCHAR, os_version VARCHAR, country VARCHAR,
    region VARCHAR, city VARCHAR, click_id VARCHAR, exit_page VARCHAR, exit_page_hostname VARCHAR
);
CREATE TABLE page_views (
    site_id VARCHAR NOT NULL, day DATE NOT NULL, path VARCHAR NOT NULL, is_bot BOOLEAN NOT NULL,
    pageviews INTEGER NOT NULL
);
CREATE TABLE month_pages (
    site_id VARCHAR NOT NULL, month DATE NOT NULL, path VARCHAR NOT NULL, is_bot BOOLEAN NOT NULL,
    pageviews BIGINT NOT NULL
);
CREATE TABLE month_visitors (
    site_id VARCHAR NOT NULL, month DATE NOT NULL, is_bot BOOLEAN NOT NULL, visitor HUGEINT
);
CREATE TABLE month_anonymous (
    site_id VARCHAR NOT NULL, month DATE NOT NULL, visitors BIGINT NOT NULL, visitors_with_bots BIGINT NOT NULL
);
"""
"""The statements that make them, in an empty database."""
