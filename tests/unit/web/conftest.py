"""Databases with views to count, and a client of the API on one of them."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import httpx
import pytest

from footfall.database.duckdb.file import open_database
from web_api import serving


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """Three days of the site `site`: two views on the 11th, four on the 12th, one on the 13th."""
    with open_database(tmp_path_factory.mktemp("data") / "footfall.duckdb") as database:
        database.execute(
            "INSERT INTO events (time, site_id, event_type, path, visitor) "
            "SELECT time, 'site', 'page_view', path, visitor FROM (VALUES "
            "(TIMESTAMP '2025-11-11 00:00:00', '/old', 1), (TIMESTAMP '2025-11-11 23:59:59.999999', '/old', 2), "
            "(TIMESTAMP '2025-11-12 00:00:00', '/pricing', 1), (TIMESTAMP '2025-11-12 12:00:00', '/pricing', 2), "
            "(TIMESTAMP '2025-11-12 12:00:00', '/b', 2), (TIMESTAMP '2025-11-12 23:59:59.999999', '/a', 2), "
            "(TIMESTAMP '2025-11-13 00:00:00', '/new', 3)) AS views(time, path, visitor)"
        )
        database.execute(
            "INSERT INTO events (time, site_id, event_type, path, visitor) "
            "SELECT TIMESTAMP '2025-11-12', 'many-paths', 'page_view', '/' || i, 1 "
            "FROM range(150) numbers(i)"
        )
        yield database


@pytest.fixture(scope="module")
def client(database: duckdb.DuckDBPyConnection) -> Iterator[httpx.Client]:
    with serving(database) as client:
        yield client


@pytest.fixture
def slow_database(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A site with more views than anybody has time to count."""
    with open_database(tmp_path / "slow.duckdb") as database:
        database.execute("DROP TABLE events")
        database.execute(
            "CREATE VIEW events AS SELECT 'site' AS site_id, 'page_view' AS event_type, '/' AS path, "
            "i % 100 AS visitor, TIMESTAMP '2025-11-12' AS time FROM range(1_000_000_000_000) numbers(i)"
        )
        yield database
