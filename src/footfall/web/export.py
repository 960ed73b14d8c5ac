"""`GET /export`: what it is asked, and how its answer is streamed.

The events come from the database as they are sent, so an answer takes the memory of a few parts, whoever reads it and
however slowly. The first part is there before the status is sent, so that most errors have a status of their own. If
one comes later, the answer breaks off without its last chunk, and no client of HTTP/1.1 takes it for whole. HTTP/1.0
can't tell, so it is refused.
"""

import asyncio
import datetime as dt
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Annotated, Final, Literal
from urllib.parse import quote

from msgspec import UNSET, Meta, Struct, UnsetType, field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from footfall.database.contents import BusyError, Contents, Format, Selection
from footfall.entry import MAX_SITE_ID
from footfall.errors import FootfallError
from footfall.problem import FieldError, Problem
from footfall.web.parameters import read

MEDIA_TYPES: Final = {
    Format.CSV: "text/csv; charset=utf-8; header=present",
    Format.PARQUET: "application/vnd.apache.parquet",
    Format.NDJSON: "application/x-ndjson",
}
_STALL_S: Final = 60
"""How long a client may take nothing of its answer."""
_WHOLE_S: Final = 3_600
"""How long the whole may take; the transaction that it is read in is open meanwhile."""

_log = logging.getLogger(__name__)


class ExportQuery(Struct, frozen=True):
    """The parameters of `GET /export`."""

    site_id: Annotated[
        str, Meta(min_length=1, max_length=MAX_SITE_ID, description="Which site.", examples=["site-abc-123"])
    ]
    first: Annotated[dt.date, Meta(description="The first UTC day; no beginning without it.")] | UnsetType = field(
        name="from", default=UNSET
    )
    last: Annotated[dt.date, Meta(description="The last UTC day; no end without it.")] | UnsetType = field(
        name="to", default=UNSET
    )
    form: Annotated[Literal["csv", "parquet", "ndjson"], Meta(description="How the events are written.")] = field(
        name="format", default="csv"
    )

    @property
    def selection(self) -> Selection:
        start = dt.datetime.combine(self.first, dt.time.min) if self.first else None
        has_end = self.last and self.last != dt.date.max
        end = dt.datetime.combine(self.last + dt.timedelta(days=1), dt.time.min) if self.last and has_end else None
        return Selection(self.site_id, start, end)

    @property
    def file_name(self) -> str:
        days = [str(day) for day in (self.first, self.last) if day]
        return "_".join([self.site_id, *days]) + f".{self.form}"


def export_route(contents: Contents) -> Route:
    """The path, which reads from `contents`."""

    async def export(request: Request) -> Response:
        query = read(
            request.query_params.multi_items(), ExportQuery, _errors_of_days, refusal="The events can't be exported."
        )
        name = quote(query.file_name, safe="")
        # RFC 6266 and RFC 8187; old clients read the first one.
        headers = {"Content-Disposition": f"attachment; filename=\"export.{query.form}\"; filename*=UTF-8''{name}"}
        media_type = MEDIA_TYPES[Format(query.form)]
        if request.method == "HEAD":
            return StreamingResponse(iter(()), headers=headers, media_type=media_type)
        if request.scope["http_version"] == "1.0":
            raise Problem(505, "An export needs HTTP/1.1, in which a client can tell whether it is whole.")
        held = ExitStack()
        try:
            first, parts = await run_in_threadpool(_begin, held, contents, query)
        except BaseException:
            await run_in_threadpool(held.close)
            raise
        return _Streamed(held, first, parts, headers, media_type)

    return Route("/export", export)


class _Streamed(Response):
    """Sends parts that are made in a thread while the client reads those before.

    Args:
        held: closed in the end, whatever it is.
        first: the first part.
        rest: the others.
        headers: of the answer.
        media_type: of the answer.
    """

    def __init__(
        self, held: ExitStack, first: bytes, rest: Iterator[bytes], headers: dict[str, str], media_type: str
    ) -> None:
        super().__init__(headers=headers, media_type=media_type)
        del self.headers["content-length"]
        self._held = held
        self._first = first
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = Request(scope, receive)
        try:
            async with asyncio.timeout(_WHOLE_S):
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                part = self._first
                while part and not await client.is_disconnected():
                    async with asyncio.timeout(_STALL_S):
                        await send({"type": "http.response.body", "body": part, "more_body": True})
                    part = await run_in_threadpool(next, self._rest, b"")
                if not part:
                    await send({"type": "http.response.body", "body": b""})
        except (OSError, FootfallError) as error:
            # Without its last chunk, the answer is not whole; the server closes the connection.
            _log.warning("an export broke off: %s", str(error) or "its client read too slowly")
        finally:
            await run_in_threadpool(self._held.close)


def _begin(held: ExitStack, contents: Contents, query: ExportQuery) -> tuple[bytes, Iterator[bytes]]:
    try:
        exported = held.enter_context(contents.export(query.selection, Format(query.form)))
        return next(exported.parts, b""), exported.parts
    except BusyError:
        raise Problem(503, "Too many exports are being made. Try again later.") from None
    except TimeoutError:
        raise Problem(503, "The export took too long to begin. Ask for fewer days, or try again later.") from None
    except OSError as error:
        _log.warning("an export can't be made: %s", error)
        raise Problem(503, "The database can't be reached. Try again later.") from None


def _errors_of_days(query: ExportQuery) -> list[FieldError]:
    is_reversed = query.first and query.last and query.first > query.last
    return [FieldError("from", "is after to")] if is_reversed else []
