"""The way into a DuckDB database that a running process has open: a Unix socket in `data_dir`, for its owner alone.

DuckDB lets one process open a file. So `footfall query`, `export` and `snapshot` ask that process while there is one.
The socket has mode 0600, and the kernel says who connects: the user that runs the process, or root. Nothing of this is
on the network.

A client sends one request, and nothing after it. If it goes away, what it asked for is given up. Messages are those of
`multiprocessing.connection`, always bytes and never pickled. Each begins with one byte that says what it is.
"""

import logging
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import duckdb
import msgspec
from msgspec import Struct

from footfall.database.contents import Answer, BusyError, Contents, Exported, Format, Selection, SqlError
from footfall.database.duckdb.contents import DuckdbContents
from footfall.durable.files import check_directory
from footfall.errors import FootfallError

STALL_S: Final = 60
"""How long a client may take nothing of its answer, and how long it may take to send its request."""
_NAME: Final = "database.sock"
_MAX_REQUEST_BYTES: Final = 1024 * 1024

_COLUMNS: Final = b"c"
_ROWS: Final = b"r"
_EVENTS: Final = b"n"
_PART: Final = b"p"
_END: Final = b"."
_FAILURE: Final = b"!"

_GONE: Final = (OSError, EOFError, msgspec.DecodeError)
"""How a client ends that has gone away, or is none."""

_log = logging.getLogger(__name__)


class _Query(Struct, frozen=True, tag="query"):
    sql: str


class _Export(Struct, frozen=True, tag="export"):
    selection: Selection
    form: Format
    is_restorable: bool


class _Snapshot(Struct, frozen=True, tag="snapshot"):
    pass


class _Failure(Struct, frozen=True):
    kind: str
    text: str


class _Request(Struct, frozen=True):
    database: str
    call: _Query | _Export | _Snapshot


_ERRORS: Final[tuple[type[Exception], ...]] = (SqlError, BusyError, FootfallError, TimeoutError, OSError)
"""Those that a client gets as they are, the particular ones first."""


