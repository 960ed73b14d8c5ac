"""Requests for reports and for the state of this service: checks who may ask, and passes them to what answers."""

from footfall.collector.forward import Forwarder
from footfall.collector.late import LateReplies
from footfall.collector.message import NOSNIFF, Request, Response
from footfall.collector.reply import Reply
from footfall.collector.status import StatusReplies
from footfall.problem import Problem
from footfall.status import login
from footfall.status.access import Refusal, ReportAccess
from footfall.status.service import PATHS, ServiceStatus

_NOT_FOUND = Response.of(Problem(404, "There is nothing at this path."))
_NOT_ALLOWED = Response.of(Problem(405, "This path takes GET, HEAD."), {"allow": "GET, HEAD"})


class ReportRequests:
    """Answers every request that collects nothing.

    Args:
        access: who may ask.
        status: answers for the state of this service.
        forwarder: passes all other requests to the process that makes reports; None if this service makes none.
    """

    def __init__(self, access: ReportAccess, status: ServiceStatus, forwarder: Forwarder | None) -> None:
        self._access = access
        self._status_replies = StatusReplies(status)
        self._forwarder = forwarder
        self._late_replies = LateReplies()

    @property
    def are_here(self) -> bool:
        """Whether this service makes reports."""
        return self._forwarder is not None

    def answer(self, request: Request, reply: Reply) -> None:
        """Answer `request`, now or later. Call this as soon as the request has arrived."""
        path = request.path.decode("latin-1")
        is_status = path in PATHS
        if not is_status and self._forwarder is None:
            reply.send(_NOT_FOUND)
            return
        refusal = self._access.refusal(path, request.headers, request.origin())
        if refusal is not None:
            self._late_replies.send(_refused(refusal, path), reply, refusal.delay_s)
        elif not is_status:
            assert self._forwarder is not None
            self._forwarder.forward(request, reply)
        elif request.method in {b"GET", b"HEAD"}:
            self._status_replies.answer(request, reply)
        else:
            reply.send(_NOT_ALLOWED)


def _refused(refusal: Refusal, path: str) -> Response:
    if refusal.page:
        return Response(refusal.problem.status, refusal.page, login.CONTENT_TYPE, {**NOSNIFF, **refusal.headers})
    return Response.of(refusal.problem, refusal.headers, path=path)
