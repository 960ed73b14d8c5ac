"""Answers that are held back, so that whoever tries tokens has to wait."""

import asyncio

from footfall.collector.message import Response
from footfall.collector.reply import Reply
from footfall.status.access import MAX_DELAYED


class LateReplies:
    """Holds back a bounded number of answers; more are sent at once."""

    def __init__(self) -> None:
        self._waiting = 0

    def send(self, response: Response, reply: Reply, delay_s: float) -> None:
        """Send `response` after `delay_s` seconds."""
        if not delay_s or self._waiting >= MAX_DELAYED:
            reply.send(response)
            return

        def send() -> None:
            self._waiting -= 1
            reply.send(response)

        reply.alone = True
        self._waiting += 1
        asyncio.get_running_loop().call_later(delay_s, send)
