"""TLS to RabbitMQ: a real broker, behind a server that ends TLS as RabbitMQ itself would."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from brokers import require, some_topic
from footfall.queue.broker.drivers import open_publisher
from harness import needs_tool

pytestmark = needs_tool("openssl", "openssl")


class TlsServer:
    """Passes on what comes by TLS.

    Attributes:
        port: where it listens.
    """

    def __init__(self, certificate: Path, key: Path, target: tuple[str, int]) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        with closing(raw), suppress(OSError):  # a client that does not trust the certificate hangs up
            client = self._context.wrap_socket(raw, server_side=True)
            with closing(client), closing(socket.create_connection(self._target)) as broker:
                back = threading.Thread(target=pass_on, args=(broker, client), daemon=True)
                back.start()
                pass_on(client, broker)
                back.join()


def pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65_536):
            target.sendall(part)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for `localhost` that nobody but itself vouches for, and its key."""
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    files = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *files], check=True, capture_output=True)
    return certificate, key


@pytest.fixture(scope="module")
def port(certificate: tuple[Path, Path]) -> Iterator[int]:
    """Where RabbitMQ is reached by TLS."""
    url = urlsplit(require("rabbitmq").url("none"))
    assert url.hostname is not None
    assert url.port is not None
    with closing(TlsServer(*certificate, (url.hostname, url.port))) as server:
        yield server.port


def publish(host: str, port: int, options: str = "") -> None:
    topic = some_topic()
    with closing(open_publisher(f"amqps://guest:guest@{host}:{port}/?name={topic}{options}")) as publisher:
        publisher.publish("source", b"value")
    require("rabbitmq").drop(topic)


def test_a_broker_whose_certificate_is_known_is_used(port: int, certificate: tuple[Path, Path]) -> None:
    """`cacertfile` names who vouches for it."""
    publish("localhost", port, f"&cacertfile={certificate[0]}")


def test_a_broker_that_nobody_known_vouches_for_is_refused(port: int) -> None:
    """Before it learns user or password; the error says what is wrong."""
    with pytest.raises(OSError, match="certificate verify failed"):
        publish("localhost", port)


def test_a_certificate_for_another_name_is_refused(port: int, certificate: tuple[Path, Path]) -> None:
    """Else anybody with a certificate could stand in for the broker."""
    with pytest.raises(OSError, match=r"certificate is not valid for '127\.0\.0\.1'"):
        publish("127.0.0.1", port, f"&cacertfile={certificate[0]}")
