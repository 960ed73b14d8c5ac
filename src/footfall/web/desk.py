"""Makes reports in threads, a few at a time, so that the event loop stays free for other requests."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, TypeVar

from starlette.concurrency import run_in_threadpool

from footfall.problem import Problem

MAX_REPORTS: Final = 4
"""Reports that are made at the same time; each may use every core."""

_T = TypeVar("_T")

_logger = logging.getLogger(__name__)


class Desk:
    """Where requests wait for their reports.

    Args:
        wait_s: how many seconds a request may wait until others are done.
    """

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._slots = asyncio.Semaphore(MAX_REPORTS)

    async def made(self, make: Callable[[], _T]) -> _T:
        """What `make` returns, which may raise as `Reports.answer`.

        Raises:
            Problem: 503, it can't be made now; or as `make`.
        """
        try:
            async with asyncio.timeout(self._wait_s):
                await self._slots.acquire()
        except TimeoutError:
            raise Problem(503, "Too many reports are being made. Try again later.") from None
        try:
            return await run_in_threadpool(make)
        except TimeoutError:
            raise Problem(503, "The report took too long. Ask for fewer days, or try again later.") from None
        except OSError as error:
            _logger.warning("a report can't be made: %s", error)
            raise Problem(503, "The database can't be reached. Try again later.") from None
        finally:
            self._slots.release()
