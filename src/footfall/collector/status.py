"""Answers about the state of this service. One is made at a time, for everybody who asked during the one before."""

import asyncio
import logging
from typing import Final

from footfall.collector.message import NOSNIFF, Request, Response
from footfall.collector.reply import Reply
from footfall.errors import FootfallError
from footfall.problem import Problem
from footfall.status.service import PATHS, ServiceStatus

_ANSWERS_A_TURN: Final = 100
"""How many are sent in one turn of the event loop."""

_UNKNOWN = Response.of(Problem(503, "The state of this service can't be read at the moment."))

_log = logging.getLogger(__name__)


class StatusReplies:
    """Answers requests for `footfall.status.service.PATHS`.

    Args:
        status: makes the answers, in a thread, because most of them wait for the disk.
    """

    def __init__(self, status: ServiceStatus) -> None:
        self._status = status
        self._asked: dict[str, list[Reply]] = {path: [] for path in PATHS}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def answer(self, request: Request, reply: Reply) -> None:
        path = request.path.decode("latin-1")
        if path == "/healthz":  # which waits for nothing
            reply.send(self._response(path))
            return
        reply.alone = True
        self._asked[path].append(reply)
        if path not in self._tasks:
            self._tasks[path] = asyncio.get_running_loop().create_task(self._answer_all(path))

    async def _answer_all(self, path: str) -> None:
        while asked := self._asked[path]:
            self._asked[path] = []
            response = await asyncio.to_thread(self._response, path)
            for number, reply in enumerate(asked, start=1):
                reply.send(response)
                if number % _ANSWERS_A_TURN == 0:
                    await asyncio.sleep(0)
        del self._tasks[path]

    def _response(self, path: str) -> Response:
        try:
            answer = self._status.answer(path)
        except FootfallError as error:
            _log.error("%s can't be answered: %s", path, error)
            return _UNKNOWN
        except Exception:  # noqa: BLE001 - nobody must wait for an answer that does not come
            _log.exception("unexpected error, please report it")
            return _UNKNOWN
        return Response(answer.status, answer.body, answer.content_type, {**NOSNIFF, "cache-control": "no-store"})
