"""Servers in processes of their own, and what they take of the machine."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx

_START_S: Final = 20.0
_STOP_S: Final = 15.0
_SETTLE_S: Final = 300.0

_NGINX: Final = """
daemon off;
worker_processes 1;
pid nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log access.log combined;
    keepalive_requests 1000000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{ listen 127.0.0.1:{port}; location / {{ empty_gif; }} }}
}}
"""
"""Without `buffer=` each line of the access log is written as its request is answered."""


class Server:
    """A tree of processes that answers HTTP.

    Attributes:
        url: where.
        directory: its working directory; the visits log is in it.
        client: for requests to it.
        first_answer_s: from its start until it had answered a hit.
    """

    def __init__(self, url: str, directory: Path, client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
        started = time.monotonic()
        self.url = url
        self.directory = directory
        self.client = client
        self._process = process
        self._await("/track")
        self.first_answer_s = time.monotonic() - started
        self._await("/readyz")

    def pids(self) -> list[int]:
        """All its processes, parents first, children in the order in which they were made."""
        found = [self._process.pid]
        for pid in found:
            found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split())
        return found

    def cpu_ns(self) -> list[int]:
        """Processor time so far, of each process in `pids`.

        The first number in `schedstat` is a thread's: https://docs.kernel.org/scheduler/sched-stats.html.
        """
        return [
            sum(int(file.read_text("ascii").split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat"))
            for pid in self.pids()
        ]

    def memory_bytes(self, kind: str) -> int:
        """Resident memory of all processes: `Rss`, or `Pss`, which divides shared pages among those who share them."""
        texts = [Path(f"/proc/{pid}/smaps_rollup").read_text("ascii") for pid in self.pids()]
        return sum(int(kib) * 1024 for text in texts for kib in re.findall(rf"^{kind}:\s+(\d+) kB", text, re.MULTILINE))

    def get(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 - what an endpoint answers is any JSON
        return self.client.get(path, params=parameters).raise_for_status().json()

    def settle(self) -> float:
        """Wait until the ledger has nothing pending; return the seconds that took."""
        started = time.monotonic()
        while any(sink["pending"] for sink in self.get("/ledger")["sinks"].values()):
            if time.monotonic() - started > _SETTLE_S:
                raise TimeoutError(f"still pending after {_SETTLE_S:.0f} s")
            time.sleep(0.1)
        return time.monotonic() - started

    def _await(self, path: str) -> None:
        deadline = time.monotonic() + _START_S
        while True:
            try:
                if self.client.get(path).is_success:
                    return
            except httpx.TransportError:
                if self._process.poll() is not None:
                    raise
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.url}{path} does not answer")
            time.sleep(0.005)


@contextmanager
def footfall(*arguments: str, **settings: str) -> Iterator[Server]:
    """`footfall` with these arguments, ready to work, with its defaults but for the places of its files and `settings`.

    Settings are given as variables.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FOOTFALL__")}
    environment |= settings
    with TemporaryDirectory() as directory:
        port = free_port()
        environment["FOOTFALL__COLLECTOR__PORT"] = str(port)
        environment["FOOTFALL__STORAGE__PATH"] = "visits.log"
        with _running([sys.executable, "-m", "footfall", *arguments], Path(directory), port, environment) as server:
            yield server


@contextmanager
def nginx() -> Iterator[Server]:
    """An nginx that answers everything with its `empty_gif` and writes its access log as it goes."""
    with TemporaryDirectory() as directory:
        port = free_port()
        Path(directory, "nginx.conf").write_text(_NGINX.format(port=port), "utf-8")
        command = [which("nginx") or "nginx", "-p", directory, "-c", "nginx.conf", "-e", "error.log"]
        with _running(command, Path(directory), port, os.environ) as server:
            yield server


@contextmanager
def uvicorn() -> Iterator[Server]:
    """One process of uvicorn, on httptools and uvloop as the collector is, that records nothing."""
    with TemporaryDirectory() as directory:
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", "bench.asgi_image:app", "--port", str(port)]
        command += ["--http", "httptools", "--loop", "uvloop", "--lifespan", "off", "--no-access-log"]
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
        with _running(command, Path(directory), port, {**os.environ, "PYTHONPATH": path}) as server:
            yield server


def which(program: str) -> str | None:
    """Where a program is. Debian has nginx where only root's path leads."""
    return shutil.which(program) or shutil.which(program, path="/usr/local/sbin:/usr/sbin")


@contextmanager
def _running(command: list[str], directory: Path, port: int, environment: Mapping[str, str]) -> Iterator[Server]:
    url = f"http://127.0.0.1:{port}"
    log = directory / "output.log"
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client, log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            yield Server(url, directory, client, process)
        except Exception:
            sys.stderr.write(log.read_text("utf-8", "replace"))
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
