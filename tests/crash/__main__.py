"""The long series of kills: `make crash RUNS=1000`."""

import random
import shutil
import statistics
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from crash.drivers import DRIVERS
from crash.kills import Tally, run_rounds
from crash.system_calls import count_calls, kill_at_each, trouble

_ROUNDS = 17
"""Of three kills each, from one check of everything to the next: a failure is near its cause, and memory bounded."""
_RESULTS = Path(__file__).parent / "results"


@click.command()
@click.option("--runs", default=1_000, show_default=True, help="Random kills of each kind.")
@click.option("--system-calls/--no-system-calls", default=True, help="Kill at every system call, too.")
def main(runs: int, *, system_calls: bool) -> None:
    """Kill Footfall in every way, under load, and hold all it has written against what was sent.

    The figures go to tests/crash/results/ as well. The first thing that is lost, doubled or changed ends it; the
    directory is then left as it is.
    """
    started = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="footfall-crash-"))
    report: dict[str, object] = {"started": datetime.now(UTC).isoformat(timespec="seconds"), "runs": runs}
    try:
        if system_calls:
            report["system_calls"] = _kill_at_system_calls(directory)
        report |= _kill_at_random(directory, runs)
        # Whatever was found ends the series, so a series that came to its end has found none.
        report |= {"lost": 0, "doubled": 0}
    except BaseException as error:
        report["failed"] = f"{type(error).__name__}: {error}"
        click.echo(f"\nwhat was written is in {directory}", err=True)
        raise
    else:
        shutil.rmtree(directory)
    finally:
        report["seconds"] = round(time.monotonic() - started)
        _RESULTS.mkdir(exist_ok=True)
        result = _RESULTS / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}.json"
        result.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    click.echo(result.read_text("utf-8"))


def _kill_at_system_calls(directory: Path) -> dict[str, Counter[str]]:
    """How many kills there were, by driver and system call."""
    reason = trouble()
    if reason is not None:
        raise click.ClickException(f"{reason} (or: --no-system-calls)")
    counts = {driver: count_calls(driver, directory) for driver in DRIVERS}
    killed: dict[str, Counter[str]] = {driver: Counter() for driver in DRIVERS}
    with click.progressbar(length=sum(count.total() for count in counts.values()), label="system calls") as bar:
        for driver, calls in counts.items():
            for call in calls:
                for _ in kill_at_each(driver, call, directory):
                    killed[driver][call] += 1
                    bar.update(1)
    return killed


def _kill_at_random(directory: Path, runs: int) -> dict[str, object]:
    tally = Tally()
    chance = random.Random()
    with click.progressbar(length=runs, label="random kills") as bar:
        for done in range(0, runs, _ROUNDS):
            rounds = min(_ROUNDS, runs - done)
            place = directory / f"round-{done}"
            place.mkdir()
            run_rounds(place, rounds, chance, tally)
            shutil.rmtree(place)
            bar.update(rounds)
    return {
        "kills": tally.kills,
        "entries": tally.figures,
        "ready_again_s": {
            part: {"count": len(times), "p50": round(statistics.median(times), 3), "max": round(max(times), 3)}
            for part, times in sorted(tally.restarts_s.items())
        },
    }


if __name__ == "__main__":
    main()
