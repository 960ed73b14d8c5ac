"""The storage process: the queue into the visits log."""

from contextlib import closing
from pathlib import Path

from footfall.processes.data_dir import STORAGE_PRESENCE, presence
from footfall.processes.feeds import open_feed
from footfall.queue.broker.tracing import open_tracing
from footfall.queue.consumer import consume
from footfall.queue.sink import VISIT_LOG
from footfall.settings import Settings
from footfall.supervisor import Lifeline
from footfall.visit_log.redaction import line_format
from footfall.visit_log.writer import VisitLog


def run(lifeline: Lifeline, settings: Settings) -> None:
    """Write the visits log until told to stop.

    Raises:
        FootfallError: the log can't be opened, or another storage has it.
    """

    def open_log() -> VisitLog:
        return VisitLog(
            Path(settings.storage.path),
            settings.data_path,
            is_told=not settings.queue.is_broker,
            line_format=line_format(settings.storage.addresses, settings.storage.referrer_queries),
        )

    with (
        presence(settings, STORAGE_PRESENCE),
        closing(open_tracing(settings.queue.url, VISIT_LOG)) as tracing,
        closing(open_feed(settings, VISIT_LOG, is_exclusive=True)) as feed,
    ):
        if settings.queue.is_broker:
            lifeline.ready()  # a storage that stands by while another writes is ready, too
        consume(feed, open_log, lifeline.stop, on_assigned=lifeline.ready, tracing=tracing)
