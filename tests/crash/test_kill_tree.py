"""`kill -9` of the whole program under load, again and again."""

import random
import time

import pytest

from harness import Footfall
from oracle import Oracle

KILLS = 5
"""The long series is `make crash`."""


@pytest.mark.crash
def test_killed_tree_loses_and_doubles_nothing(footfall: Footfall) -> None:
    """Every acknowledged event is in both outputs exactly once, however often the tree is killed under load."""
    oracle = Oracle(footfall)
    chance = random.Random(2)
    footfall.start()
    with oracle.load():
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.2, 1.0))  # the moment of the kill is what is tried out
            footfall.kill()
            oracle.note_kill()
            footfall.start()
    oracle.check()
