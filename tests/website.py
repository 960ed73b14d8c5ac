"""A website on this machine, for a browser: pages of a few lines, each of which counts its visitors with Footfall."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_TYPES = {"pdf": "application/pdf", "js": "text/javascript", "ico": "image/x-icon"}


class Website:
    """Pages by their paths, served on every `*.example` host, which the browser of the tests resolves to this machine.

    Attributes:
        port: where it is served.
        pages: what is answered for each path, without the query; the content type follows from the path's ending.
        headers: header lines of every answer.
        asked: the paths that were asked for, in order, except for the icon.
    """

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        self.asked: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.port: int = self._server.server_port

    def url(self, path: str = "/", host: str = "site.example") -> str:
        return f"http://{host}:{self.port}{path}"

    def clear(self, pages: Mapping[str, str], **headers: str) -> "Website":
        """Begin anew with these pages; in the names of headers, `_` stands for `-`."""
        self.pages = dict(pages)
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.asked = []
        return self

    @contextmanager
    def running(self) -> Iterator["Website"]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        website = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                text = website.pages.get(path)
                if path != "/favicon.ico":
                    website.asked.append(self.path)
                body = (text or "").encode()
                self.send_response(404 if text is None else 200)
                ending = path.rpartition(".")[2]
                self.send_header("Content-Type", _TYPES.get(ending, "text/html; charset=utf-8"))
                self.send_header("Content-Length", str(len(body)))
                for name, value in website.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
                """Say nothing."""

        return Handler
