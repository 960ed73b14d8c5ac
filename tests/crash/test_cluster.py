"""Services of many machines, killed and paused at random: a short series; `make crash-cluster` is the long one."""

import random
from pathlib import Path

import pytest

from brokers import BROKERS, require
from crash.cluster import Cluster, torment

pytestmark = pytest.mark.xdist_group("busy")  # not beside a test that measures what others wait

SECONDS = 8.0


@pytest.mark.crash
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", sorted(BROKERS))
def test_nothing_is_lost_or_doubled_between_many_services(tmp_path: Path, name: str) -> None:
    """Whoever dies or stands still, the broker and ClickHouse included; and the ledgers of all agree."""
    require(name)
    directory = tmp_path / "broker"
    directory.mkdir()
    cluster = Cluster(tmp_path, BROKERS[name].private(directory))
    try:
        series = torment(cluster, SECONDS, random.Random())
    finally:
        cluster.kill()

    assert series.figures.written >= series.figures.acknowledged > 0
    assert series.blows.total() > 0
