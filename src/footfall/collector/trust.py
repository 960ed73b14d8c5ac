"""Which senders may speak for visitors: a server that sends events gives their addresses and user agents."""

from typing import Final

from footfall.collector.message import Request
from footfall.problem import Problem
from footfall.status.access import Refusal, ReportAccess

WRONG_TOKEN: Final = "wrong_token"  # noqa: S105 - a reason
"""The reason under which the ledger counts what comes with a wrong token, or after too many of them."""


class NotTrustedError(Problem):
    """The sender must not speak for visitors. It refuses the whole request, not just one event.

    Attributes:
        headers: those of the answer.
        delay_s: how long to wait before sending it, seconds.
    """

    def __init__(self, refusal: Refusal) -> None:
        problem = refusal.problem
        reason = WRONG_TOKEN if problem.status == 429 else problem.reason
        super().__init__(problem.status, problem.detail, reason=reason)
        self.headers = refusal.headers
        self.delay_s = refusal.delay_s


class TrustedSenders:
    """Protocols ask it when a request gives what only a trusted sender may.

    Args:
        access: knows the token, and limits guesses.
    """

    def __init__(self, access: ReportAccess) -> None:
        self._access = access

    def check(self, request: Request, address: str | None) -> None:
        """Note in `request` that its sender, at `address`, may speak for visitors; asked once for a request.

        Raises:
            NotTrustedError: it may not.
        """
        if request.is_trusted:
            return
        refusal = self._access.refusal_of_sender(request.headers, address, request.origin)
        if refusal is not None:
            raise NotTrustedError(refusal)
        request.is_trusted = True
