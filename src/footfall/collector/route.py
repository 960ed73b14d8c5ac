"""What a protocol declares of each path that it takes requests on; the server and `endpoints` know no path.

A request that a route takes becomes entries, and all that protocols have in common is done for it: the methods, the
content type, a compressed body, CORS, prefetching, the rules for what is taken, the queue and the ledger. A protocol
says how a request becomes entries, and what each outcome looks like to its clients.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from footfall.collector.message import Request, Response
from footfall.entry import Entry
from footfall.problem import Problem

ANY_ORIGIN: Final = {"access-control-allow-origin": "*"}
"""For answers that a page of any site may read, without credentials."""


class Refused(NamedTuple):
    """One of the entries of a request that was not taken: its place, counted from 0, and why."""

    place: int
    problem: Problem


Read = Callable[[Request, int, str | None], Sequence[Entry | Problem]]
"""Makes entries of a request that came at a time (nanoseconds since 1970) from an address.

A `Problem` that is raised refuses the request. Where each entry is taken by itself, one in the place of an entry
refuses that entry. A request that is right and holds nothing to record has no entries. The body is decoded already.
"""

Answer = Callable[[Request, int, Sequence[Refused]], Response]
"""Makes what is answered when so many entries of a request are in the queue, and the others were refused."""

Refuse = Callable[[Problem, Request | None], Response]
"""Makes what is answered to a request of which nothing was taken; None for one that could not be read to its end."""


class Route(Struct, frozen=True):
    """A path, and what requests on it mean.

    Attributes:
        path: as it is sent, without the query.
        read: what a request brings.
        answer: how its success looks.
        refuse: how its failure looks. The status is the protocol's own to choose.
        unrecorded: what is answered where nothing is to be recorded, though nothing is wrong: to a page that is
            prefetched, and to HEAD, which is taken wherever GET is.
        methods: those that are read.
        content_types: those of a POST, in lower case and without parameters; None takes any, and none.
        max_body_bytes: of the body as it is sent, and once more when it is decoded.
        is_each_taken: whether entries are taken or refused one by one; else an entry that is refused is the request's
            refusal, and nothing of it is taken.
        waits: whether the answer waits until the entries are on disk. One that does not is given as soon as the queue
            has room, and is for a request that brings one entry at most.
        allow_headers: what a script may send besides what every form may (CORS).
        with_credentials: whether the page's origin is named in every answer, and cookies are allowed (which nobody
            reads): clients that send them need it. Else answers say themselves who may read them (`ANY_ORIGIN`).
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
        """The methods that are answered, for `Allow`."""
        head = [b"HEAD"] if b"GET" in self.methods else []
        return b", ".join([*self.methods[:1], *head, *self.methods[1:], b"OPTIONS"]).decode()
