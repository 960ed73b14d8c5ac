"""Error answers: `application/problem+json`, RFC 9457."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from http import HTTPStatus
from typing import Any, Final

import msgspec
from msgspec import Struct

from footfall.wording import allowed_values

CONTENT_TYPE = "application/problem+json"

QUERY_API: Final = "/api/"
"""What the paths of the query API begin with."""

INVALID: Final = "invalid"
"""What the ledger counts an event as that is not what it should be."""
_REASONS: Final = {
    400: "malformed",
    408: "timed_out",
    413: "too_large",
    415: "content_type",
    422: INVALID,
    431: "head_too_large",
    500: "error",
    501: "unsupported",
    503: "overloaded",
}

_MAX_HINTS: Final = 3
"""Of a request's unknown fields, which may be thousands, how many get a hint; one takes some 50 microseconds."""
_MAX_HINTED: Final = 64
"""The characters of a name for which a similar one is searched."""

_RENAMED = {413: "Content Too Large", 422: "Unprocessable Content"}
"""As RFC 9110 has them; older Pythons know the names before it."""


class FieldError(Struct, frozen=True):
    """One field that is missing or wrong, and what is expected of it."""

    field: str
    detail: str


class Problem(Exception):  # noqa: N818 - RFC 9457's word
    """A request that can't be granted: what the client is told.

    Attributes:
        status: the HTTP status.
        detail: one sentence for a person.
        field_errors: the fields concerned, each with what was expected.
        reason: what the ledger counts a request as that is refused for it.
        retry_after_s: how long to wait before trying again; None where that would not help, or is not known.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        field_errors: Sequence[FieldError] = (),
        *,
        reason: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field_errors = list(field_errors)
        self.retry_after_s = retry_after_s
        self.reason = reason or _REASONS.get(status, "malformed")

    def body_for(self, path: str) -> bytes:
        """The document for a request of that path; in the query API, `error` says it to clients of Plausible."""
        return self.body(error=self.detail) if path.startswith(QUERY_API) else self.body()

    def body(self, **extensions: object) -> bytes:
        """The document; `extensions` are members of its own kind (RFC 9457, section 3.2)."""
        members: dict[str, Any] = {
            "type": "about:blank",
            "title": phrase(self.status),
            "status": self.status,
            "detail": self.detail,
        }
        if self.field_errors:
            members["errors"] = self.field_errors
        return msgspec.json.encode(members | extensions)


def phrase(status: int) -> str:
    """The name of an HTTP status."""
    return _RENAMED.get(status) or HTTPStatus(status).phrase


def field_errors_of(
    document: Mapping[str, Any], shape: type[Struct], read: Callable[..., object] = msgspec.convert
) -> list[FieldError]:
    """Hold each field of `document` against `shape` and name all that are missing or wrong.

    Args:
        document: what was sent, by field name.
        shape: the struct it should have been convertible to.
        read: makes a value of `type` out of one of the document's, or raises `msgspec.ValidationError`.
    """
    field_errors = []
    for field in msgspec.structs.fields(shape):
        if field.encode_name not in document:
            if field.required:
                field_errors.append(FieldError(field.encode_name, "is required"))
            continue
        try:
            read(document[field.encode_name], type=field.type)
        except msgspec.ValidationError:
            field_errors.append(FieldError(field.encode_name, f"must be {allowed_values(field.type)}"))
    return field_errors


def unknown_field_errors(given: Iterable[str], known: Collection[str]) -> list[FieldError]:
    """Name each field that is given and not known, with the known one that was most likely meant, or all that are."""
    field_errors: list[FieldError] = []
    for name in given:
        if name in known:
            continue
        detail = "is not known"
        if len(field_errors) < _MAX_HINTS:
            near = get_close_matches(name, known, n=1) if len(name) <= _MAX_HINTED else []
            detail += f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
        field_errors.append(FieldError(name, detail))
    return field_errors
