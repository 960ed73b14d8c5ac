import os
import socket

import pytest

from footfall.status.socket_owner import socket_owner, tells_owners

STRANGER = 65_534
LOOPBACK = [
    pytest.param(socket.AF_INET, "127.0.0.1", id="IPv4"),
    pytest.param(socket.AF_INET6, "::1", id="IPv6"),
]


@pytest.mark.parametrize(("family", "host"), LOOPBACK)
def test_owner_of_an_open_socket(family: socket.AddressFamily, host: str) -> None:
    """Each end of a connection belongs to whoever opened it, also once it sends no more."""
    with (
        socket.create_server((host, 0), family=family) as server,
        socket.create_connection(server.getsockname()[:2]) as client,
        server.accept()[0] as accepted,
    ):
        ends = client.getsockname()[:2], accepted.getsockname()[:2]
        assert os.geteuid() == socket_owner(*ends)
        assert os.geteuid() == socket_owner(*reversed(ends))
        client.shutdown(socket.SHUT_WR)
        assert os.geteuid() == socket_owner(*ends)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can open a socket as another user: run the tests as root")
@pytest.mark.parametrize(("family", "host"), LOOPBACK)
def test_owner_is_who_opened_it(family: socket.AddressFamily, host: str) -> None:
    """Another user's socket is that user's, though a process of ours is at the other end."""
    with socket.create_server((host, 0), family=family) as server:
        os.seteuid(STRANGER)
        try:
            client = socket.socket(family)
        finally:
            os.seteuid(0)
        with client:
            client.connect(server.getsockname())
            accepted, _ = server.accept()
            with accepted:
                assert STRANGER == socket_owner(client.getsockname()[:2], accepted.getsockname()[:2])


def test_a_closed_socket_has_no_owner() -> None:
    """The kernel would call it root's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        end = client.getsockname()
        client.close()
        with accepted:
            assert socket_owner(end, accepted.getsockname()) is None


def test_a_listener_is_not_taken_for_a_connection() -> None:
    """The kernel names a listener on the port where there is no such connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert socket_owner(server.getsockname(), ("127.0.0.1", 1)) is None


@pytest.mark.parametrize("end", [("192.0.2.1", 1), ("::1", 1), ("no address", 1), ("", 1)])
def test_no_such_connection(end: tuple[str, int]) -> None:
    """What is not on this machine has no owner here, and nothing is an error."""
    assert socket_owner(end, ("127.0.0.1", 2)) is None


def test_whether_the_kernel_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without `sock_diag` tells nothing about any connection, and that is no error."""
    assert tells_owners()

    monkeypatch.setattr(socket, "AF_NETLINK", 9_999)
    assert not tells_owners()
