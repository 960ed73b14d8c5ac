"""Readiness: whether each role of a service can do its work."""

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

READY: Final = "ready"
"""What is said of a role that can do its work."""

Check = Callable[[], str | None]
"""Why a role can't do its work now, or None."""


class Readiness(Struct, frozen=True):
    """The answer to `/readyz`.

    Attributes:
        status: `ready` or `not ready`.
        roles: if all are ready, `ready` for each of them; else those that are not, and why.
    """

    status: str
    roles: dict[str, str]

    @property
    def is_ready(self) -> bool:
        """Whether every role can do its work."""
        return self.status == READY


def readiness_of(checks: Mapping[str, Check]) -> Readiness:
    """Run the check of each role."""
    reasons = {role: reason for role, check in checks.items() if (reason := check()) is not None}
    if reasons:
        return Readiness("not ready", reasons)
    return Readiness(READY, dict.fromkeys(checks, READY))
