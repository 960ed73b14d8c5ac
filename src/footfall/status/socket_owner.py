"""Asks the Linux kernel which user of this machine holds the other end of a loopback TCP connection.

`sock_diag(7)` looks up exactly one socket. That takes about ten microseconds, however many connections there are.
`/proc/net/tcp` has the same information, but reading it takes longer with every connection.
"""

import socket
import struct
from typing import Final

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_ANY_STATE: Final = 0xFFFFFFFF
_NO_COOKIE: Final = 0xFFFFFFFF

_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_REQUEST: Final = struct.Struct("=BBBxI")  # inet_diag_req_v2: family, protocol, extensions, states
_PORTS: Final = struct.Struct("!HH")  # inet_diag_sockid begins with the ports of both ends, in network order
_ADDRESSES: Final = struct.Struct("=16s16sIII")  # and goes on with the addresses, interface and cookie
_ANSWER: Final = struct.Struct("=BBBB4s44xIIIII")  # inet_diag_msg: family, state, ..., sockid, ..., uid, inode


def socket_owner(holder: tuple[str, int], other: tuple[str, int]) -> int | None:
    """The user id that opened a connected TCP socket of this machine.

    Args:
        holder: address and port of that socket.
        other: address and port it is connected to.

    Returns:
        The user id, or None if the kernel does not tell. That is so if no process has that socket (any more), if it is
        in another network namespace, or if `sock_diag` is not available here.
    """
    family = socket.AF_INET6 if ":" in holder[0] else socket.AF_INET
    ports = _PORTS.pack(holder[1], other[1])
    try:
        addresses = [socket.inet_pton(family, host).ljust(16, b"\0") for host in (holder[0], other[0])]
        body = (
            _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _ANY_STATE)
            + ports
            + _ADDRESSES.pack(*addresses, 0, _NO_COOKIE, _NO_COOKIE)
        )
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as kernel:
            head = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0)
            kernel.send(head + body)
            answer = kernel.recv(4_096, socket.MSG_DONTWAIT)
    except OSError:
        return None
    _, kind, _, _, _ = _HEADER.unpack_from(answer)
    if kind != _SOCK_DIAG_BY_FAMILY:
        return None
    _, _, _, _, found, _, _, _, uid, inode = _ANSWER.unpack_from(answer, _HEADER.size)
    # If there is no such connection, the kernel returns a listener on that port. A socket that no process has any more
    # has no inode, and its user id would be root's.
    return uid if found == ports and inode else None


def tells_owners() -> bool:
    """Whether the kernel here tells who has opened a connection."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        return socket_owner(client.getsockname(), server.getsockname()) is not None
