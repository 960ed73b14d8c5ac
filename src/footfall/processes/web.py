"""Serves reports, or the state of a service, until the process is told to stop."""

import socket

import uvloop
from starlette.types import ASGIApp

from footfall.processes.file_limit import raise_file_limit
from footfall.supervisor import Lifeline
from footfall.web.server import MAX_CONNECTIONS, Server


def serve(lifeline: Lifeline, app: ASGIApp, listener: socket.socket) -> None:
    """Answer requests until told to stop."""
    server = Server(app, max_connections=raise_file_limit(MAX_CONNECTIONS))

    def stop() -> None:
        server.should_exit = True

    lifeline.on_stop(stop)
    uvloop.run(server.serve(sockets=[listener]))
