"""The relay process: the local queue into a broker."""

from contextlib import closing, suppress
from typing import Final

from footfall.errors import QueueBrokenError, QueueFullError
from footfall.processes.data_dir import RELAY_LOCK, lock, open_queue
from footfall.processes.feeds import open_publisher
from footfall.queue.account import RelayAccount, write_account
from footfall.queue.base import Progress
from footfall.queue.broker.relay import RELAY, Relay
from footfall.queue.broker.tracing import open_tracing
from footfall.queue.consumer import consume
from footfall.queue.local.feed import LocalFeed
from footfall.settings import Settings
from footfall.supervisor import Lifeline

_GATHER_S: Final = 0.25
"""The time from one message to the next. Each becomes an insert into ClickHouse, which prefers few and large ones."""


def run(lifeline: Lifeline, settings: Settings) -> None:
    """Publish until told to stop.

    Raises:
        FootfallError: the queue can't be opened.
    """
    queue = open_queue(settings)

    def fix(progress: Progress, mark: str) -> None:
        try:
            queue.report(RELAY, progress, mark=mark)
        except (QueueFullError, QueueBrokenError) as error:
            raise OSError(str(error)) from error

    def tell(account: RelayAccount) -> None:
        with suppress(OSError):  # the disk is full; the queue reports that
            write_account(settings.data_path, RELAY, account)

    def open_relay() -> Relay:
        return Relay(open_publisher(settings), fix, tell, tracing)

    # Two relays of one queue would publish messages that overlap.
    held = lock(settings, RELAY_LOCK, purpose="the relay of this queue")
    with held, closing(open_tracing(settings.queue.url, RELAY)) as tracing, closing(LocalFeed(queue, RELAY)) as feed:
        consume(feed, open_relay, lifeline.stop, on_assigned=lifeline.ready, gather_s=_GATHER_S)
