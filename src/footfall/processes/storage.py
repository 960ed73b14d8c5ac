"""The storage's process: the queue into the visits log."""

from pathlib import Path

from footfall.config import Settings
from footfall.consumer import Consumer
from footfall.processes.parts import give_way, open_queue
from footfall.sinks.visit_log import VisitLog
from footfall.supervisor import Lifeline


def run(lifeline: Lifeline, settings: Settings) -> None:
    """Write the visits log until told to stop.

    Raises:
        FootfallError: the log can't be opened, or another storage has it.
    """
    give_way()
    sink = VisitLog(Path(settings.storage.path), settings.data_path)
    queue = open_queue(settings)
    consumer = Consumer(queue, sink)
    try:
        consumer.resume()
        lifeline.ready()
        consumer.run(lifeline.stop)
    finally:
        sink.close()
        queue.close()
