"""Many machines' worth of services with a broker between them, killed and paused at random: `make crash-cluster`.

Three collectors, a storage and its standby, and two processors, each as a service of its own with its own settings, a
broker and a ClickHouse. All are processes of this machine, but nothing is shared that would not be between machines,
except the two storages' disk.
"""

import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import clickhouse_connect
import msgspec

from brokers import BROKERS, Broker
from clickhouse_server import ClickhouseServer
from harness import Footfall, eventually, free_port
from oracle import Figures, Oracle

COLLECTORS = 3
PROCESSORS = 2
STORAGES = 2
_DATABASE = "footfall"
_CALM_S = 1.5
"""At most this between two blows."""
_SETTLE_S = 300.0
_AWAY_S = 1.0
"""At most this until what was killed is started again."""
_RESULTS = Path(__file__).parent / "results"

PAUSE = "pause"
"""What can be done to a processor or a storage beside a kill: it stands still until others have its work, and wakes."""


class Cluster:
    """Everything, on one machine.

    Attributes:
        services: by name, each with the arguments it is started with.
        servers: what they need of others, by name.
    """

    def __init__(self, directory: Path, broker: Broker) -> None:
        self.max_session_s = broker.max_session_s
        self._database = ClickhouseServer(directory / "clickhouse", free_port())
        settings = {
            "FOOTFALL__QUEUE__URL": broker.url("footfall"),
            "FOOTFALL__DATABASE__URL": self._database.url(_DATABASE),
        }
        self.servers: dict[str, Broker | ClickhouseServer] = {"broker": broker, "database": self._database}
        self.services: dict[str, tuple[Footfall, tuple[str, ...]]] = {}
        for role, count in (("collector", COLLECTORS), ("storage", STORAGES), ("processor", PROCESSORS)):
            for number in range(1, count + 1):
                name = f"{role}-{number}"
                (directory / name).mkdir()
                service = Footfall(directory / name, **settings)
                service.set(FOOTFALL__MONITOR__PORT=str(service.port))
                self.services[name] = (service, ("run", role))
        self._log = self._footfall("storage-1")
        self._footfall("storage-2").set(
            FOOTFALL__DATA_DIR=str(self._log.data_dir), FOOTFALL__STORAGE__PATH=str(self._log.visits_log)
        )

    def start(self) -> None:
        """Start all, and wait until all are ready."""
        for server in self.servers.values():
            server.start()
        for service, arguments in self.services.values():
            service.spawn(*arguments)
        for service, _ in self.services.values():
            service.await_ready()

    def kill(self) -> None:
        """End whatever runs."""
        for service, _ in self.services.values():
            service.kill()
        for server in self.servers.values():
            server.kill()

    @property
    def ports(self) -> Sequence[int]:
        return [service.port for service in self._role("collector")]

    def settle(self, timeout_s: float) -> None:
        """Wait until each sink has what all collectors have received; a series leaves more to do than one machine."""

        def accounts() -> list[tuple[int, int]]:
            dealt = []
            for service, sink in [(self._log, "visit_log"), *((one, "database") for one in self._role("processor"))]:
                account = service.ledger()["sinks"][sink]
                dealt.append((account["written"] + sum(account["skipped"].values()), account["pending"]))
            return dealt

        eventually([(self._received(), 0)] * (1 + PROCESSORS), accounts, timeout_s + _SETTLE_S)

    def ledger(self) -> Any:
        sinks = self._log.ledger()["sinks"]
        accounts = [one.ledger()["sinks"]["database"] for one in self._role("processor")]
        assert [accounts[0]] * PROCESSORS == accounts
        return {"received": self._received(), "sinks": {**sinks, "database": accounts[0]}}

    def stop(self) -> int:
        return max(service.stop() for service, _ in self.services.values())

    def output(self) -> str:
        return "\n".join(f"{name}:\n{service.output()}" for name, (service, _) in self.services.items())

    def rows(self, site_id: str) -> list[tuple[str, str | None, str | None]]:
        client = clickhouse_connect.get_client(host="127.0.0.1", port=self._database.port, database=_DATABASE)
        found = client.query(
            "SELECT path, props, referrer FROM events WHERE site_id = {site_id:String}", {"site_id": site_id}
        ).result_rows
        client.close()
        return [(path, props or None, referrer or None) for path, props, referrer in found]

    def lines(self) -> list[str]:
        return self._log.lines()

    def _footfall(self, name: str) -> Footfall:
        return self.services[name][0]

    def _role(self, role: str) -> list[Footfall]:
        return [service for service, arguments in self.services.values() if arguments[1] == role]

    def _received(self) -> int:
        return sum(service.ledger()["received"] for service in self._role("collector"))


class Series(msgspec.Struct, frozen=True):
    """What was done, and what the oracle found."""

    blows: Counter[str]
    figures: Figures


def torment(cluster: Cluster, seconds: float, chance: random.Random) -> Series:
    """Send for so long, while now this and now that is killed or paused; then hold everything against what was sent.

    Raises:
        AssertionError: something was lost, doubled or changed, or did not come back.
    """
    oracle = Oracle(cluster, senders=2 * COLLECTORS)
    blows: Counter[str] = Counter()
    cluster.start()
    with oracle.load():
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(chance.uniform(0.0, _CALM_S))  # the moment is what is tried out
            blows[_strike(cluster, chance)] += 1
        for service, _ in cluster.services.values():
            service.await_ready()
    return Series(blows, oracle.check())


def _strike(cluster: Cluster, chance: random.Random) -> str:
    """Kill one of all, or pause a consumer, and bring it back; say what it was."""
    name = chance.choice([*cluster.servers, *cluster.services])
    if name in cluster.servers:
        cluster.servers[name].kill()
        time.sleep(chance.uniform(0.0, _AWAY_S))
        cluster.servers[name].start()
        return name
    service, arguments = cluster.services[name]
    if arguments[1] != "collector" and chance.random() < 0.3:
        os.killpg(service.process.pid, signal.SIGSTOP)
        time.sleep(chance.uniform(0.5, 1.5) * cluster.max_session_s)
        os.killpg(service.process.pid, signal.SIGCONT)
        return f"{PAUSE} {arguments[1]}"
    service.kill()
    time.sleep(chance.uniform(0.0, _AWAY_S))
    service.spawn(*arguments)
    return arguments[1]


@click.command()
@click.option("--broker", "name", type=click.Choice(sorted(BROKERS)), required=True)
@click.option("--minutes", default=5.0, show_default=True)
def main(name: str, minutes: float) -> None:
    """Torment a cluster and print what was done and found; the figures go to tests/crash/results/ as well."""
    directory = Path(tempfile.mkdtemp(prefix="footfall-cluster-"))
    (directory / "broker").mkdir()
    cluster = Cluster(directory, BROKERS[name].private(directory / "broker"))
    started = datetime.now(UTC)
    try:
        series = torment(cluster, 60 * minutes, random.Random())
    except BaseException:
        click.echo(f"what was written is in {directory}", err=True)
        raise
    finally:
        cluster.kill()
    shutil.rmtree(directory)
    report = {
        "started": started.isoformat(timespec="seconds"),
        "broker": name,
        "minutes": minutes,
        "blows": series.blows,
        # Whatever is lost or doubled ends it with an error.
        "lost": 0,
        "doubled": 0,
        "figures": series.figures,
    }
    _RESULTS.mkdir(exist_ok=True)
    result = _RESULTS / f"{started:%Y-%m-%dT%H%M%S}-{name}.json"
    result.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    click.echo(result.read_text("utf-8"))


if __name__ == "__main__":
    main()
