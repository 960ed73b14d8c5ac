"""What is wrong with a value, in a person's words."""

import datetime as dt
import gzip
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from footfall.collector.protocols.event_fields import EventBody
from footfall.config import known_keys
from footfall.settings import Settings
from footfall.wording import allowed_values, reason_against_json


@pytest.mark.parametrize(
    ("value_type", "expected"),
    [
        (str, "a text"),
        (Annotated[str, Meta(min_length=1)] | None, "a text that is not empty"),
        (Annotated[str, Meta(min_length=1, max_length=128)], "a text of 1 to 128 characters"),
        (Annotated[str, Meta(max_length=64, description="An id.")] | None, "a text of at most 64 characters"),
        (int, "a whole number"),
        (Annotated[int, Meta(ge=1)], "a whole number of at least 1"),
        (Annotated[int, Meta(ge=1, le=64)], "a whole number from 1 to 64"),
        (bool, "true or false"),
        (float, "a number"),
        (Literal["disk", "memory"], "one of disk, memory"),
        (list[str], "a list of texts"),
        (Annotated[dt.date, Meta(description="A day.")] | msgspec.UnsetType, "a day, as in 2025-11-12"),
    ],
)
def test_what_is_allowed_is_said_in_words(value_type: Any, expected: str) -> None:
    """Bounds and choices are in them, `null` and the decoder's own words are not."""
    assert expected == allowed_values(value_type)


def test_every_field_and_setting_has_words() -> None:
    """One of a type that has none would end in a traceback at somebody's first mistake."""
    types = [field.type for field in msgspec.structs.fields(EventBody)]
    for section in msgspec.structs.fields(Settings):
        nested = isinstance(section.type, type) and issubclass(section.type, msgspec.Struct)
        types += [one.type for one in msgspec.structs.fields(section.type)] if nested else []
    assert len(types) > len(known_keys())
    assert all(allowed_values(one) for one in types)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"hello", "invalid character at byte 0, where it goes on with hello"),
        (b'{"a": 1,}', "trailing comma in object at byte 8, where it goes on with }"),
        (b'{"a":', "it ends too early"),
        (b"  \n", "it is empty"),
        (b'{"a": "\xff"}', "it is not UTF-8"),
        (b"[\x01]", "invalid character at byte 1"),
        (
            gzip.compress(b"{}", mtime=0),
            "it is compressed with gzip. Send it as it is, or name the compression in Content-Encoding",
        ),
        (b"[" * 100_000, "it is nested too deeply"),
    ],
)
def test_what_is_no_json_says_where(text: bytes, expected: str) -> None:
    """With a few of the characters that are there."""
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError, RecursionError)) as raised:
        msgspec.json.decode(text)
    assert expected == reason_against_json(raised.value, text)
