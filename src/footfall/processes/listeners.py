"""Listening sockets, which are opened before the processes that answer on them."""

import errno
import fcntl
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from footfall.errors import AlreadyInUseError, FootfallError

_PORT_S: Final = 1.0
_BACKLOG: Final = 4_096
"""Connections the system holds until they are accepted, while a collector is started again, for one."""
_NAME: Final = "reports.sock"


def listen(host: str, port: int, setting: str) -> socket.socket:
    """Listen; where the port is taken, a moment later again: a predecessor that was killed may only be about to end."""
    deadline = time.monotonic() + _PORT_S
    while True:
        try:
            return _listen_now(host, port, setting)
        except AlreadyInUseError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _listen_now(host: str, port: int, setting: str) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(
            address[:2],
            family=family,
            backlog=_BACKLOG,
            dualstack_ipv6=family == socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6(),
        )
    except (OSError, UnicodeError) as error:  # the latter of a name with an empty label, as in 127.0..1
        section = setting.partition(".")[0]
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise AlreadyInUseError(
                f"{setting}: port {port} on {host} is taken by another program; stop that one, or choose another port "
                f"(FOOTFALL__{section.upper()}__PORT=…)"
            ) from None
        raise FootfallError(f"{section}.host, {setting}: can't listen on {host} port {port}: {error}") from None


def listen_without_name(directory: Path) -> tuple[socket.socket, Path]:
    """Listen on a Unix socket that this process and its children reach, and nobody else.

    The socket has a name in `directory` for a moment only, so a process that is killed leaves nothing behind. It is
    reached through a descriptor that the children inherit. That also keeps the address short however long the
    directory's is: a socket's has 108 bytes at most (https://man7.org/linux/man-pages/man7/unix.7.html).

    Returns:
        the listener, and the path by which to connect to it.

    Raises:
        FootfallError: no socket can be made there.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        inside = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(inside, fcntl.LOCK_EX)  # another service with this directory waits until the name is free
            with suppress(FileNotFoundError):
                os.unlink(_NAME, dir_fd=inside)
            listener.bind(f"/proc/self/fd/{inside}/{_NAME}")
            reached = os.open(_NAME, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=inside)
            os.unlink(_NAME, dir_fd=inside)
        finally:
            os.close(inside)
    except OSError as error:
        raise FootfallError(f"no socket can be made in {directory}: {error.strerror or error} (data_dir)") from None
    listener.listen(_BACKLOG)
    return listener, Path(f"/proc/self/fd/{reached}")
