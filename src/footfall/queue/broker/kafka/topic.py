"""The topics that Footfall creates."""

import logging
from typing import Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from footfall.queue.broker.kafka.address import PRODUCER_PROMISES, Address
from footfall.queue.broker.kafka.client import ANSWER_S, Reachability, settings

PARTITIONS: Final = 6
REPLICAS: Final = 3
RETENTION_MS: Final = 7 * 24 * 60 * 60 * 1000

_log = logging.getLogger(__name__)


def provide_topic(address: Address, reachability: Reachability, topic: str, partitions: int) -> int:
    """Create a topic if it does not exist; returns how many partitions it has.

    Raises:
        KafkaException, OSError: it is not known whether the topic exists.
    """
    admin = AdminClient(settings(address, reachability))
    # When it is asked about one topic, a broker may create that topic, with settings of its own.
    cluster = admin.list_topics(timeout=ANSWER_S)
    reachability.found()
    if topic in cluster.topics:
        return len(cluster.topics[topic].partitions)
    replicas = min(REPLICAS, len(cluster.brokers))
    config = {
        "cleanup.policy": "delete",
        "max.message.bytes": str(PRODUCER_PROMISES["message.max.bytes"]),
        "min.insync.replicas": "2" if replicas == REPLICAS else "1",
        "retention.ms": str(RETENTION_MS),
    }
    created = admin.create_topics([NewTopic(topic, partitions, replicas, config=config)], request_timeout=ANSWER_S)
    try:
        created[topic].result(ANSWER_S)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
    else:
        _log.info("created the topic %s: %d partitions, %d replicas", topic, partitions, replicas)
    return partitions
