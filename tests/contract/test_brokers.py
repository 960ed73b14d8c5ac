"""What every broker gives: messages in the order of their key, to one consumer at a time, and again to the next."""

import logging
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from brokers import BROKERS, GROUPS, Broker, Consumer, require
from footfall.errors import AssignmentLostError
from footfall.queue.base import Message, Publisher, Subscription
from footfall.queue.broker.drivers import open_publisher, open_subscription
from harness import eventually

GROUP, OTHER_GROUP = GROUPS
READ_S = 30.0
"""What anything may take on a machine that is busy with other tests."""
PUBLISH_S = 25.0
"""Within this `publish` has given up."""


@pytest.fixture(params=BROKERS, scope="session")
def broker(request: pytest.FixtureRequest) -> Broker:
    return require(request.param)


@pytest.fixture
def private(broker: Broker, tmp_path: Path) -> Iterator[Broker]:
    """A broker of the test's own, not started yet."""
    instance = type(broker).private(tmp_path)
    yield instance
    instance.kill()


def new_topic() -> str:
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
def url(broker: Broker) -> Iterator[str]:
    """An address of the test's own."""
    topic = new_topic()
    yield broker.url(topic)
    broker.drop(topic)


@pytest.fixture
def publisher(url: str) -> Iterator[Publisher]:
    with closing(open_publisher(url)) as opened:
        yield opened


@pytest.fixture
def consumers(tmp_path: Path) -> Iterator["Consumers"]:
    opened = Consumers(tmp_path)
    yield opened
    opened.kill()


class Consumers:
    """Consumers in processes of their own, of which none outlives the test."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._opened: list[Consumer] = []

    def open(self, url: str, *, is_exclusive: bool) -> Consumer:
        self._opened.append(Consumer(self._directory, url, GROUP, is_exclusive=is_exclusive))
        return self._opened[-1]

    def kill(self) -> None:
        for consumer in self._opened:
            consumer.kill()


def open_assigned(url: str, *, is_exclusive: bool = True) -> Subscription:
    """A subscription that has its assignment."""
    subscription = open_subscription(url, GROUP, is_exclusive=is_exclusive)
    await_assignment(subscription)
    return subscription


def await_assignment(subscription: Subscription) -> None:
    with stop_after(READ_S) as stop:
        assert subscription.wait_for_assignment(stop)


@contextmanager
def stop_after(seconds: float) -> Iterator[threading.Event]:
    """Give an event that is set after some time."""
    stop = threading.Event()
    timer = threading.Timer(seconds, stop.set)
    timer.start()
    try:
        yield stop
    finally:
        timer.cancel()


def read(subscription: Subscription, count: int) -> list[Message]:
    """The next messages, so many at least; shows what it got when they do not come."""
    messages: list[Message] = []
    deadline = time.monotonic() + READ_S
    while len(messages) < count:
        messages += subscription.poll(0.1, is_full=False)
        assert time.monotonic() < deadline, f"{len(messages)} of {count}"
    return messages


def read_again(url: str, count: int) -> list[bytes]:
    """The values that the next consumer gets, at least so many."""
    with closing(open_assigned(url)) as subscription:
        return sorted(message.value for message in read(subscription, count))


def publish_numbers(publisher: Publisher, count: int, *, first: int = 0) -> list[bytes]:
    """One message a key, so that every partition has some."""
    values = [b"%04d" % number for number in range(first, first + count)]
    for value in values:
        publisher.publish(f"source-{value.decode()}", value)
    return values


def test_messages_of_a_key_keep_their_order(url: str, publisher: Publisher) -> None:
    """Each key's are in one partition, as they were published, whatever came between."""
    sent = [(key, f"{key}-{number}") for number in range(20) for key in ("a", "b", "c")]
    for key, value in sent:
        publisher.publish(key, value.encode())

    with closing(open_assigned(url)) as subscription:
        messages = read(subscription, len(sent))

    for key in ("a", "b", "c"):
        of_key = [message for message in messages if message.value.startswith(key.encode())]
        assert [value.encode() for sent_key, value in sent if sent_key == key] == [m.value for m in of_key]
        assert 1 == len({message.partition for message in of_key})
        assert sorted({message.offset for message in of_key}) == [message.offset for message in of_key]


def test_what_is_confirmed_can_be_read(url: str, publisher: Publisher) -> None:
    """By one who comes later, and by one who is there."""
    publisher.publish("source", b"before")

    with closing(open_assigned(url)) as subscription:
        assert [b"before"] == [message.value for message in read(subscription, 1)]
        publisher.publish("source", b"after")
        assert [b"after"] == [message.value for message in read(subscription, 1)]


