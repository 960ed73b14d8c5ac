"""`python -m bench`: runs the benchmarks and prints their tables; docs/benchmarks.md says what they mean."""

import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from bench import acknowledgement, brokers, footprint, freshness, http_cost, sinks
from bench.table import Plan, Step, Table
from msgspec import Struct

_QUICK = Plan(rounds=1, sink_calls=15, commits=100, load_s=2, samples=6, fresh_load_s=4, idle_s=2.0)
_RESULTS = Path(__file__).parent / "results"


class _Bench(Struct, frozen=True):
    steps: Callable[[Plan], int]
    run: Callable[[Plan, Step], Table]


_BENCHES = {
    "sinks": _Bench(sinks.steps, sinks.run),
    "acknowledgement": _Bench(acknowledgement.steps, acknowledgement.run),
    "footprint": _Bench(footprint.steps, footprint.run),
    "freshness": _Bench(freshness.steps, freshness.run),
    "http": _Bench(http_cost.steps, http_cost.run),
    "brokers": _Bench(brokers.steps, brokers.run),
}


class _Run(Struct, frozen=True):
    """What goes into a file of bench/results."""

    started: datetime
    machine: str
    plan: Plan
    tables: list[Table]


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1, type=click.Choice(list(_BENCHES)))
@click.option("--quick", is_flag=True, help="Less than a minute; the figures are rougher.")
def main(names: tuple[str, ...], *, quick: bool) -> None:
    """Run all benchmarks, or those named: sinks, acknowledgement, footprint, freshness, http, brokers.

    Figures are reported, not asserted: the exit code is 1 when a bench broke, else 0, whether its targets are met or
    not.
    """
    # Raised as an exception, so that every server is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    plan = _QUICK if quick else Plan()
    chosen = {name: bench for name, bench in _BENCHES.items() if name in names or not names}
    record = _Run(datetime.now(UTC), _machine(), plan, [])
    broken = []
    length = sum(bench.steps(plan) for bench in chosen.values())
    with click.progressbar(length=length, label="Benchmarks", file=sys.stderr) as bar:
        for name, bench in chosen.items():
            try:
                record.tables.append(bench.run(plan, lambda: bar.update(1)))
            except Exception:  # noqa: BLE001 - the others can run all the same
                traceback.print_exc()
                broken.append(name)
    click.echo(f"{record.started:%Y-%m-%d %H:%M} UTC{', quick' if quick else ''}. {record.machine}.")
    for table in record.tables:
        click.echo(f"\n{table.text()}")
    _RESULTS.mkdir(exist_ok=True)
    file = _RESULTS / f"{record.started:%Y%m%dT%H%M%SZ}.json"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(record)))
    if broken:
        sys.exit(f"broken: {', '.join(broken)}")


def _machine() -> str:
    """What the figures depend on most."""
    model = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    files = subprocess.run(
        ["stat", "--file-system", "--format=%T", tempfile.gettempdir()], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    return (
        f"{os.cpu_count()} processors ({model[1] if model else platform.machine()}), "
        f"Linux {platform.release().partition('-')[0]}, Python {platform.python_version()}, temporary files on {files}"
    )


if __name__ == "__main__":
    main()
