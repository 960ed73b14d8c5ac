"""ClickHouse for tests: the engine of the same release (`chdb-core`) behind as much of its HTTP protocol as is needed.

There is no ClickHouse server among Python's packages, but there is its engine. What is tested here is therefore real:
tables, deduplication, transactions of an insert, limits, error codes. What is not: replication, users but one, and what
its own HTTP server does with a connection that ends too early; here such an insert is given up, as it is there.

A request runs in a session of the engine of its own, in a thread of its own. All of the protocol that matters is in
https://clickhouse.com/docs/interfaces/http: the query in the parameter `query` or in the body, or half in each; the
data of an insert behind it; `param_x` for `{x:Type}`; any other parameter is a setting; errors in
`X-ClickHouse-Exception-Code`.
"""

import argparse
import base64
import importlib
import json
import re
import subprocess
import sys
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import lz4.frame

START_S = 60.0
_CHUNK = 256 * 1024
_NO_SETTINGS = {
    "query",
    "database",
    "query_id",
    "session_id",
    "session_timeout",
    "session_check",
    "client_protocol_version",
    "wait_end_of_query",
    "buffer_size",
    "enable_http_compression",
    "send_progress_in_http_headers",
    "http_headers_progress_interval_ms",
    "cancel_http_readonly_queries_on_client_close",
}
_INSERT = re.compile(rb"\s*(INSERT\s+INTO\s.*?)\s+FORMAT\s+(\w+)\s*?\n", re.IGNORECASE | re.DOTALL)
_CODE = re.compile(r"Code: (\d+)")
_STATUSES = {516: 403, 60: 404, 81: 404, 159: 408}
"""What the real one answers where it is not 500."""


