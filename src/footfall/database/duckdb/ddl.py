"""The tables of a DuckDB database.

- `events`: a row for each entry that has a site; the columns are those of `footfall.database.schema`.
- `positions`: for each source the last `sequence` in `events`, rows `written`, entries `skipped` by reason (JSON);
  under the source `removed`, how many rows were removed again, by reason.
- `salts`: the secrets that tell visitors without a user id apart, one for each UTC `day`.
- `event_ids`: a 128-bit hash of site and `event_id` for each event of the last days that had one, the second in which
  it was received, and a hash of its sender (`footfall.database.rows.SeenId`), NULL where that is not known.
- `erasures`: what a person has had removed (`footfall.database.erasure.Erasure`), once it is gone.
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
"""
"""The statements that make them, in an empty database."""
