"""The process that answers for the state of a service which has no other port."""

import socket

from footfall.config import Settings
from footfall.gate import Gate
from footfall.processes.parts import observer
from footfall.processes.web import serve
from footfall.reporting.api import build_monitor
from footfall.supervisor import Lifeline


def run(lifeline: Lifeline, settings: Settings, roles: tuple[str, ...], gate: Gate, listener: socket.socket) -> None:
    """Answer until told to stop.

    Raises:
        FootfallError: the queue can't be opened.
    """
    with observer(settings, roles) as observing:
        lifeline.ready()
        serve(lifeline, build_monitor(gate=gate, observer=observing), listener)
