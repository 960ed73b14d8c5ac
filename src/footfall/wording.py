"""What is wrong with a value that somebody has sent or set, in a person's words: the one place that knows msgspec's."""

import re
from typing import Any, Final

from msgspec import inspect

_PLACE: Final = re.compile(r"(?:JSON is malformed: )?(.+) \(byte (\d+)\)")
_SHOWN: Final = 20
"""Characters of a text that show where it goes wrong."""
_SIMPLE: Final[dict[type[inspect.Type], str]] = {
    inspect.BoolType: "true or false",
    inspect.DateType: "a day, as in 2025-11-12",
    inspect.FloatType: "a number",
    inspect.ListType: "a list of texts",
}
_GZIP: Final = b"\x1f\x8b"


def allowed_values(value_type: Any) -> str:  # noqa: ANN401 - any annotation
    """What a value of that type may be, to stand behind `must be`."""
    return _allowed(inspect.type_info(value_type))


def reason_against_json(error: Exception, text: bytes) -> str:
    """Why `text`, which a decoder has refused with `error`, is not JSON."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if text.startswith(_GZIP):
        return "it is compressed with gzip. Send it as it is, or name the compression in Content-Encoding"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if not text.strip():
        return "it is empty"
    place = _PLACE.fullmatch(str(error))
    if place is None:
        return "it ends too early" if "truncated" in str(error) else str(error)
    reason, byte = place[1], int(place[2])
    found = text[byte:].decode(errors="replace")[:_SHOWN]
    return f"{reason} at byte {byte}" + (f", where it goes on with {found}" if found.isprintable() and found else "")


def _allowed(info: inspect.Type) -> str:
    while isinstance(info, inspect.Metadata):
        info = info.type
    if isinstance(info, inspect.UnionType):
        # What stands for no value at all needs no mention.
        kinds = [one for one in info.types if not isinstance(one, inspect.NoneType | inspect.CustomType)]
        return " or ".join(dict.fromkeys(map(_allowed, kinds)))
    words = _SIMPLE.get(type(info), "")
    match info:
        case inspect.LiteralType(values):
            words = "one of " + ", ".join(map(str, values))
        case inspect.IntType(ge=least, le=most):
            words = _whole_number(least, most)
        case inspect.DictType(key_type, value_type, _, most):
            members = f"each name {_allowed(key_type)}, each value {_allowed(value_type)}"
            words = f"an object of at most {most} members: {members}"
        case inspect.StrType(min_length=least, max_length=most):
            words = _text(least, most)
    assert words, f"no value is of the type {info}"
    return words


def _whole_number(least: int | None, most: int | None) -> str:
    if least is None:
        return "a whole number"
    if least == -(2**63):
        return "a whole number of 64 bits"
    return f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}"


def _text(least: int | None, most: int | None) -> str:
    if most is None:
        return "a text that is not empty" if least else "a text"
    return f"a text of {least} to {most} characters" if least else f"a text of at most {most} characters"
