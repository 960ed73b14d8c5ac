"""How much is measured."""

from collections.abc import Callable

from msgspec import Struct

Step = Callable[[], None]
"""Called after each part of a bench, for the progress bar."""


class Plan(Struct, frozen=True):
    """What a run consists of.

    Attributes:
        rounds: how often each figure is taken; the table shows the median.
        sink_calls: `write` calls a round.
        commits: how many of each size.
        load_s: how long each HTTP load lasts.
        samples: freshness while idle, how often.
        fresh_load_s: how long the load lasts under which freshness is taken.
        idle_s: from a start until its memory is looked at.
    """

    rounds: int = 3
    sink_calls: int = 40
    commits: int = 300
    load_s: int = 5
    samples: int = 20
    fresh_load_s: int = 10
    idle_s: float = 5.0


FULL = Plan()
QUICK = Plan(rounds=1, sink_calls=15, commits=100, load_s=2, samples=6, fresh_load_s=4, idle_s=2.0)
