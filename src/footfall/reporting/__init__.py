"""Reporting: what was collected, as figures.

`queries` asks the database, `api` answers over HTTP, `openapi` describes every endpoint and `docs` is the page that
shows it. It writes nothing, and knows of no queue.
"""
