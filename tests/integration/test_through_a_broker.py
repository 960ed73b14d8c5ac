"""Roles with a real broker between them: the same outputs, and the same exactness, as with the embedded queue."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from brokers import BROKERS, Broker, require, some_topic
from footfall.failpoint import VARIABLE, Failpoint
from footfall.queue.broker.relay import RELAY
from harness import Footfall, eventually
from oracle import Oracle

RELAY_POINTS = [
    Failpoint.RELAY_FIXED,
    Failpoint.RELAY_CONFIRMED,
    *(f"{point}.{RELAY}" for point in Failpoint if point.startswith("consumer.")),
]


@pytest.fixture(params=sorted(BROKERS))
def broker(request: pytest.FixtureRequest) -> Broker:
    """The one that all tests share."""
    return require(request.param)


@pytest.fixture(params=sorted(BROKERS))
def own_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    """One to be killed."""
    require(request.param)
    directory = tmp_path / "broker"
    directory.mkdir()
    private = BROKERS[request.param].private(directory)
    private.start()
    yield private
    private.kill()


class Services:
    """Footfalls that are ended with the test."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._all: list[Footfall] = []

    def make(self, name: str, url: str, **environment: str) -> Footfall:
        (self._directory / name).mkdir()
        service = Footfall(self._directory / name, FOOTFALL__QUEUE__URL=url, **environment)
        self._all.append(service.set(FOOTFALL__MONITOR__PORT=str(service.port)))
        return service

    def kill(self) -> None:
        for service in self._all:
            service.kill()


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    made = Services(tmp_path)
    yield made
    made.kill()


def test_one_machine_with_a_broker_is_as_without(broker: Broker, services: Services) -> None:
    """`footfall serve`, with one setting more."""
    footfall = services.make("all", broker.url(some_topic()))
    oracle = Oracle(footfall)
    footfall.start()
    with oracle.load():
        eventually(True, lambda: len(oracle.acknowledged) >= 200)

    figures = oracle.check()

    assert figures.written >= figures.acknowledged >= 200


def test_each_role_on_a_machine_of_its_own(broker: Broker, services: Services) -> None:
    """They share nothing but the broker; each tells its own part of the ledger."""
    url = broker.url(some_topic())
    collector = services.make("collector", url).start("run", "collector")
    storage = services.make("storage", url).start("run", "storage")
    reports = services.make("reports", url)
    reports.set(FOOTFALL__REPORTING__PORT=str(reports.port)).start("run", "processor", "reporting")

    assert 200 == httpx.get(f"{collector.url}/track?site_id=a&path=/x").status_code
    assert 202 == collector.post(path="/y").status_code

    sent = {"received": 2, "refused": {}}
    eventually({**sent, "sinks": {RELAY: {"written": 2, "skipped": {}, "pending": 0}}}, collector.ledger)
    eventually({**sent, "sinks": {"visit_log": {"written": 1, "skipped": {"event": 1}, "pending": 0}}}, storage.ledger)
    eventually({**sent, "sinks": {"database": {"written": 2, "skipped": {}, "pending": 0}}}, reports.ledger)
    assert 2 == reports.stats("a")["total_views"]
    assert 1 == len(storage.lines())


def test_moving_to_a_broker_and_back(broker: Broker, services: Services) -> None:
    """Outputs that stay where they are go on where they were; nothing is lost on the way, or there twice."""
    url = broker.url(some_topic())
    footfall = services.make("all", url)
    oracle = Oracle(footfall)

    def send(count: int) -> None:
        footfall.start()
        with oracle.load():
            eventually(True, lambda: len(oracle.acknowledged) >= count)
        footfall.settle()
        assert 0 == footfall.stop()

    footfall.unset("FOOTFALL__QUEUE__URL")
    send(100)
    footfall.set(FOOTFALL__QUEUE__URL=url)
    send(200)
    footfall.unset("FOOTFALL__QUEUE__URL")
    send(300)
    footfall.start()

    oracle.check()


