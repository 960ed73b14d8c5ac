"""Reporting: what was collected, as figures.

`base` says what a database is asked, `duckdb` and `clickhouse` ask it, `api` answers over HTTP, `openapi` describes
every endpoint and `docs` is the page that shows it. It writes nothing, and knows of no queue.
"""
