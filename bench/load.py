"""Full speed from wrk: 64 connections that each send the next request when the last one is answered."""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
from bench.server import which
from msgspec import Struct

Request = tuple[str, str]
"""The path, and the script that has wrk send the rest."""

_SCRIPT: Final = """
wrk.headers["Referer"] = "https://shop.example/pricing"
wrk.headers["User-Agent"] = "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:139.0) Gecko/20100101 Firefox/139.0"
done = function(summary, latency)
    local errors = summary.errors
    print(string.format(
        '{"requests":%d,"seconds":%f,"p50_ms":%f,"p99_ms":%f,"failed":%d}',
        summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""
_POST: Final = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [[{"site_id":"shop.example","event_type":"page_view","path":"/pricing","user_id":"user-42",
"referrer":"https://news.example/","props":{"plan":"free"}}]]
"""
PIXEL: Final = "/track?site_id=shop.example", _SCRIPT
EVENT: Final = "/event", _SCRIPT + _POST


class Load(Struct, frozen=True):
    """What wrk saw; `failed` counts the answers that were no success, too."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    failed: int

    @property
    def per_s(self) -> float:
        return self.requests / self.seconds


def missing(*programs: str) -> str:
    """Which of the programs are not installed, and what to do about it; the empty text when all are."""
    absent = [program for program in programs if which(program) is None]
    return f"{' and '.join(absent)} not found; apt-get install nginx wrk" if absent else ""


def send(url: str, request: Request, seconds: int) -> Load:
    """Send the request again and again.

    Raises:
        RuntimeError: some failed, so that the figures would say nothing.
    """
    path, script = request
    with TemporaryDirectory() as directory:
        file = Path(directory, "wrk.lua")
        file.write_text(script, "utf-8")
        command = [which("wrk") or "wrk", "-t1", "-c64", f"-d{seconds}s", "--latency", "-s", str(file), url + path]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    load = msgspec.json.decode(output.splitlines()[-1], type=Load)
    if load.failed:
        raise RuntimeError(f"{load.failed} of {load.requests} requests to {path} failed")
    return load
