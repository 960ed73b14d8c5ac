"""RabbitMQ (3.9 or newer), by its streams.

Address: `amqp://user:password@host:5672/vhost[?option=value&…]`, or `amqps://` for TLS. Without a vhost it is `/`,
which can also be written `%2F`. Options:

- `name`: what the names of everything below begin with, `footfall` by default;
- `heartbeat`: seconds, 10 by default. A consumer that is silent for up to twice as long is taken for dead, and its
  streams go to another one. A write that takes longer is finished, and then waits for the next assignment;
- `cacertfile`, `certfile`, `keyfile`: PEM files for TLS, where the system's authorities do not know the broker, or the
  broker asks for a client's certificate.

Footfall creates what it needs. It uses streams that exist already as they are, even with other limits:

- 6 streams, `<name>-0` to `<name>-5`. A key's CRC-32 says which of them holds its messages. A stream keeps 7 days
  (`x-max-age`) in segments of 64 MiB. It drops whole segments only, so it keeps at least one, however old;
- for each group of consumers and each stream another stream, `<name>.<group>.resume-<number>`. Its last message is the
  offset at which the next consumer may begin, as text. It keeps about 100 KiB;
- *locks*: queues that are exclusive to a connection and disappear with it. Nobody else can create a queue of the same
  name, and a message to one that does not exist is returned. `<name>.<group>.member-<number>` numbers the consumers: an
  exclusive one takes number 0 or waits. Consumers that share read the streams whose number, modulo the number of
  consumers, is their rank. `<name>.<group>.holder-<number>` guards each stream.

A message is one batch, of 32 MiB at most. RabbitMQ 3 accepts 128 MiB; RabbitMQ 4 has a `max_message_size` of 16 MiB
unless it is raised. A stream confirms a message when most of its nodes have written it, which does not mean synced. And
a node (seen with 3.10) that is killed within 5 s after it created the first stream of its life forgets all streams.

**Quorum and classic queues can't replace the streams**, so a broker without streams is refused. A queue forgets what
was acknowledged, and has one position for all who read it. Each group would need a queue of its own, created before the
first message. No consumer could read again what a restored backup lacks. And messages that one consumer had not
processed would come to the next one after later messages of their key.
"""

from footfall.queue.broker.rabbitmq.address import parse
from footfall.queue.broker.rabbitmq.publisher import RabbitPublisher
from footfall.queue.broker.rabbitmq.subscription import RabbitSubscription


def check_url(url: str) -> None:
    """Look whether an address can be used, without asking the broker.

    Raises:
        BadSettingError: it can't.
    """
    parse(url)


def open_publisher(url: str) -> RabbitPublisher:
    """A `Publisher`.

    Raises:
        BadSettingError: the address can't be used.
    """
    return RabbitPublisher(parse(url))


def open_subscription(url: str, group: str, *, is_exclusive: bool) -> RabbitSubscription:
    """A `Subscription`.

    Args:
        url: the address.
        group: the consumers that share the streams, or stand by for one another.
        is_exclusive: one consumer of the group has all streams.

    Raises:
        BadSettingError: the address can't be used.
    """
    return RabbitSubscription(parse(url), group, is_exclusive=is_exclusive)
