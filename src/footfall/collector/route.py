"""What a protocol declares about each of its paths. Neither the server nor `endpoints` knows a path.

A protocol says how a request becomes entries, and how each outcome looks to its clients. `endpoints` does what all
protocols have in common: methods, content types, compressed bodies, CORS, prefetching, the rules for what is taken, the
queue and the ledger.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from footfall.collector.message import Request, Response
from footfall.entry import Entry
from footfall.problem import Problem

ANY_ORIGIN: Final = {"access-control-allow-origin": "*"}
"""Lets a page of any site read an answer, without credentials."""


class Refused(NamedTuple):
    """An entry of a request that was not taken: its place in the request, counted from 0, and the reason."""

    place: int
    problem: Problem


Read = Callable[[Request, int, str | None], Sequence[Entry | Problem]]
"""Makes entries of a request, of its time of receipt (nanoseconds since 1970) and of the client's address.

It raises a `Problem` to refuse the request. If entries are taken one by one, it may return a `Problem` in the place of
an entry to refuse that one. A valid request with nothing to record has no entries. The body has been decoded.
"""

Answer = Callable[[Request, int, Sequence[Refused]], Response]
"""Makes the answer for when this number of entries is in the queue and the others have been refused."""

Refuse = Callable[[Problem, Request | None], Response]
"""Makes the answer to a request that is refused as a whole. The request is None if it could not be read to its end."""


class Route(Struct, frozen=True):
    """A path, and what requests to it mean.

    Attributes:
        path: the path as it is sent, without the query.
        read: makes the entries of a request.
        answer: how success looks.
        refuse: how refusal looks; the protocol chooses the status.
        unrecorded: makes the answer to a request that is valid but not to be recorded: one that a browser makes ahead
            of a visit, or HEAD, which is answered wherever GET is.
        methods: the methods that bring entries.
        content_types: what a POST may hold, in lower case and without parameters; None accepts anything.
        max_body_bytes: the limit of the body as it is sent, and of the decoded body.
        is_each_taken: whether entries are taken or refused one by one. If not, one that is refused refuses the request.
        waits: whether the answer waits until the entries are on disk. If not, it is sent as soon as the queue has room,
            and a request may have one entry at most.
        allow_headers: the headers that a script of another site may send (CORS).
        with_credentials: whether every answer names the origin of the page and allows credentials, which clients that
            send cookies require. (Nobody reads the cookies.) If not, answers say themselves who may read them, with
            `ANY_ORIGIN`.
    """

    path: bytes
    read: Read
    answer: Answer | Response
    refuse: Refuse
    unrecorded: Callable[[Request], Response]
    methods: tuple[bytes, ...]
    max_body_bytes: int
    content_types: tuple[bytes, ...] | None = None
    is_each_taken: bool = False
    waits: bool = True
    allow_headers: str = "content-type"
    with_credentials: bool = False

    @property
    def allowed(self) -> str:
        """The value of `Allow`: the methods that are answered."""
        head = [b"HEAD"] if b"GET" in self.methods else []
        return b", ".join([*self.methods[:1], *head, *self.methods[1:], b"OPTIONS"]).decode()