def test_a_database_that_is_lost_is_filled_again(broker: Broker, services: Services) -> None:
    """The broker was told to go on behind what it had; with the next event all that is kept comes again."""
    footfall = services.make("all", broker.url(some_topic())).start()
    for number in range(20):
        assert 202 == footfall.post(path=f"/{number}").status_code
    footfall.settle()
    assert 0 == footfall.stop()
    for file in footfall.data_dir.glob("footfall.duckdb*"):
        file.unlink()

    footfall.start()
    footfall.post()

    eventually(21, lambda: footfall.stats("a")["total_views"], 20)
    footfall.settle()
    assert {"written": 21, "skipped": {}, "pending": 0} == footfall.ledger()["sinks"]["database"]


@pytest.mark.crash
@pytest.mark.parametrize("point", RELAY_POINTS)
def test_crash_of_the_relay(broker: Broker, services: Services, tmp_path: Path, point: str) -> None:
    """At each of its places, under load."""
    marker = tmp_path / "crashed"
    footfall = services.make("all", broker.url(some_topic()), **{VARIABLE: f"{point}:3:{marker}"})
    oracle = Oracle(footfall)
    footfall.start()
    with oracle.load():
        eventually(True, marker.exists, 20)
        before = len(oracle.acknowledged)
        eventually(True, lambda: len(oracle.acknowledged) >= before + 100, 20)

    oracle.check()

    assert 1 == footfall.output().count("killed by signal 9")


@pytest.mark.crash
def test_broker_that_is_away_costs_no_hit(own_broker: Broker, services: Services) -> None:
    """Answers are what they were; when it is back, all comes after, though everybody was killed meanwhile."""
    footfall = services.make("all", own_broker.url(some_topic()))
    oracle = Oracle(footfall)
    footfall.start()
    with oracle.load():
        eventually(True, lambda: len(oracle.acknowledged) >= 100)
        own_broker.kill()
        before = len(oracle.acknowledged)
        eventually(True, lambda: len(oracle.acknowledged) >= before + 300, 20)
        footfall.kill()
        footfall.start()
        own_broker.start()

    figures = oracle.check()

    assert 0 == figures.refused
    assert "Traceback" not in footfall.output()


def test_a_service_starts_without_its_broker(services: Services) -> None:
    """It takes hits, and says what it waits for."""
    footfall = services.make("all", "kafka://127.0.0.1:9/nobody").start("run", "collector")

    assert 202 == footfall.post().status_code
    assert 1 == footfall.ledger()["sinks"][RELAY]["pending"]


@pytest.mark.crash
@pytest.mark.parametrize("is_paused", [False, True], ids=["killed", "paused"])
def test_second_storage_takes_over(broker: Broker, services: Services, is_paused: bool) -> None:  # noqa: FBT001
    """It waits and says so; when the first is gone, or stands still and wakes too late, each line is there once."""
    url = broker.url(some_topic())
    collector = services.make("collector", url)
    oracle = Oracle(collector)
    collector.start("run", "collector")
    first = services.make("first", url).start("run", "storage")
    second = services.make(
        "second", url, FOOTFALL__DATA_DIR=str(first.data_dir), FOOTFALL__STORAGE__PATH=str(first.visits_log)
    ).start("run", "storage")
    with oracle.load():
        eventually(True, lambda: first.ledger()["received"] > 100, 20)
        eventually(True, lambda: "another" in second.output(), 20)
        group = os.getpgid(first.process.pid)
        os.killpg(group, signal.SIGSTOP if is_paused else signal.SIGKILL)
        if is_paused:
            time.sleep(1.5 * broker.max_session_s)  # the pause itself is what is tried
            os.killpg(group, signal.SIGCONT)
        sent = len(oracle.acknowledged)
        eventually(True, lambda: len(oracle.acknowledged) > sent + 100)

    def lines() -> tuple[int, int]:
        ledger = second.ledger()["sinks"]["visit_log"]
        return ledger["written"] + sum(ledger["skipped"].values()), ledger["pending"]

    collector.settle(60)
    eventually((collector.ledger()["received"], 0), lines, 30)
    names = [line.split("|")[2] for line in first.lines()]
    hits = second.ledger()["sinks"]["visit_log"]["written"]
    assert (hits, hits) == (len(names), len(set(names)))
