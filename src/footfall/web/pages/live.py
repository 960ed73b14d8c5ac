"""Who is here now, as it changes: server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import datetime
from typing import Final

import msgspec

from footfall.database.query import Query
from footfall.database.reports import Reports
from footfall.problem import Problem
from footfall.web.desk import Desk
from footfall.web.pages.site import LIVE

EVERY_S: Final = 5
FIRST_EVERY_S: Final = 1
"""A person who waits for the first hit looks at the page."""
MAX_STREAMS: Final = 50
"""Pages that are followed at the same time."""
_LENGTH: Final = 720
"""A stream ends after so many messages, an hour; the browser then opens another."""


class Live:
    """Streams that tell pages what is new.

    Args:
        reports: reads the figures.
        desk: has them made.
        now: what time it is, UTC without a zone.
    """

    def __init__(self, reports: Reports, desk: Desk, now: Callable[[], datetime]) -> None:
        self._reports = reports
        self._desk = desk
        self._now = now
        self._streams = 0

    def visitors(self, site_id: str) -> AsyncIterator[bytes]:
        """How many visitors are on a site, whenever that changes.

        Raises:
            Problem: 503, too many pages are followed.
        """

        def count() -> object:
            query = Query(site_id=site_id, metrics=("visitors",), start=self._now() - LIVE)
            return self._reports.answer([query])[0][0].metrics[0]

        self._check_room()
        return self._changes("now", lambda: {"visitors": count()}, EVERY_S)

    def first(self) -> AsyncIterator[bytes]:
        """A message as soon as there is a site; raises as `visitors`."""
        self._check_room()
        return self._until_first()

    async def _until_first(self) -> AsyncIterator[bytes]:
        async for message in self._changes(
            "first", lambda: {"sites": len(self._reports.first_events())}, FIRST_EVERY_S
        ):
            if b'"sites":0' not in message:
                yield message
                return
            yield b":\n\n"  # a comment, so that a connection that is gone is noticed

    def _check_room(self) -> None:
        if self._streams >= MAX_STREAMS:
            raise Problem(503, "Too many pages are being followed. This one does not change by itself.")

    async def _changes(self, name: str, make: Callable[[], dict[str, object]], every_s: float) -> AsyncIterator[bytes]:
        self._streams += 1
        try:
            last: dict[str, object] | None = None
            for _ in range(_LENGTH):
                found = last
                with suppress(Problem):  # of a busy moment; the next one may be better
                    found = await self._desk.made(make)
                if found is not None and (found != last or name == "first"):
                    yield b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(found))
                else:
                    yield b":\n\n"
                last = found
                await asyncio.sleep(every_s)
        finally:
            self._streams -= 1
