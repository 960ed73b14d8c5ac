"""The page that shows what became of every hit, and whether each role can do its work."""

import msgspec
from msgspec import Struct

from footfall.status.ledger import Ledger, SinkLedger
from footfall.status.readiness import Readiness
from footfall.status.service import ServiceStatus
from footfall.web.pages.rendering import render
from footfall.web.pages.site import figure_of

_TITLES = {"visit_log": "Visits log", "database": "Database"}
_DUPLICATE = "duplicate"
_LOST = ("lost", "unreadable")
"""Reasons to skip an entry that are losses; what they mean is in docs/operations.md."""


class Part(Struct, frozen=True):
    """A stretch of the bar that shows an account."""

    kind: str
    title: str
    count: str
    at: float
    width: float


def page(status: ServiceStatus, *, has_login: bool) -> str:
    """The page, of this moment; `has_login` says that people had to log in to see it."""
    ledger = msgspec.json.decode(status.answer("/ledger").body, type=Ledger)
    readiness = msgspec.json.decode(status.answer("/readyz").body, type=Readiness)
    return render(
        "system.html",
        here="system",
        has_login=has_login,
        received=figure_of(ledger.received, "events"),
        trouble=_trouble(ledger, readiness),
        pending=max((sink.pending for sink in ledger.sinks.values()), default=0),
        lanes=[_lane(name, sink, ledger.received) for name, sink in ledger.sinks.items()],
        refused=[(name.replace("_", " "), f"{count:,}") for name, count in sorted(ledger.refused.items()) if count],
        roles=sorted(readiness.roles.items()),
    ) + render("end.html", zone="UTC")


def _trouble(ledger: Ledger, readiness: Readiness) -> str:
    """What somebody has to look at; empty if all is well."""
    if not readiness.is_ready:
        return f"Not ready: {', '.join(sorted(readiness.roles))}"
    lost = max((_lost(sink) for sink in ledger.sinks.values()), default=0)
    return f"Lost: {lost:,}. The log says why." if lost else ""


def _lost(sink: SinkLedger) -> int:
    return sum(sink.skipped.get(reason, 0) for reason in _LOST)


def _lane(name: str, sink: SinkLedger, received: int) -> dict[str, object]:
    duplicates = sink.skipped.get(_DUPLICATE, 0)
    lost = _lost(sink)
    left_out = {reason: count for reason, count in sink.skipped.items() if reason not in (_DUPLICATE, *_LOST)}
    reasons = ", ".join(reason.replace("_", " ") for reason in sorted(left_out))
    amounts = (
        ("written", "written", sink.written),
        ("duplicate", "sent again, counted once", duplicates),
        ("skipped", f"left out ({reasons})", sum(left_out.values())),
        ("lost", "lost", lost),
        ("pending", "on their way", sink.pending),
    )
    parts = []
    at = 0.0
    for kind, title, count in amounts:
        width = round(100 * count / received, 3) if received else 0.0
        parts.append(Part(kind, title, f"{count:,}", round(at, 3), width))
        at += width
    accounted = sink.written + sum(sink.skipped.values()) + sink.pending
    return {
        "title": _TITLES.get(name, name),
        "parts": [part for part in parts if part.width],
        "legend": [part for part in parts if part.count != "0" or part.kind in {"written", "pending"}],
        "label": ", ".join(f"{part.count} {part.title}" for part in parts),
        "sum": f"{accounted:,}",
    }
