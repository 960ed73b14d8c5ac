"""The server of everything but the collector, whose own is faster and does less."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
import uvloop
from starlette.types import ASGIApp

from footfall.supervisor import Lifeline

_GRACE_S = 3
"""For a report that is being made when the stop comes."""


class _Server(uvicorn.Server):
    """Leaves the signals to the lifeline."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(lifeline: Lifeline, app: ASGIApp, listener: socket.socket) -> None:
    """Answer requests until told to stop."""
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = _Server(config)

    def stop() -> None:
        server.should_exit = True

    lifeline.on_stop(stop)
    uvloop.run(server.serve(sockets=[listener]))
