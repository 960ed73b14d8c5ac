"""The fields of an event as a JSON object: their limits, and what `/docs` says of them."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from footfall.entry import (
    MAX_ENGAGED_MS,
    MAX_EVENT_ID,
    MAX_EVENT_TYPE,
    MAX_HEADER_BYTES,
    MAX_LANGUAGE,
    MAX_PATH,
    MAX_PROP_NAME,
    MAX_PROP_TEXT,
    MAX_PROPS,
    MAX_REFERRER,
    MAX_SCREEN_WIDTH,
    MAX_SITE_ID,
    MAX_USER_ID,
    PAGE_VIEW,
    Integer,
)

_PropName = Annotated[str, Meta(max_length=MAX_PROP_NAME)]
_PropValue = Integer | float | Annotated[str, Meta(max_length=MAX_PROP_TEXT)] | bool | None
"""A `Scalar` within the limits of a request; batches of an older version may hold longer ones."""


class EventBody(Struct, frozen=True):
    """The JSON body of `POST /event`; a field that is not here is ignored, or refused if the client asks for that."""

    site_id: Annotated[
        str,
        Meta(min_length=1, max_length=MAX_SITE_ID, description="Which site it happened on.", examples=["my-blog"]),
    ]
    event_type: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=MAX_EVENT_TYPE,
            description="`page_view` is what counts as a view.",
            examples=[PAGE_VIEW],
        ),
    ]
    path: Annotated[str, Meta(max_length=MAX_PATH, description="The page.", examples=["/pricing"])] | None = None
    user_id: (
        Annotated[
            str,
            Meta(
                max_length=MAX_USER_ID,
                description="Who; without it a visitor is told apart by a hash that lasts one day.",
                examples=["user-42"],
            ),
        ]
        | None
    ) = None
    timestamp: (
        Annotated[
            str,
            Meta(
                description="When, ISO 8601 with an offset or `Z`; the time of receipt without it.",
                examples=["2025-11-12T09:30:00Z"],
            ),
        ]
        | None
    ) = None
    referrer: (
        Annotated[
            str,
            Meta(
                max_length=MAX_REFERRER,
                description="The page that led here.",
                examples=["https://news.example/"],
            ),
        ]
        | None
    ) = None
    props: (
        Annotated[
            dict[_PropName, _PropValue],
            Meta(max_length=MAX_PROPS, description="Anything else, scalars only.", examples=[{"plan": "free"}]),
        ]
        | None
    ) = None
    event_id: (
        Annotated[
            str,
            Meta(
                max_length=MAX_EVENT_ID,
                description="Unguessable. One that is sent again within 24 hours for the same site counts once.",
                examples=["0b8bbe0e-5b58-4a55-9d0c-1c9f8d7a2f43"],
            ),
        ]
        | None
    ) = None
    screen_width: (
        Annotated[
            int,
            Meta(ge=0, le=MAX_SCREEN_WIDTH, description="Of the visitor's screen, in CSS pixels.", examples=[1920]),
        ]
        | None
    ) = None
    language: (
        Annotated[
            str, Meta(max_length=MAX_LANGUAGE, description="Of the visitor's browser, BCP 47.", examples=["pt-BR"])
        ]
        | None
    ) = None
    scroll_depth: (
        Annotated[int, Meta(ge=0, le=100, description="How much of the page was seen, in percent.", examples=[80])]
        | None
    ) = None
    engaged_ms: (
        Annotated[
            int,
            Meta(ge=0, le=MAX_ENGAGED_MS, description="How long the page was in use, milliseconds.", examples=[12_500]),
        ]
        | None
    ) = None
    interactive: (
        Annotated[
            bool,
            Meta(description="`false` if the visitor did nothing, so that the visit may still be a bounce."),
        ]
        | None
    ) = None
    ip: (
        Annotated[
            str,
            Meta(
                description="The visitor's address, from a server that sends events for its visitors; needs the token.",
                examples=["203.0.113.7"],
            ),
        ]
        | None
    ) = None
    user_agent: (
        Annotated[
            str,
            Meta(
                max_length=MAX_HEADER_BYTES,
                description="The visitor's user agent, from such a server; needs the token.",
                examples=["Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"],
            ),
        ]
        | None
    ) = None


FIELDS: Final = EventBody.__struct_encode_fields__
"""The names of all of them."""
