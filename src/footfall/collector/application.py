"""What the server calls for each request."""

from collections.abc import Callable, Mapping
from typing import Protocol

from footfall.collector.message import Request, Response
from footfall.collector.reply import Reply
from footfall.problem import Problem


class Application(Protocol):
    """Answers requests, and must not block."""

    def handle(self, request: Request, reply: Reply) -> None:
        """Answer `request`, now or later."""
        ...

    def max_body_bytes(self, path: bytes) -> int:
        """How long the body of a request to `path` may be."""
        ...

    def streams_body(self, path: bytes) -> bool:  # noqa: ARG002 - for others to use
        """Whether a request to `path` is handled when its head has come, and its body, of any length, as it comes."""
        return False

    def has_room(self, sender: str | None) -> bool:  # noqa: ARG002 - for others to use
        """Whether it takes requests of a client (`rate_limit.sender_of`) now; those that are read, it has to take."""
        return True

    def when_room(self, call: Callable[[], None]) -> None:
        """Call once, when it may have room again for a client for which it had none."""
        del call  # there always is room

    def refuse(self, problem: Problem, path: bytes, headers: Mapping[bytes, bytes]) -> Response:
        """Count a request that can't be read to its end. Returns the answer.

        `path` is empty if it is not known; `headers` are those that have arrived.
        """
        ...