class ContentsServer:
    """Answers clients, each in a thread, until it is closed.

    Args:
        directory: where the socket is; only one process at a time serves there.
        database: stays the caller's.
        path: its file.

    Raises:
        FootfallError: no socket can be made there.
    """

    def __init__(self, directory: Path, database: duckdb.DuckDBPyConnection, path: Path) -> None:
        self._directory = directory
        self._database = database
        self._path = str(path.resolve())
        self._slots = DuckdbContents(database).slots
        self._lock = threading.Lock()
        self._clients: dict[socket.socket, tuple[DuckdbContents, threading.Thread]] = {}
        try:
            self._listener = _listen(directory)
        except OSError as error:
            raise FootfallError(f"no socket can be made in {directory}: {error.strerror or error} (data_dir)") from None
        self._accepting = threading.Thread(target=self._accept, name="contents", daemon=True)
        self._accepting.start()

    def close(self) -> None:
        """Give up what is under way, and answer nobody any more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        (self._directory / _NAME).unlink(missing_ok=True)
        with self._lock:
            clients = dict(self._clients)
        for client, (contents, _) in clients.items():
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            contents.interrupt()
        for _, thread in clients.values():
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            contents = DuckdbContents(self._database, slots=self._slots)
            thread = threading.Thread(target=self._serve, args=(client, contents), name="contents", daemon=True)
            with self._lock:
                self._clients[client] = contents, thread
            thread.start()

    def _serve(self, client: socket.socket, contents: DuckdbContents) -> None:
        try:
            with closing(Connection(os.dup(client.fileno()))) as connection, suppress(*_GONE):
                if _user_of(client) not in {0, os.geteuid()}:
                    return
                _set_timeout(client, socket.SO_RCVTIMEO, STALL_S)
                _set_timeout(client, socket.SO_SNDTIMEO, STALL_S)
                request = msgspec.json.decode(connection.recv_bytes(_MAX_REQUEST_BYTES), type=_Request)
                _set_timeout(client, socket.SO_RCVTIMEO, 0)
                watcher = threading.Thread(target=_watch, args=(client, contents), name="contents", daemon=True)
                watcher.start()
                try:
                    self._answer(connection, contents, request)
                finally:
                    with suppress(OSError):
                        client.shutdown(socket.SHUT_RD)
                    watcher.join()
        finally:
            with self._lock:
                del self._clients[client]
            client.close()

    def _check(self, path: str) -> None:
        if path != self._path:
            raise FootfallError(
                f"The Footfall that runs with this data_dir has another database open: {self._path} (database.url)."
            )

    def _answer(self, connection: Connection, contents: DuckdbContents, request: _Request) -> None:
        try:
            self._check(request.database)
            match request.call:
                case _Query(sql):
                    with contents.query(sql) as answer:
                        connection.send_bytes(_COLUMNS + msgspec.json.encode(answer.columns))
                        for rows in answer.rows:
                            connection.send_bytes(_ROWS + msgspec.json.encode(rows))
                case _Export(selection, form, is_restorable):
                    with contents.export(selection, form, is_restorable=is_restorable) as exported:
                        connection.send_bytes(_EVENTS + b"%d" % exported.events)
                        for part in exported.parts:
                            connection.send_bytes(_PART + part)
                case _Snapshot():
                    with contents.snapshot() as parts:
                        for part in parts:
                            connection.send_bytes(_PART + part)
            connection.send_bytes(_END)
        except _ERRORS as error:
            kind = next(kind for kind in _ERRORS if isinstance(error, kind))
            connection.send_bytes(_FAILURE + msgspec.json.encode(_Failure(kind.__name__, str(error))))
        except Exception:  # noqa: BLE001 - the client must not wait for an answer that does not come
            _log.exception("unexpected error, please report it")
            failure = _Failure(OSError.__name__, "Footfall has met an error of its own; its log says which")
            connection.send_bytes(_FAILURE + msgspec.json.encode(failure))


def _watch(client: socket.socket, contents: DuckdbContents) -> None:
    """Wait for the client to go away, and give up what it asked for."""
    with suppress(OSError):
        client.recv(1)
    contents.interrupt()


class RunningContents(Contents):
    """Asks the process that has the database open. One call can be made of it.

    Args:
        client: connected to that process.
        path: the database that is meant.
    """

    def __init__(self, client: socket.socket, path: Path) -> None:
        self._client = client
        self._path = path

    @classmethod
    def connect(cls, directory: Path, path: Path) -> "RunningContents | None":
        """Reach the process that serves in `data_dir`; None if there is none.

        Args:
            directory: `data_dir`.
            path: the database that is meant.

        Raises:
            FootfallError: it belongs to another user.
        """
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            check_directory(directory)
            with _short_name(directory) as name:
                client.connect(name)
        except (FileNotFoundError, ConnectionRefusedError):
            client.close()
            return None
        except OSError as error:
            client.close()
            raise FootfallError(
                f"Footfall can't be reached at {directory / _NAME}: {error.strerror}. Run this as the user that runs "
                "Footfall (data_dir)."
            ) from None
        return cls(client, path)

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def query(self, sql: str) -> Iterator[Answer]:
        with self._asked(_Query(sql)) as messages:
            columns = msgspec.json.decode(next(messages), type=list[str])
            yield Answer(columns, (msgspec.json.decode(rows, type=list[list[str | None]]) for rows in messages))

    @contextmanager
    def export(self, selection: Selection, form: Format, *, is_restorable: bool = False) -> Iterator[Exported]:
        with self._asked(_Export(selection, form, is_restorable)) as messages:
            yield Exported(int(next(messages)), messages)

    @contextmanager
    def snapshot(self) -> Iterator[Iterator[bytes]]:
        with self._asked(_Snapshot()) as messages:
            yield messages

    @contextmanager
    def _asked(self, call: _Query | _Export | _Snapshot) -> Iterator[Iterator[bytes]]:
        """What the messages of an answer hold."""
        with closing(Connection(self._client.detach())) as connection:
            try:
                connection.send_bytes(msgspec.json.encode(_Request(str(self._path.resolve()), call)))
            except ConnectionError:
                raise OSError("Footfall has closed the connection") from None
            yield _messages(connection)


def _messages(connection: Connection) -> Iterator[bytes]:
    while True:
        try:
            message = connection.recv_bytes()
        except (EOFError, ConnectionError):
            raise OSError("Footfall ended, or gave up, before the answer was whole") from None
        kind, content = message[:1], message[1:]
        if kind == _END:
            return
        if kind == _FAILURE:
            failure = msgspec.json.decode(content, type=_Failure)
            raise next(error for error in _ERRORS if error.__name__ == failure.kind)(failure.text)
        yield content


def _listen(directory: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short_name(directory) as name:
            Path(name).unlink(missing_ok=True)  # of a process that was killed
            # Nobody can connect before it listens, and its mode is right by then.
            listener.bind(name)
            Path(name).chmod(0o600)
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


@contextmanager
def _short_name(directory: Path) -> Iterator[str]:
    """The socket's path, however long the directory's is: a socket's has 108 bytes at most (unix(7))."""
    inside = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{inside}/{_NAME}"
    finally:
        os.close(inside)


def _user_of(client: socket.socket) -> int:
    """Who connected, as the kernel says (unix(7), SO_PEERCRED)."""
    _, user, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(user)


def _set_timeout(client: socket.socket, option: int, seconds: int) -> None:
    client.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", seconds, 0))
