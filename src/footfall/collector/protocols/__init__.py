"""The wire formats that the collector understands, one module each. `collector/route.py` says what they declare."""

from footfall.collector.protocols import footfall
from footfall.collector.route import Route
from footfall.collector.trust import TrustedSenders
from footfall.settings import CollectorSettings


def routes(settings: CollectorSettings, trusted: TrustedSenders) -> list[Route]:
    """The routes of all of them."""
    return [*footfall.routes(settings, trusted)]
