"""Readiness: whether each role of a service can do its work."""

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

READY: Final = "ready"
"""The state of a role that can do its work."""

Check = Callable[[], str | None]
"""Returns why a role can't do its work now, or None if it can."""


class Readiness(Struct, frozen=True):
    """The answer to `/readyz`.

    Attributes:
        status: `ready` or `not ready`.
        roles: if all roles are ready, `ready` for each; otherwise, only those that are not ready, each with the reason.
    """

    status: str
    roles: dict[str, str]

    @property
    def is_ready(self) -> bool:
        """Whether every role can do its work."""
        return self.status == READY


def readiness_of(checks: Mapping[str, Check]) -> Readiness:
    """Run the check of each role, and return the result."""
    reasons = {role: reason for role, check in checks.items() if (reason := check()) is not None}
    if reasons:
        return Readiness("not ready", reasons)
    return Readiness(READY, dict.fromkeys(checks, READY))
