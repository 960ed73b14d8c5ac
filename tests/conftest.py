"""Fixtures that all tests may use."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("clickhouse_server", "harness", "oracle", "visit_batches", "web_api")

from clickhouse_server import ClickhouseServer  # noqa: E402 - as below
from harness import Footfall, free_port  # noqa: E402 - after its asserts are registered to be explained

# No deadline: these machines are shared, and a slow moment of theirs is no fault of the code.
settings.register_profile("footfall", deadline=None)
settings.load_profile("footfall")


def pytest_unconfigure() -> None:
    """Let go of the tests at the end.

    Hypothesis puts a function into `gc.callbacks`, from which everything that a `@given` test's module names can be
    reached. Python clears that list only after its last collection, so DuckDB's types would still be there when their
    binding library looks for leaks, and it would print a screen of them.
    """
    gc.callbacks[:] = [callback for callback in gc.callbacks if not callback.__module__.startswith("hypothesis.")]


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickhouseServer]:
    """A ClickHouse for all tests of a session: each takes a database of its own, and leaves the server alone."""
    server = ClickhouseServer(tmp_path_factory.mktemp("clickhouse"), free_port()).start()
    yield server
    server.kill()


@pytest.fixture
def footfall(tmp_path: Path) -> Iterator[Footfall]:
    """A Footfall that is not started yet."""
    instance = Footfall(tmp_path)
    yield instance
    instance.kill()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Footfall]:
    """`footfall serve`, one for all tests of a module: each test takes a `site_id` of its own."""
    instance = Footfall(tmp_path_factory.mktemp("served")).start()
    yield instance
    instance.kill()
