"""What only RabbitMQ does, on a real one."""

import os
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pika import BlockingConnection, URLParameters

from brokers import GROUPS, Consumer, RabbitMQ, require
from footfall.errors import BadSettingError
from footfall.queue.base import Message, Subscription
from footfall.queue.broker.rabbitmq import open_publisher, open_subscription
from harness import eventually

GROUP = GROUPS[0]
WAIT_S = 30.0
"""What anything may take on a machine that is busy with other tests."""
BLOCKED_S = 12.0
"""Longer than anything that the broker is asked may take."""


@pytest.fixture(scope="module")
def broker() -> RabbitMQ:
    instance = require("rabbitmq")
    assert isinstance(instance, RabbitMQ)
    return instance


@pytest.fixture
def topic(broker: RabbitMQ) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex}"
    yield name
    broker.drop(name)


@pytest.fixture
def consumers(broker: RabbitMQ, topic: str, tmp_path: Path) -> Iterator[list[Consumer]]:
    """Three that share, in processes of their own."""
    opened = [Consumer(tmp_path, broker.url(topic), GROUP, is_exclusive=False) for _ in range(3)]
    yield opened
    for consumer in opened:
        consumer.kill()


def await_assignment(subscription: Subscription) -> None:
    too_long = threading.Event()
    timer = threading.Timer(WAIT_S, too_long.set)
    timer.start()
    assert subscription.wait_for_assignment(too_long)
    timer.cancel()


def read(subscription: Subscription, count: int) -> Sequence[Message]:
    messages: list[Message] = []
    deadline = time.monotonic() + WAIT_S
    while len(messages) < count and time.monotonic() < deadline:
        messages += subscription.poll(0.1, is_full=False)
    return messages


def test_largest_batch_goes_through(broker: RabbitMQ, topic: str) -> None:
    """32 MiB, and more than one segment of a stream."""
    values = [os.urandom(32 * 1024 * 1024) for _ in range(3)]
    with closing(open_publisher(broker.url(topic))) as publisher:
        for value in values:
            publisher.publish("source", value)

    with closing(open_subscription(broker.url(topic), GROUP, is_exclusive=True)) as subscription:
        await_assignment(subscription)
        assert values == [message.value for message in read(subscription, 3)]


def test_what_is_too_large_is_told(broker: RabbitMQ, topic: str) -> None:
    """With the broker's own words, which say how large it may be; the next message is taken again."""
    with closing(open_publisher(broker.url(topic))) as publisher:
        with pytest.raises(OSError, match="larger than configured max size"):
            publisher.publish("source", bytes(129 * 1024 * 1024))
        publisher.publish("source", b"value")


def test_queue_of_another_type_is_refused(broker: RabbitMQ, topic: str) -> None:
    """As is a broker that has no streams; both sides say what to do."""
    url = broker.url(topic)
    with closing(BlockingConnection(URLParameters(url.partition("?")[0]))) as connection:
        for partition in range(6):
            connection.channel().queue_declare(f"{topic}-{partition}", durable=True)

    with closing(open_publisher(url)) as publisher, pytest.raises(BadSettingError, match=r"queue\.url: .* stream"):
        publisher.publish("source", b"value")
    with (
        closing(open_subscription(url, GROUP, is_exclusive=True)) as subscription,
        pytest.raises(BadSettingError, match=r"queue\.url: .* stream"),
    ):
        subscription.wait_for_assignment(threading.Event())


@pytest.mark.parametrize(
    ("change", "said"),
    [({"guest:guest": "guest:wrong"}, "the user or the password"), ({"/?": "/nowhere?"}, "the virtual host")],
    ids=["password", "vhost"],
)
def test_who_is_not_let_in_is_told(broker: RabbitMQ, topic: str, change: dict[str, str], said: str) -> None:
    """In words that say what to look at."""
    url = broker.url(topic)
    for old, new in change.items():
        url = url.replace(old, new)

    with closing(open_publisher(url)) as publisher, pytest.raises(OSError, match=said):
        publisher.publish("source", b"value")


def test_three_share_evenly_and_a_silent_one_is_replaced(
    broker: RabbitMQ, topic: str, consumers: list[Consumer]
) -> None:
    """Each has a third of the six streams; those of one that no longer says anything go to the others."""
    with closing(open_publisher(broker.url(topic))) as publisher:
        for number in range(60):
            publisher.publish(f"source-{number}", str(number).encode())
    values = sorted(map(str, range(60)))

    def shared() -> tuple[bool, list[str]]:
        read_by = [consumer.read() for consumer in consumers]
        return all(0 < len(part) < 30 for part in read_by), sorted(value for part in read_by for value in part)

    eventually((True, values), shared, WAIT_S)

    consumers[0].freeze()

    eventually(values, lambda: sorted(consumers[1].read() + consumers[2].read()), WAIT_S)


def test_full_disk_stops_who_publishes_and_not_who_reads(tmp_path: Path, broker: RabbitMQ, topic: str) -> None:
    """`publish` says why; what is there is read meanwhile, and all goes on by itself once there is room."""
    private = type(broker).private(tmp_path)
    url = private.url(topic).replace("heartbeat=1", "heartbeat=30")  # setting a limit takes its time
    try:
        private.start()
        with (
            closing(open_publisher(url)) as publisher,
            closing(open_subscription(url, GROUP, is_exclusive=True)) as subscription,
        ):
            for number in range(50):
                publisher.publish("source", str(number).encode())
            await_assignment(subscription)
            first = read(subscription, 1)

            set_disk_limit(tmp_path, url, "1000000GB")
            with pytest.raises(OSError, match="takes no messages: low on disk"):
                publisher.publish("source", b"50")
            subscription.resume_at(first[-1].partition, first[-1].offset + 1)
            until = time.monotonic() + BLOCKED_S
            while time.monotonic() < until:
                assert [] == list(subscription.poll(0.1, is_full=True))
            rest = read(subscription, 50 - len(first))
            assert [str(number).encode() for number in range(50)] == [m.value for m in [*first, *rest]]

            set_disk_limit(tmp_path, url, "1MB")
            publisher.publish("source", b"51")
            # Whether 50 was taken in the end is open, and it comes first if it was.
            last = read(subscription, 1)[-1]
            assert b"51" == (last if last.value == b"51" else read(subscription, 1)[-1]).value
    finally:
        private.kill()


def set_disk_limit(directory: Path, url: str, limit: str) -> None:
    """Have a node think that it needs so much free disk."""
    port = urlsplit(url).port
    assert port is not None
    environment = {
        "HOME": str(directory),
        "ERL_EPMD_PORT": str(port + 2),
        "RABBITMQ_NODENAME": f"footfall-{port}@localhost",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
    }
    subprocess.run(
        ["/usr/lib/rabbitmq/bin/rabbitmqctl", "set_disk_free_limit", limit],
        env=os.environ | environment,
        check=True,
        capture_output=True,
    )
