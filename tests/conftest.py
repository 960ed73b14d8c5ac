"""Fixtures that all tests may use."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import Footfall


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
