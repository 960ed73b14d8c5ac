"""DuckDB, the database by default: one file, one process."""
