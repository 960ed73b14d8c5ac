"""What an address of RabbitMQ may be."""

from pathlib import Path

import pytest

from footfall.errors import BadSettingError
from footfall.queue.broker.rabbitmq import check_url


@pytest.mark.parametrize(
    "url",
    [
        "amqp://broker",
        "amqp://user:p%40ss@broker:5673/visits",
        "amqp://broker/%2F?name=other",
        "amqps://user:password@[::1]/visits?heartbeat=30",
    ],
)
def test_address_that_can_be_used(url: str) -> None:
    """User, port, vhost and options may be left out."""
    check_url(url)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("amqp:///visits", "amqp://user:password@host:5672/vhost"),
        ("amqp://broker:port/visits", "port"),
        ("amqp://broker:70000/visits", "port"),
        ("amqp://broker/two/parts", "%2F"),
        ("amqp://broker/visits?names=other", "names"),
        ("amqp://broker/visits?name=", "name"),
        ("amqp://broker/visits?heartbeat=0", "heartbeat"),
        ("amqp://broker/visits?cacertfile=ca.pem", "amqps://"),
        ("amqps://broker/visits?cacertfile=/no/such/file", "/no/such/file"),
    ],
)
def test_address_that_can_not_be_used(url: str, named: str) -> None:
    """The error names the setting, and what is wrong with it."""
    with pytest.raises(BadSettingError, match=r"^queue\.url: ") as caught:
        check_url(url)

    assert named in str(caught.value)


@pytest.mark.parametrize("sign", "/?#")
def test_password_that_is_not_quoted_is_not_shown(sign: str) -> None:
    """What stands before such a sign looks like a port."""
    with pytest.raises(BadSettingError, match="written %2F %3F %23") as caught:
        check_url(f"amqp://user:hunter2{sign}x@broker:5672/visits")

    assert "hunter2" not in str(caught.value)


def test_files_for_tls_are_looked_at(tmp_path: Path) -> None:
    """One that holds something else is refused at the start, not when a connection is made."""
    file = tmp_path / "ca.pem"
    file.write_text("not a certificate")

    with pytest.raises(BadSettingError, match=r"queue\.url: the files for TLS"):
        check_url(f"amqps://broker/visits?cacertfile={file}")
