"""The parameters of a request, as a type has them."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

import msgspec
from msgspec import Struct

from footfall.problem import FieldError, Problem, field_errors_of, unknown_field_errors

_T = TypeVar("_T", bound=Struct)


def read(
    parameters: Iterable[tuple[str, str]], shape: type[_T], check: Callable[[_T], list[FieldError]], *, refusal: str
) -> _T:
    """Check the parameters of a request.

    Args:
        parameters: decoded, in the order they came.
        shape: what they are to be.
        check: says what is wrong with parameters that are right one by one.
        refusal: what can't be done with wrong ones, a sentence.

    Raises:
        Problem: 422 with every parameter that is missing, wrong, not known or given twice.
    """
    known = shape.__struct_encode_fields__
    given: dict[str, str] = {}
    field_errors = []
    for name, value in parameters:
        if name in given and name in known:
            field_errors.append(FieldError(name, "is given more than once"))
        given[name] = value
    field_errors += field_errors_of(given, shape, partial(msgspec.convert, strict=False))
    field_errors += unknown_field_errors(given, known)
    if not field_errors:
        query = msgspec.convert(given, shape, strict=False)
        field_errors = check(query)
        if not field_errors:
            return query
    raise Problem(422, refusal, field_errors)
