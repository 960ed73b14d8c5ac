"""Requests by chance for longer than the tests take: `make fuzz MINUTES=5`."""

import tempfile
import time
from pathlib import Path

import click
from hypothesis import HealthCheck, Phase, given, settings

from security.chance import bad_conversations, good_conversations
from security.fuzz import Fuzzed

_EXAMPLES = 200
"""Of each kind, from one look at the clock to the next."""


@click.command()
@click.option("--minutes", default=5.0, show_default=True, help="For how long.")
def main(minutes: float) -> None:
    """Send requests by chance to a collector; the first that it takes wrongly ends it, made as short as it can be."""
    by_chance = settings(
        database=None,
        max_examples=_EXAMPLES,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    started, count = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="footfall-fuzz-") as directory, Fuzzed(Path(directory)) as collector:
        right = by_chance(given(good_conversations())(lambda conversation: collector.check_good(*conversation)))
        wrong = by_chance(given(bad_conversations())(collector.check_bad))
        while time.monotonic() < started + minutes * 60:
            right()
            wrong()
            count += 2 * _EXAMPLES
            click.echo(f"\r{count} conversations, no error", nl=False)
    click.echo()


if __name__ == "__main__":
    main()
