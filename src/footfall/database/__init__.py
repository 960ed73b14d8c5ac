"""The database: what an entry means, and how rows get into DuckDB or ClickHouse and figures out of it."""
