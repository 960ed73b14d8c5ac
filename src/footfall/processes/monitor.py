"""The monitor process: it tells the state of a service that has no other port."""

import socket

from footfall.processes.service_status import service_status
from footfall.processes.web import serve
from footfall.settings import Settings
from footfall.status.access import ReportAccess
from footfall.supervisor import Lifeline
from footfall.web.api import build_monitor


def run(
    lifeline: Lifeline, settings: Settings, roles: tuple[str, ...], access: ReportAccess, listener: socket.socket
) -> None:
    """Answer until told to stop.

    Raises:
        FootfallError: the queue can't be opened.
    """
    with service_status(settings, roles, refusals=access.refusals) as status:
        lifeline.ready()
        serve(lifeline, build_monitor(access=access, status=status), listener)
