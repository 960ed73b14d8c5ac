"""The brokers that tests run against: how each is found, opened, started and killed.

A broker is added by a class like `Kafka` and its entry in `BROKERS`. Tests share one that `make services` started, each
with a topic of its own; a test that kills its broker starts one of its own.

As a program, `python -m brokers URL GROUP exclusive|shared`, this is the process of a `Consumer`.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from contextlib import closing, suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import pytest
from pika import BlockingConnection, URLParameters

from footfall.errors import AssignmentLostError
from footfall.queue.broker.drivers import open_subscription
from footfall.queue.broker.rabbitmq.stream import PARTITIONS
from harness import eventually, free_port

ROOT = Path(__file__).parent.parent
EXCLUSIVE = "exclusive"
SHARED = "shared"
GROUPS = ("footfall-visit_log", "footfall-database")


class Broker(Protocol):
    """One broker.

    Attributes:
        max_session_s: a consumer that is silent for this long is taken for dead, with the settings that `url` gives.
    """

    max_session_s: float

    @classmethod
    def shared(cls) -> "Broker":
        """The one that `make services` starts."""
        ...

    @classmethod
    def private(cls, directory: Path) -> "Broker":
        """One of the test's own, with its data in a directory; not started yet."""
        ...

    def is_there(self) -> bool:
        """Whether something listens at its address."""
        ...

    def url(self, topic: str) -> str:
        """What `queue.url` is for a topic; consumers that die are soon missed there."""
        ...

    def drop(self, topic: str) -> None:
        """Delete what a test made."""
        ...

    def start(self) -> None:
        """Start it, again with the data it had, and wait until it answers. Private ones only."""
        ...

    def freeze(self) -> None:
        """SIGSTOP it: connections stay, and nothing is answered any more. Private ones only."""
        ...

    def kill(self) -> None:
        """SIGKILL it, if it runs, and wait until it has gone. Private ones only."""
        ...


class Kafka:
    max_session_s = 2.0

    def __init__(self, address: str, directory: Path | None = None) -> None:
        self._address = address
        self._directory = directory

    @classmethod
    def shared(cls) -> "Kafka":
        return cls(os.environ.get("FOOTFALL_TEST_KAFKA", "127.0.0.1:9092"))

    @classmethod
    def private(cls, directory: Path) -> "Kafka":
        return cls(f"127.0.0.1:{free_port()}", directory)

    def is_there(self) -> bool:
        return is_listening(self._address)

    def url(self, topic: str) -> str:
        return f"kafka://{self._address}/{topic}?session.timeout.ms=2000&heartbeat.interval.ms=300"

    def drop(self, topic: str) -> None:
        """Topics that nobody uses cost next to nothing."""

    def start(self) -> None:
        environment = {"FOOTFALL_TEST_KAFKA": self._address, "FOOTFALL_TEST_KAFKA_DIR": str(self._directory)}
        run_service("services-kafka", environment)

    def freeze(self) -> None:
        assert self._directory is not None
        os.kill(int((self._directory / "pid").read_text()), signal.SIGSTOP)

    def kill(self) -> None:
        assert self._directory is not None
        pid = self._directory / "pid"
        if pid.exists():
            os.kill(int(pid.read_text()), signal.SIGKILL)
            pid.unlink()
            eventually(False, self.is_there)


