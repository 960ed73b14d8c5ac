"""The long series of kills: `make crash RUNS=1000`."""

import os
import random
import shutil
import statistics
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from crash.drivers import DRIVERS
from crash.kills import Tally, run_rounds
from crash.system_calls import every_place, kill_at, trouble

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
        report["failed"] = [f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())]
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
    places = [place for driver in DRIVERS for place in every_place(driver, directory)]
    killed: dict[str, Counter[str]] = {driver: Counter() for driver in DRIVERS}
    reached: dict[tuple[str, str], bool] = {}
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        click.progressbar(length=len(places), label="system calls") as bar,
    ):
        for place, is_killed in zip(places, pool.map(lambda place: kill_at(place, directory), places), strict=True):
            killed[place.driver][place.call] += is_killed
            reached[place.driver, place.call] = is_killed
            bar.update(1)
    assert not any(reached.values()), f"some work went on longer than it did undisturbed: {reached}"
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
