"""Kafka, through librdkafka.

Address: `kafka://host:9092[,host2:9092]/topic[?option=value&…]`. The options are librdkafka's
(https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md), such as `security.protocol` and
`sasl.username`. The few that the promises below depend on can't be set.

Footfall creates the topic if it does not exist, with

- 6 partitions, so that many consumers can share it. **Never change their number**: a source would continue in another
  partition, and be read there before it is read to its end in the first. Take a new topic instead;
- 3 replicas, or as many as there are brokers. With 3, `min.insync.replicas` is 2: a confirmed message survives the loss
  of a broker;
- `retention.ms` of 7 days: how long a consumer may be away;
- `max.message.bytes` of 32 MiB: one batch is one message.

A user who may not create topics needs somebody else to create them, with these settings.

A consumer group is `<topic>.<group>`, so that two Footfalls can use one Kafka. An exclusive consumer holds a lock: the
one partition of the topic `<topic>.<group>.lock`, which Footfall creates too and which stays empty. Kafka assigns that
partition to one member of the group, and this member reads all partitions of the topic.
"""

from confluent_kafka import Consumer, KafkaException, Producer

from footfall.errors import BadSettingError
from footfall.queue.broker.kafka.address import parse
from footfall.queue.broker.kafka.client import Reachability, consumer_settings, producer_settings, text_of
from footfall.queue.broker.kafka.publisher import KafkaPublisher
from footfall.queue.broker.kafka.subscription import KafkaSubscription


def check_url(url: str) -> None:
    """Look whether an address can be used, without asking the broker.

    Raises:
        BadSettingError: it can't.
    """
    nowhere = parse(url)._replace(servers="")
    try:
        # librdkafka checks its options when it makes a client; one that knows no broker asks none.
        Producer(producer_settings(nowhere, Reachability("")))
        Consumer(consumer_settings(nowhere, Reachability(""), "group")).close()
    except (KafkaException, TypeError, AttributeError) as error:
        raise BadSettingError(f"queue.url: {text_of(error)}") from None


def open_publisher(url: str) -> KafkaPublisher:
    """A `Publisher`.

    Raises:
        BadSettingError: the address can't be used.
    """
    check_url(url)
    return KafkaPublisher(parse(url))


def open_subscription(url: str, group: str, *, is_exclusive: bool) -> KafkaSubscription:
    """A `Subscription`.

    Args:
        url: the address.
        group: the consumers that share the partitions, or stand by for one another.
        is_exclusive: one consumer of the group has all partitions.

    Raises:
        BadSettingError: the address can't be used.
    """
    check_url(url)
    return KafkaSubscription(parse(url), group, is_exclusive=is_exclusive)
