"""What a consumer reads and a relay publishes to, as `queue.url` says."""

from footfall.processes.data_dir import open_queue
from footfall.queue.base import Feed, Publisher
from footfall.queue.broker import drivers
from footfall.queue.broker.feed import BrokerFeed
from footfall.queue.local.feed import LocalFeed
from footfall.settings import Settings


def open_feed(settings: Settings, sink: str, *, is_exclusive: bool) -> Feed:
    """Open the feed that the consumer of a sink reads.

    Args:
        settings: all of them.
        sink: the name of the sink.
        is_exclusive: with a broker, one consumer gets all messages; otherwise consumers share them.

    Raises:
        FootfallError: the queue or the broker can't be used.
    """
    url = settings.queue.url
    if url is None:
        # A lost report does no harm, and while one was being synced, collectors would wait.
        return LocalFeed(open_queue(settings, is_synced=False), sink)
    subscription = drivers.open_subscription(url, f"footfall-{sink}", is_exclusive=is_exclusive)
    return BrokerFeed(subscription, sink, accounts=settings.data_path)


def open_publisher(settings: Settings) -> Publisher:
    """Open the way into the broker.

    Raises:
        FootfallError: the broker can't be used.
    """
    assert settings.queue.url is not None
    return drivers.open_publisher(settings.queue.url)