@pytest.mark.parametrize("value", [b"", b"\0", os.urandom(8 * 1024 * 1024)], ids=len)
def test_value_is_read_as_it_was_published(url: str, publisher: Publisher, value: bytes) -> None:
    """None is too small, and what a large batch makes is not too large."""
    publisher.publish("source", value)

    [actual] = read_again(url, 1)

    assert value == actual


def test_next_consumer_begins_where_it_was_told_to(url: str, publisher: Publisher) -> None:
    """Everywhere at the offset that the last one gave, and at the first message where it gave none."""
    for number in range(10):
        publisher.publish("source", b"%d" % number)
    with closing(open_assigned(url)) as subscription:
        messages = read(subscription, 10)
        subscription.resume_at(messages[6].partition, messages[6].offset)

    assert [b"6", b"7", b"8", b"9"] == read_again(url, 4)


def test_nothing_is_lost_when_a_consumer_goes_without_a_word(url: str, publisher: Publisher) -> None:
    """What it was given is given again."""
    values = publish_numbers(publisher, 20)
    with closing(open_assigned(url)) as subscription:
        read(subscription, 20)

    assert values == read_again(url, 20)


@pytest.mark.parametrize("is_exclusive", [True, False])
def test_assignment_that_is_waited_for_again_begins_again(
    url: str, publisher: Publisher, *, is_exclusive: bool
) -> None:
    """An output that can't be opened makes its consumer wait again, though nobody took its assignment."""
    values = publish_numbers(publisher, 20)
    with closing(open_assigned(url, is_exclusive=is_exclusive)) as subscription:
        read(subscription, 1)
        await_assignment(subscription)

        assert values == sorted(message.value for message in read(subscription, 20))


def test_rewound_partition_begins_again(url: str, publisher: Publisher) -> None:
    """At its first message, though the last consumer said that the next may begin at the end."""
    values = [b"%d" % number for number in range(5)]
    for value in values:
        publisher.publish("source", value)
    with closing(open_assigned(url)) as subscription:
        last = read(subscription, 5)[-1]
        subscription.resume_at(last.partition, last.offset + 1)

    with closing(open_assigned(url)) as subscription:
        subscription.rewind(last.partition)
        assert values == [message.value for message in read(subscription, 5)]
        subscription.rewind(last.partition)
        assert values == [message.value for message in read(subscription, 5)]


def test_other_groups_are_not_moved(url: str, publisher: Publisher) -> None:
    """Each sink's consumers have all messages for themselves."""
    values = publish_numbers(publisher, 10)
    with closing(open_assigned(url)) as subscription:
        for message in read(subscription, 10):
            subscription.resume_at(message.partition, message.offset + 1)
        with closing(open_subscription(url, OTHER_GROUP, is_exclusive=True)) as other:
            await_assignment(other)
            assert values == sorted(message.value for message in read(other, 10))


def test_lag_is_what_was_not_given_yet(url: str, publisher: Publisher) -> None:
    """Nothing once all is given."""
    publish_numbers(publisher, 20)

    with closing(open_assigned(url)) as subscription:
        messages: list[Message] = []
        while not messages:
            messages += subscription.poll(0.1, is_full=False)
        assert subscription.lag() <= 20 - len(messages)
        read(subscription, 20 - len(messages))
        eventually(0, subscription.lag)


def test_full_consumer_gets_none_and_keeps_its_assignment(broker: Broker, url: str, publisher: Publisher) -> None:
    """For longer than a silent one would."""
    values = publish_numbers(publisher, 20)
    with closing(open_assigned(url)) as subscription:
        got = list(read(subscription, 1))
        until = time.monotonic() + 2 * broker.max_session_s
        while time.monotonic() < until:
            assert [] == list(subscription.poll(0.1, is_full=True))
        got += read(subscription, 20 - len(got))

    assert values == sorted(message.value for message in got)


@pytest.mark.parametrize("end", [Consumer.close, Consumer.kill], ids=["closed", "killed"])
def test_standby_waits_until_the_other_goes(
    url: str, publisher: Publisher, consumers: Consumers, end: Callable[[Consumer], None]
) -> None:
    """It says so once, and has all messages then, whichever way the other went."""
    values = [value.decode() for value in publish_numbers(publisher, 20)]
    holder = consumers.open(url, is_exclusive=True)
    eventually(values, lambda: sorted(holder.read()), READ_S)
    standby = consumers.open(url, is_exclusive=True)
    eventually(1, lambda: len(standby.warnings()), READ_S)
    publisher.publish("source", b"late")
    eventually([*values, "late"], lambda: sorted(holder.read()), READ_S)
    assert not standby.has_assignment()

    end(holder)

    eventually([*values, "late"], lambda: sorted(standby.read()), READ_S)
    assert 1 == len(standby.warnings())


