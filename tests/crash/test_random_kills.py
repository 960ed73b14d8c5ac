"""`kill -9` at random moments of the collector, of a consumer and of the whole tree, under load."""

import random
from pathlib import Path

import pytest

from crash.kills import Tally, run_rounds

ROUNDS = 5
"""The long series is `make crash`."""


@pytest.mark.crash
@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_or_doubled_whatever_is_killed_whenever(seed: int, tmp_path: Path) -> None:
    """Every acknowledged event is in each output exactly once, however often which process is killed."""
    tally = Tally()
    run_rounds(tmp_path, ROUNDS, random.Random(seed), tally)
    assert 3 * ROUNDS == tally.kills.total()
