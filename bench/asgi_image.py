"""The least that uvicorn can do: an ASGI application that answers every request with the transparent image."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from footfall.collector.protocols.footfall import GIF

_Message = MutableMapping[str, Any]
_HEADERS = [(b"content-type", b"image/gif"), (b"content-length", str(len(GIF)).encode())]


async def app(
    _scope: _Message, _receive: Callable[[], Awaitable[_Message]], send: Callable[..., Awaitable[None]]
) -> None:
    """Answer without a look at the request."""
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": GIF})