class ClickhouseServer:
    """A server in a process of its own.

    Attributes:
        port: where it listens.
        password: of the user `default`.
    """

    def __init__(self, path: Path, port: int, password: str = "") -> None:
        self._path = path
        self.port = port
        self.password = password
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        """What `database.url` is to be."""
        user = f"default:{self.password}" if self.password else "default"
        return f"clickhouse://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> "ClickhouseServer":
        """Start it on the data that is there, and wait until it answers."""
        arguments = ["--path", str(self._path), "--port", str(self.port), "--password", self.password]
        self._process = subprocess.Popen([sys.executable, __file__, *arguments], stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self._process.poll() is None, "ClickHouse ended at its start"
            assert time.monotonic() < deadline, "ClickHouse does not answer"
            time.sleep(0.05)
        return self

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @contextmanager
    def killed_at_next_rename(self) -> Iterator[Callable[[], None]]:
        """Call what is given, and it is killed when it puts what it has written in its place: an insert's last step.

        Waits at the end until that has happened, and starts it again.
        """
        with ExitStack() as held:

            def trace() -> None:
                assert self._process is not None
                command = ["strace", "-f", "-e", "inject=rename:signal=KILL", "-o", "/dev/null"]
                tracer = held.enter_context(
                    subprocess.Popen([*command, "-p", str(self._process.pid)], stderr=subprocess.PIPE, text=True)
                )
                assert tracer.stderr is not None
                first = tracer.stderr.readline()
                assert "attached" in first, first

            yield trace
            assert self._process is not None
            self._process.wait(START_S)
        self.start()

    def _answers(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


class _GoneError(Exception):
    """The client went away before its request was whole."""


class _FailedError(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        code = _CODE.search(text)
        self.code = int(code[1]) if code else 1001
        self.status = _STATUSES.get(self.code, 500)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    password = ""
    open_session: Callable[[], Any]

    def do_GET(self) -> None:
        if urlsplit(self.path).path == "/ping":
            self._answer(200, b"Ok.\n")
        else:
            self.do_POST()

    def do_POST(self) -> None:
        parameters = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        query_id = parameters.get("query_id") or str(uuid.uuid4())
        try:
            body = self._body()
            answer, written = self._run(parameters, body)
        except _GoneError:
            self.close_connection = True
        except _FailedError as error:
            self.close_connection = True
            headers = {"X-ClickHouse-Exception-Code": str(error.code), "X-ClickHouse-Query-Id": query_id}
            self._answer(error.status, f"{error} (version 26.9)\n".encode(), headers)
        else:
            headers = {
                "X-ClickHouse-Summary": json.dumps({"written_rows": str(written)}),
                "X-ClickHouse-Query-Id": query_id,
                "X-ClickHouse-Timezone": "UTC",
            }
            self._answer(200, answer, headers)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
        pass

    def _may_enter(self) -> bool:
        if "X-ClickHouse-User" in self.headers:
            given = f"{self.headers['X-ClickHouse-User']}:{self.headers.get('X-ClickHouse-Key', '')}"
        elif authorization := self.headers.get("Authorization", ""):
            given = base64.b64decode(authorization.removeprefix("Basic ")).decode()
        else:
            given = "default:"
        return given == f"default:{self.password}"

    def _run(self, parameters: dict[str, str], body: Iterator[bytes]) -> tuple[bytes, int]:
        """What the query gives, and how many rows it wrote."""
        if not self._may_enter():
            raise _FailedError("Code: 516. DB::Exception: default: Authentication failed. (AUTHENTICATION_FAILED)")
        files = self._files(body) if self.headers.get("Content-Type", "").startswith("multipart/form-data") else {}
        fields = {name: files[name].decode() for name in files if f"{name}_structure" not in parameters}
        parameters |= fields  # what would be too long for an address
        files = {name: data for name, data in files.items() if name not in fields}
        # As much of the body as a query may be long; the data of an insert may go on behind it.
        head = parameters.get("query", "").encode()
        head += b"\n" if head else b""
        for part in body:
            head += part
            if len(head) > _CHUNK or _INSERT.match(head):
                break
        session = self.open_session()
        try:
            session.query("SET session_timezone = 'UTC'")
            if database := parameters.get("database"):
                session.query(f"USE `{database}`")
            for name, data in files.items():
                session.query(f"CREATE TEMPORARY TABLE {name} ({parameters.pop(f'{name}_structure')})")
                self._insert(session, f"INSERT INTO {name}", parameters.pop(f"{name}_format"), data, iter(()))
            for name, value in parameters.items():
                if name not in _NO_SETTINGS and not name.startswith("param_"):
                    session.query(f"SET {name} = {_quoted(value)}")
            if insert := _INSERT.match(head):
                return b"", self._insert(session, insert[1].decode(), insert[2].decode(), head[insert.end() :], body)
            query = (head + b"".join(body)).decode()
            bound = {
                name.removeprefix("param_"): value for name, value in parameters.items() if name.startswith("param_")
            }
            result = session.query(query, "TabSeparated", params=bound)
            return result.bytes(), 0
        except (RuntimeError, _engine().ChdbError) as error:
            raise _FailedError(str(error)) from error
        finally:
            session.close()

    def _insert(self, session: Any, query: str, form: str, first: bytes, rest: Iterator[bytes]) -> int:
        with session.send_insert(query, form) as stream:  # leaving it without `finish` gives the insert up
            if first:
                stream.append(first)
            for part in rest:
                stream.append(part)
            written = int(stream.finish().rows_written)
        if not written:
            # All that the engine says of one that was killed; the real server says this.
            raise _FailedError("Code: 394. DB::Exception: Query was cancelled. (QUERY_WAS_CANCELLED)")
        return written

    def _body(self) -> Iterator[bytes]:
        """The body of the request, unpacked, as it arrives."""
        parts = self._chunked() if self.headers.get("Transfer-Encoding") == "chunked" else self._counted()
        match self.headers.get("Content-Encoding"):
            case None:
                return parts
            case "lz4":
                return map(lz4.frame.LZ4FrameDecompressor().decompress, parts)
            case "gzip":
                return map(zlib.decompressobj(31).decompress, parts)
            case other:
                raise _FailedError(f"Code: 89. DB::Exception: {other} is not known to this test server")

    def _files(self, body: Iterator[bytes]) -> dict[str, bytes]:
        """The parts of a form, by name; they are tables for the query."""
        boundary = b"--" + self.headers["Content-Type"].partition("boundary=")[2].encode()
        files = {}
        for part in b"".join(body).split(boundary)[1:-1]:
            head, _, data = part.partition(b"\r\n\r\n")
            name = re.search(rb'name="(\w+)"', head)
            assert name is not None
            files[name[1].decode()] = data.removesuffix(b"\r\n")
        return files

    def _counted(self) -> Iterator[bytes]:
        left = int(self.headers.get("Content-Length", 0))
        while left:
            part = self.rfile.read(min(left, _CHUNK))
            if not part:
                raise _GoneError
            left -= len(part)
            yield part

    def _chunked(self) -> Iterator[bytes]:
        while True:
            size = self.rfile.readline()
            if not size.endswith(b"\n"):
                raise _GoneError
            part = self.rfile.read(int(size, 16))
            if len(part) < int(size, 16) or self.rfile.readline() != b"\r\n":
                raise _GoneError
            if not part:
                return
            yield part

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True


def _engine() -> Any:
    """`chdb`, which only the server's process loads, for it is large; it has no types."""
    importlib.import_module("chdb.session")
    return sys.modules["chdb"]


def _quoted(value: str) -> str:
    """A number as it is; SET takes no text for it."""
    if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--path", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--password", default="")
    arguments = parser.parse_args()
    open_session = partial(_engine().session.Session, arguments.path)
    # While one session is open the engine keeps the tables loaded.
    with open_session():
        _Handler.password = arguments.password
        _Handler.open_session = open_session
        _Server((arguments.host, arguments.port), _Handler).serve_forever()


if __name__ == "__main__":
    main()
