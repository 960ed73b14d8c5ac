"""What Footfall makes of a real Kafka, and which addresses of one it takes."""

import threading
import uuid
from contextlib import ExitStack, closing

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from brokers import require
from footfall.errors import BadSettingError
from footfall.queue.broker.drivers import check_url, open_publisher, open_subscription

DAY_MS = 24 * 60 * 60 * 1000


@pytest.fixture
def topic() -> str:
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
def url(topic: str) -> str:
    return require("kafka").url(topic)


@pytest.fixture
def admin(url: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": url.removeprefix("kafka://").partition("/")[0]})


def publish(url: str) -> None:
    with closing(open_publisher(url)) as publisher:
        publisher.publish("source", b"value")


def test_missing_topic_is_made(url: str, topic: str, admin: AdminClient) -> None:
    """With room for several consumers, for large batches, and for a week's absence."""
    publish(url)

    assert 6 == len(admin.list_topics(topic).topics[topic].partitions)
    resource = ConfigResource(ResourceType.TOPIC, topic)
    settings = admin.describe_configs([resource])[resource].result()
    assert str(7 * DAY_MS) == settings["retention.ms"].value
    assert str(32 * 1024 * 1024) == settings["max.message.bytes"].value
    assert "delete" == settings["cleanup.policy"].value


def test_topic_that_is_there_is_used_as_it_is(url: str, topic: str, admin: AdminClient) -> None:
    """Whoever made it knows how many partitions it is to have."""
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result()

    publish(url)

    assert 2 == len(admin.list_topics(topic).topics[topic].partitions)


def test_footfalls_with_topics_of_their_own_do_not_wait_for_each_other() -> None:
    """The consumers of one sink are those of one topic."""
    broker = require("kafka")
    with ExitStack() as opened:
        for _ in range(2):
            url = broker.url(f"test-{uuid.uuid4().hex}")
            subscription = opened.enter_context(
                closing(open_subscription(url, "footfall-visit_log", is_exclusive=True))
            )
            assert subscription.wait_for_assignment(threading.Event())
            assert [] == list(subscription.poll(0.1, is_full=False))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("kafka:///hits", "must be kafka://host:9092"),
        ("kafka://host:9092", "must be kafka://host:9092"),
        ("kafka://host:9092/hits/more", "must be kafka://host:9092"),
        ("kafka://user:secret@host:9092/hits", "sasl.username"),
        ("kafka://host:9092/hits?acks", "option=value"),
        ("kafka://host:9092/hits?acks=1", "acks can't be set"),
        ("kafka://host:9092/hits?no.such.option=1", "no.such.option"),
        ("kafka://host:9092/hits?session.timeout.ms=soon", "session.timeout.ms"),
        ("kafka://host:9092/hits?security.protocol=ssl&ssl.ca.location=/no/such/file", "ssl.ca.location"),
    ],
)
def test_address_that_can_not_be_used_is_refused(url: str, expected: str) -> None:
    """The text says what is wrong, and not what is secret."""
    with pytest.raises(BadSettingError, match=r"^queue\.url: ") as refused:
        check_url(url)

    assert expected in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "kafka://host:9092/hits",
        "kafka://host:9092,host2:9092/hits",
        "kafka://host/hits?security.protocol=sasl_ssl&sasl.mechanism=PLAIN&sasl.username=u&sasl.password=p%26q",
    ],
)
def test_address_is_taken_without_asking_the_broker(url: str) -> None:
    """Whether it answers shows later."""
    check_url(url)
