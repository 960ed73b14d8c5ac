"""A real Footfall in processes of its own, for tests."""

import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import httpx
import pytest

from footfall.database.clickhouse.open import open_clickhouse

_T = TypeVar("_T")

_COMMITTED_S = 0.15
"""For a hit that was answered so long ago every timer has expired: if it is not committed, somebody works at that."""
START_S = 60.0
"""What a start may take on a machine that is busy with other tests."""
ANSWER_S = 30.0
"""What an answer may take there."""
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""httpx would read the machine's certificates for each request: 20 ms of a processor, and tests ask again and again."""
IS_TIMED = os.environ.get("FOOTFALL_TEST_TIMED") == "1"
"""The machine does nothing else, so a promise about time is asserted, too: `make test-timed`."""


def free_port() -> int:
    """A port that nobody listens on, and that no connection is given: those come from 32,768 on."""
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", random.randint(10_000, 32_000)))
            except OSError:
                continue
            port: int = probe.getsockname()[1]
            return port


def eventually(expected: _T, actual: Callable[[], _T], timeout_s: float = 10.0) -> None:
    """Assert that `actual()` becomes `expected` in time, and show what it was instead."""
    deadline = time.monotonic() + timeout_s
    while (value := actual()) != expected and time.monotonic() < deadline:
        time.sleep(0.02)
    assert expected == value


class Footfall:
    """`footfall` with settings and a working directory of its own.

    Attributes:
        directory: the working directory; `data` and the visits log are in it.
        visits_log: where the visits log is.
        url: the collector's address.
        ports: the same, for `oracle.System`.
    """

    def __init__(self, directory: Path, **environment: str) -> None:
        self.directory = directory
        self.visits_log = directory / "visits.log"
        self.data_dir = directory / "data"
        self.port = free_port()
        self.ports: Sequence[int] = [self.port]
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = {
            "FOOTFALL__COLLECTOR__PORT": str(self.port),
            "FOOTFALL__STORAGE__PATH": str(self.visits_log),
            "FOOTFALL__DATA_DIR": str(self.data_dir),
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._log = directory / "footfall.log"

    def set(self, **environment: str) -> "Footfall":
        """Change settings of the next start."""
        self._environment |= environment
        return self

    def unset(self, *variables: str) -> "Footfall":
        """Give settings their defaults back, for the next start."""
        for variable in variables:
            del self._environment[variable]
        return self

    def start(self, *arguments: str) -> "Footfall":
        """Start `footfall serve`, or what `arguments` say, and wait until it is ready."""
        self.spawn(*arguments)
        self.await_ready()
        return self

    def await_ready(self) -> None:
        """Wait until what was spawned works."""
        deadline = time.monotonic() + START_S
        while not self._is_ready():
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.02)

    def spawn(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start it without waiting."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "footfall", *(arguments or ("serve",))],
                cwd=self.directory,
                env=self.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        return self._process

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "footfall", *arguments],
            cwd=self.directory,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FOOTFALL__")}
        return {**kept, **self._environment}

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def output(self) -> str:
        return self._log.read_text("utf-8") if self._log.exists() else ""

    def stop(self) -> int:
        """Ask it to stop; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_S)

    def kill(self) -> None:
        """SIGKILL to every process of it at once."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def get(self, path: str, **parameters: str) -> Any:
        response = httpx.get(self.url + path, params=parameters, timeout=ANSWER_S, verify=_NO_TLS)
        assert response.status_code == httpx.codes.OK, response.text
        return response.json()

    def stats(self, site_id: str, **parameters: str) -> Any:
        return self.get("/stats", site_id=site_id, **parameters)

    def ledger(self) -> Any:
        return self.get("/ledger")

    def settle(self, timeout_s: float = 20.0) -> None:
        """Wait until every sink has dealt with everything received.

        A hit is answered some milliseconds before it is committed. So nothing may have come in for a while, either, and
        no process may be at work: on a busy machine one may wait for a processor, or for the disk, with the hit.
        """
        received, since = -1, 0.0

        def pending() -> int:
            nonlocal received, since
            if time.monotonic() < since + _COMMITTED_S or not is_at_rest(self.process.pid):
                return -1
            ledger = self.ledger()
            if ledger["received"] != received:
                received, since = ledger["received"], time.monotonic()
                return -1
            return sum(sink["pending"] for sink in ledger["sinks"].values())

        eventually(0, pending, timeout_s)

    def lines(self) -> list[str]:
        """The visits log, line by line, those of rotated files first."""
        logs = [path for path in self.directory.glob(f"{self.visits_log.name}*") if path.suffix != ".lock"]
        logs.sort(key=lambda path: (path == self.visits_log, path.name))
        return [line for log in logs for line in log.read_text("utf-8").split("\n")[:-1]]

    def rows(self, site_id: str) -> list[tuple[str, str | None, str | None]]:
        """Path, props and referrer of each row in the database; no process of this has DuckDB's open."""
        if (url := self._environment.get("FOOTFALL__DATABASE__URL")) is not None:
            with closing(open_clickhouse(url)) as server:
                found = server.query(
                    f"SELECT path, props, referrer FROM {server.name}.events WHERE site_id = {{site_id:String}}",
                    {"site_id": site_id},
                )
            return [(path, props or None, referrer or None) for path, props, referrer in found]
        with duckdb.connect(self.data_dir / "footfall.duckdb", read_only=True) as database:
            return database.execute("SELECT path, props, referrer FROM events WHERE site_id = ?", [site_id]).fetchall()

    def holder(self, lock: str) -> int:
        """The process that holds a lock of `data_dir`, such as `visit_log.lock`."""
        return int((self.data_dir / lock).read_text("utf-8").split()[1])

    def post(self, **event: object) -> httpx.Response:
        event = {"site_id": "a", "event_type": "page_view", **event}
        return httpx.post(self.url + "/event", json=event, timeout=ANSWER_S, verify=_NO_TLS)

    def raw(self, request: bytes) -> bytes:
        """Send bytes as they are; what came back until the connection closed or went quiet."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(request)
            return read_answer(connection)

    def _is_ready(self) -> bool:
        try:
            return httpx.get(self.url + "/readyz", timeout=2, verify=_NO_TLS).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False


def is_at_rest(pid: int) -> bool:
    """Whether no thread of a process and its children runs, waits to run, or waits for a disk."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        states = {(task / "stat").read_text("ascii", "replace").rpartition(")")[2].split()[0] for task in tasks}
        children = [int(child) for task in tasks for child in (task / "children").read_text("ascii").split()]
    except (FileNotFoundError, ProcessLookupError):
        return False  # one has ended meanwhile
    return states.isdisjoint("RD") and all(is_at_rest(child) for child in children)


def read_answer(connection: socket.socket) -> bytes:
    """One HTTP answer: its head, and as much body as it says."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        part = connection.recv(65_536)
        if not part:
            return answer
        answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while lengths and len(body) < int(lengths[0]):
        part = connection.recv(65_536)
        if not part:
            break
        body += part
    return head + b"\r\n\r\n" + body


def write_settings(directory: Path, settings: object) -> None:
    (directory / "appsettings.json").write_text(json.dumps(settings), "utf-8")


def needs_tool(name: str, package: str) -> pytest.MarkDecorator:
    """Skip, by name, where a program is missing; where all should be there (`CI=true`) the test fails instead."""
    is_missing = shutil.which(name) is None and os.environ.get("CI") != "true"
    return pytest.mark.skipif(is_missing, reason=f"needs {name}: apt-get install {package}")
