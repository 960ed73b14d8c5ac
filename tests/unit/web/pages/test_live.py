"""Streams that tell pages what is new."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

import pytest

from footfall.database.query import Figures, Query
from footfall.database.reports import Reports
from footfall.problem import Problem
from footfall.web.desk import Desk
from footfall.web.pages.live import MAX_STREAMS, Live

NOW = datetime(2026, 11, 25, 12)  # noqa: DTZ001 - databases hold UTC without saying so


class TwoVisitors(Reports):
    """A database in which two visitors are on every site."""

    def answer(self, queries: Sequence[Query]) -> list[list[Figures]]:
        return [[Figures((), (2,))] for _ in queries]

    def first_events(self, site_id: str | None = None) -> dict[str, datetime]:  # noqa: ARG002 - any
        return {"shop": NOW}

    def trouble(self) -> str | None:
        return None


def live() -> Live:
    return Live(TwoVisitors(), Desk(wait_s=5), lambda: NOW)


def test_a_stream_begins_with_who_is_here() -> None:
    """The first message has the figure, as server-sent events are written."""

    async def first_message() -> bytes:
        return await anext(live().visitors("shop"))

    assert asyncio.run(first_message()) == b'event: now\ndata: {"visitors":2}\n\n'


def test_the_first_site_ends_the_wait() -> None:
    """There is one message, and the stream is over."""

    async def messages() -> list[bytes]:
        return [message async for message in live().first()]

    assert asyncio.run(messages()) == [b'event: first\ndata: {"sites":1}\n\n']


def test_more_pages_than_can_be_followed_are_refused_before_their_answers_begin() -> None:
    """So they get a status that says it, and one has room again when another one goes."""

    async def follow() -> None:
        followed = live()
        streams = [followed.visitors("shop") for _ in range(MAX_STREAMS)]
        for stream in streams:
            await anext(stream)
        with pytest.raises(Problem, match="Too many pages"):
            followed.visitors("shop")
        await streams[0].aclose()  # type: ignore[attr-defined] # it is a generator
        await anext(followed.visitors("shop"))

    asyncio.run(follow())