def test_consumers_share_and_one_has_all_when_the_other_dies(
    url: str, publisher: Publisher, consumers: Consumers
) -> None:
    """Each message is with one of the two, and none is lost with the one that is killed."""
    values = [value.decode() for value in publish_numbers(publisher, 40)]
    first = consumers.open(url, is_exclusive=False)
    eventually(values, lambda: sorted(first.read()), READ_S)
    second = consumers.open(url, is_exclusive=False)
    eventually(True, lambda: bool(second.read()), READ_S)
    eventually(values, lambda: sorted(first.read() + second.read()), READ_S)
    assert first.read()

    second.kill()

    eventually(values, lambda: sorted(first.read()), READ_S)


def test_assignment_ends_when_another_takes_its_part(url: str, publisher: Publisher, consumers: Consumers) -> None:
    """`poll` says so, and all that no `resume_at` was past is given again, to whoever has its partition now."""
    values = [value.decode() for value in publish_numbers(publisher, 40)]
    with closing(open_assigned(url, is_exclusive=False)) as subscription:
        read(subscription, 40)
        other = consumers.open(url, is_exclusive=False)
        with pytest.raises(AssignmentLostError):
            read(subscription, 1)
        await_assignment(subscription)
        mine: list[str] = []

        def read_by_both() -> list[str]:
            try:
                mine.extend(message.value.decode() for message in subscription.poll(0.1, is_full=False))
            except AssignmentLostError:
                mine.clear()
                await_assignment(subscription)
            return sorted(mine + other.read())

        eventually(values, read_by_both, READ_S)
        assert other.read()


def test_broker_that_is_not_there_is_told_in_time(private: Broker) -> None:
    """`publish` raises, and a consumer waits for its assignment until it is told to stop."""
    url = private.url(new_topic())
    began = time.monotonic()
    with closing(open_publisher(url)) as publisher, pytest.raises(OSError, match=r".+"):
        publisher.publish("source", b"value")
    assert time.monotonic() - began < PUBLISH_S

    began = time.monotonic()
    with closing(open_subscription(url, GROUP, is_exclusive=True)) as subscription, stop_after(1.0) as stop:
        assert not subscription.wait_for_assignment(stop)
    assert time.monotonic() - began < PUBLISH_S


def test_broker_that_hangs_is_given_up(private: Broker) -> None:
    """One that keeps its connections and says nothing more: `publish` raises, and neither side waits to be let go."""
    private.start()
    url = private.url(new_topic())
    with closing(open_publisher(url)) as publisher, closing(open_assigned(url)) as subscription:
        publisher.publish("source", b"value")
        read(subscription, 1)

        private.freeze()

        with pytest.raises(OSError, match=r".+"):
            publisher.publish("source", b"value")


def test_confirmed_outlives_the_brokers_death(private: Broker, caplog: pytest.LogCaptureFixture) -> None:
    """While it is away nothing is confirmed or given; once it is back both sides go on by themselves."""
    private.start()
    url = private.url(new_topic())
    with closing(open_publisher(url)) as publisher, closing(open_assigned(url)) as subscription:
        values = publish_numbers(publisher, 20)
        read(subscription, 20)

        private.kill()
        with pytest.raises(OSError, match=r".+"):
            publisher.publish("source", b"published again")
        with suppress(OSError, AssignmentLostError):
            assert [] == list(subscription.poll(0.1, is_full=False))

        private.start()
        eventually(True, lambda: is_confirmed(publisher, b"published again"), READ_S)
        values += [*publish_numbers(publisher, 20, first=20), b"published again"]
        got: set[bytes] = set()

        def read_on() -> bool:
            try:
                got.update(message.value for message in subscription.poll(0.1, is_full=False))
            except AssignmentLostError:
                await_assignment(subscription)
            except OSError:
                return False
            return {b"0039", b"published again"} <= got

        eventually(True, read_on, READ_S)

    assert set(values) == set(read_again(url, len(values)))
    # The publisher and the subscription each say once what has happened.
    warnings = Counter(record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)
    assert max(warnings.values()) <= 2


def is_confirmed(publisher: Publisher, value: bytes) -> bool:
    try:
        publisher.publish("source", value)
    except OSError:
        return False
    return True