class RabbitMQ:
    max_session_s = 2.0

    def __init__(self, address: str, directory: Path | None = None) -> None:
        self._address = address
        self._directory = directory

    @classmethod
    def shared(cls) -> "RabbitMQ":
        return cls(os.environ.get("FOOTFALL_TEST_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672/"))

    @classmethod
    def private(cls, directory: Path) -> "RabbitMQ":
        return cls(f"amqp://guest:guest@127.0.0.1:{free_port()}/", directory)

    def is_there(self) -> bool:
        return is_listening(urlsplit(self._address).netloc.rpartition("@")[2])

    def url(self, topic: str) -> str:
        return f"{self._address}?name={topic}&heartbeat=1"

    def drop(self, topic: str) -> None:
        with closing(BlockingConnection(URLParameters(self._address))) as connection:
            channel = connection.channel()
            for partition in range(PARTITIONS):
                channel.queue_delete(f"{topic}-{partition}")
                for group in GROUPS:
                    channel.queue_delete(f"{topic}.{group}.resume-{partition}")

    def start(self) -> None:
        run_service("services-rabbitmq", self._environment())
        if not self._notes_streams():
            # RabbitMQ 3.10 loses all its streams when it is killed within 5 s after it made the first one ever, for so
            # long it does not note that it has any.
            with closing(BlockingConnection(URLParameters(self._address))) as connection:
                connection.channel().queue_declare("first", durable=True, arguments={"x-queue-type": "stream"})
            eventually(True, self._notes_streams)

    def _notes_streams(self) -> bool:
        assert self._directory is not None
        names = self._directory.glob("data/*/coordination/*/names.dets")
        return any(b"rabbit_stream_coordinator" in file.read_bytes() for file in names)

    def freeze(self) -> None:
        assert self._directory is not None
        os.kill(int((self._directory / "pid").read_text()), signal.SIGSTOP)

    def kill(self) -> None:
        assert self._directory is not None
        pid = self._directory / "pid"
        if pid.exists():
            os.kill(int(pid.read_text()), signal.SIGKILL)
            eventually(False, self.is_there)
            run_service("services-rabbitmq", self._environment(), "stop")  # what else belongs to it

    def _environment(self) -> dict[str, str]:
        return {"FOOTFALL_TEST_RABBITMQ": self._address, "FOOTFALL_TEST_RABBITMQ_DIR": str(self._directory)}


BROKERS: dict[str, type[Broker]] = {"kafka": Kafka, "rabbitmq": RabbitMQ}
"""By name; `make services` brings each."""


def require(name: str) -> Broker:
    """The shared broker of that name; the test is skipped where there is none, but not in CI."""
    broker = BROKERS[name].shared()
    if not broker.is_there() and os.environ.get("CI") != "true":
        pytest.skip(f"needs {name}: make services")
    assert broker.is_there(), f"CI has no {name}: make services"
    return broker


def some_topic() -> str:
    """One that nobody else has."""
    return f"test-{uuid.uuid4().hex[:12]}"


def is_listening(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def run_service(script: str, environment: dict[str, str], *arguments: str) -> None:
    """Run a script of `deploy/`; what it said explains a failure."""
    ran = subprocess.run(
        [ROOT / "deploy" / script, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


class Consumer:
    """A consumer in a process of its own, which never says where the next one may begin."""

    def __init__(self, directory: Path, url: str, group: str, *, is_exclusive: bool) -> None:
        self._output = directory / f"consumer-{uuid.uuid4().hex}"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "brokers", url, group, EXCLUSIVE if is_exclusive else SHARED],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=Path(__file__).parent,
            )

    def has_assignment(self) -> bool:
        return _ASSIGNED in self._lines()

    def read(self) -> list[str]:
        """The values that it has got in its present assignment; none without one."""
        lines = self._lines()
        since = max((number for number, line in enumerate(lines) if line in {_ASSIGNED, _OVER}), default=len(lines))
        return [line.removeprefix(_VALUE) for line in lines[since:] if line.startswith(_VALUE)]

    def warnings(self) -> list[str]:
        return [line for line in self._lines() if line.startswith("WARNING")]

    def close(self) -> None:
        """Let it end as a service ends."""
        self._process.terminate()
        assert 0 == self._process.wait(30), self._output.read_text()

    def freeze(self) -> None:
        """Leave it as a machine does that is gone from the network: connected, and silent."""
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _lines(self) -> list[str]:
        return self._output.read_text().splitlines()


_ASSIGNED = "assigned"
_OVER = "over"
_VALUE = "value "


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _consume(url: str, group: str, how: str) -> None:
    logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with closing(open_subscription(url, group, is_exclusive=how == EXCLUSIVE)) as subscription:
        while subscription.wait_for_assignment(stop):
            _say(_ASSIGNED)
            with suppress(AssignmentLostError):
                while not stop.is_set():
                    for message in subscription.poll(0.1, is_full=False):
                        _say(f"{_VALUE}{message.value.decode()}")
            _say(_OVER)


if __name__ == "__main__":
    _consume(*sys.argv[1:])
