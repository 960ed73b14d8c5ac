"""Who reads reports: strangers, proxies on the same machine, other users of it, and whoever tries tokens."""

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from harness import Footfall, eventually, free_port, read_answer
from raw_http import Answer, exchange, get, parse_answers, read_to_end

REPORTS = ["/", "/stats?site_id=s", "/ledger", "/metrics", "/docs", "/openapi.json", "/no-such-page"]
STRANGER = 65_534
"""The user id of `nobody`."""

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/local/sbin:/usr/sbin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed: make services")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user: run the tests as root")

_NGINX_CONFIG = """
daemon off;
worker_processes 1;
pid nginx.pid;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    SERVER
}
"""
_BARE_PROXY_PASS = "server { listen 127.0.0.1:PORT; location / { proxy_pass http://127.0.0.1:BEHIND; MORE } }"
_OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


@contextmanager
def nginx(directory: Path, behind: int, more: str = "", server: str = _BARE_PROXY_PASS) -> Iterator[str]:
    """The address of an nginx that passes everything on to the port `behind`, by `more` than a bare `proxy_pass`."""
    assert NGINX is not None
    port = free_port()
    server = server.replace("PORT", str(port)).replace("BEHIND", str(behind)).replace("MORE", more)
    directory.joinpath("nginx.conf").write_text(_NGINX_CONFIG.replace("SERVER", server), "utf-8")
    process = subprocess.Popen([NGINX, "-p", str(directory), "-c", "nginx.conf", "-e", "error.log"], cwd=directory)
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(True, lambda: is_open(port))
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def statuses(url: str, paths: list[str]) -> dict[str, int]:
    return {path: httpx.get(url + path).status_code for path in paths}


def exchange_as(user: int, port: int, *parts: bytes) -> list[Answer]:
    """As `exchange`, over a socket of another user."""
    own = os.geteuid()
    os.seteuid(user)
    try:
        connection = socket.socket()
    finally:
        os.seteuid(own)
    with connection:
        connection.settimeout(5)
        connection.connect(("127.0.0.1", port))
        for part in parts:
            connection.sendall(part)
        return parse_answers(read_to_end(connection))


@needs_nginx
def test_a_bare_proxy_pass_opens_no_report(served: Footfall, tmp_path: Path) -> None:
    """Nginx with nothing but `proxy_pass` sends a local Host and no header of its own; hits still get through."""
    with nginx(tmp_path, served.port) as url:
        assert dict.fromkeys(REPORTS, 403) == statuses(url, REPORTS)
        assert {"/healthz": 200, "/readyz": 200, "/track": 200} == statuses(url, ["/healthz", "/readyz", "/track"])


def test_a_person_from_elsewhere_reads_why_on_a_page(served: Footfall) -> None:
    """A browser that comes through a proxy is shown what to set, and no more than a program is."""
    headers = {"Host": "stats.example.com", "Accept": "text/html,*/*;q=0.8"}
    answer = httpx.get(served.url, headers=headers)

    assert (403, "text/html; charset=utf-8") == (answer.status_code, answer.headers["content-type"])
    assert "set <code>reporting.token</code>" in answer.text


@needs_nginx
def test_the_printed_nginx_opens_collecting_and_with_a_token_the_rest(tmp_path: Path) -> None:
    """The example of the operations guide passes on the script, hits and events; with its one change, pages, too."""
    [printed] = re.findall(r"^```nginx\n(.*?)^```$", _OPERATIONS.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    closed = printed.replace("listen 80;", "listen 127.0.0.1:PORT;").replace("127.0.0.1:8000", "127.0.0.1:BEHIND")
    opened = closed.replace("return 404;", "proxy_pass http://footfall;")
    assert closed != opened
    collecting = ["/script.js", "/track"]
    footfall = Footfall(tmp_path, FOOTFALL__REPORTING__TOKEN="open-sesame-and-more")
    footfall.set(FOOTFALL__COLLECTOR__TRUSTED_PROXIES="127.0.0.1")
    try:
        footfall.start()
        with nginx(tmp_path, footfall.port, server=closed) as url:
            assert dict.fromkeys(collecting, 200) == statuses(url, collecting)
            assert dict.fromkeys(REPORTS, 404) == statuses(url, REPORTS)
            event = {"site_id": "s", "event_type": "page_view"}
            assert 202 == httpx.post(f"{url}/event", json=event).status_code
            assert 202 == httpx.post(f"{url}/events", json=[event]).status_code
        with nginx(tmp_path, footfall.port, server=opened) as url:
            assert dict.fromkeys(collecting, 200) == statuses(url, collecting)
            assert 401 == httpx.get(f"{url}/").status_code
            with httpx.Client() as browser:
                browser.post(f"{url}/session", data={"token": "open-sesame-and-more"})
                assert 200 == browser.get(f"{url}/sites/s").status_code
                with browser.stream("GET", f"{url}/sites/s/live") as live:
                    assert "event: now" == next(live.iter_lines())
    finally:
        footfall.kill()


@needs_nginx
@needs_root
def test_a_proxy_that_speaks_http_1_1_opens_no_report(served: Footfall, tmp_path: Path) -> None:
    """Nginx from 1.29.7 on looks like a local client in every byte; its workers are another user, and that tells."""
    more = 'proxy_http_version 1.1; proxy_set_header Connection "";'
    with nginx(tmp_path, served.port, more) as url:
        assert dict.fromkeys(REPORTS, 403) == statuses(url, REPORTS)
        assert 200 == httpx.get(url + "/track").status_code


@needs_nginx
def test_a_port_for_reports_alone_is_as_closed(tmp_path: Path) -> None:
    """`footfall run processor reporting` has a server of its own, with the same rule."""
    footfall = Footfall(tmp_path)
    footfall.set(FOOTFALL__REPORTING__PORT=str(footfall.port))
    try:
        footfall.start("run", "processor", "reporting")
        with nginx(tmp_path, footfall.port) as url:
            assert dict.fromkeys(REPORTS, 403) == statuses(url, REPORTS)
        assert 200 == httpx.get(footfall.url + "/stats?site_id=s").status_code
    finally:
        footfall.kill()


@needs_root
def test_another_user_of_the_machine_reads_no_report(served: Footfall) -> None:
    """An account on the same machine is not enough, whatever it sends."""
    for path in REPORTS:
        [answer] = exchange_as(STRANGER, served.port, get(path.encode(), b"Connection: close"))
        assert (403, True) == (answer.status, b"reporting.token" in answer.body), path


def test_whoever_started_it_reads_reports(served: Footfall) -> None:
    """The `curl` of the README needs no token."""
    for path in ("/stats?site_id=s", "/ledger", "/metrics", "/docs", "/openapi.json"):
        [answer] = exchange(served.port, get(path.encode(), b"Connection: close"))
        assert 200 == answer.status, path


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"GET /stats?site_id=s HTTP/1.0\r\nHost: localhost\r\n\r\n", id="1.0"),
        pytest.param(
            b"GET /stats?site_id=s HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n", id="1.0 kept"
        ),
        pytest.param(get(b"/stats?site_id=s", b"X-Forwarded-Proto: https", b"Connection: close"), id="proxy"),
        pytest.param(get(b"/stats?site_id=s", b"CF-Ray: 1", b"Connection: close"), id="CDN"),
        pytest.param(
            b"GET /stats?site_id=s HTTP/1.1\r\nHost: stats.example.com\r\nConnection: close\r\n\r\n", id="host"
        ),
    ],
)
def test_what_is_not_plainly_local_reads_no_report(served: Footfall, request_: bytes) -> None:
    """The old version, a header of a proxy or CDN and a foreign name are each enough to refuse, and the text helps."""
    [answer] = exchange(served.port, request_)

    assert 403 == answer.status
    assert b"reporting.token" in answer.body
    assert b"ssh -L" in answer.body


@pytest.mark.parametrize("command", [("serve",), ("run", "collector")])
def test_a_short_token_is_refused_on_a_public_address(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Whoever reaches the port can try tokens, so one that can be guessed stops the start, and the text helps."""
    footfall = Footfall(tmp_path, FOOTFALL__COLLECTOR__HOST="0.0.0.0", FOOTFALL__REPORTING__TOKEN="fifteen-letters")

    result = footfall.command(*command)

    assert 2 == result.returncode
    assert "reporting.token" in result.stderr
    assert "openssl rand -hex 24" in result.stderr
    assert "fifteen-letters" not in result.stderr


def test_a_public_collector_without_a_token_tells_nobody_else_its_state(tmp_path: Path) -> None:
    """It makes no reports and may start without one; its ledger is for this machine all the same."""
    footfall = Footfall(tmp_path, FOOTFALL__COLLECTOR__HOST="0.0.0.0")
    try:
        footfall.start("run", "collector")
        assert 200 == httpx.get(footfall.url + "/ledger").status_code
        assert 403 == httpx.get(footfall.url + "/ledger", headers={"Host": "stats.example.com"}).status_code
    finally:
        footfall.kill()


def test_trusting_every_address_is_refused(tmp_path: Path) -> None:
    """With 0.0.0.0/0 anybody could write any address into X-Forwarded-For; the text names the danger."""
    result = Footfall(tmp_path, FOOTFALL__COLLECTOR__TRUSTED_PROXIES="0.0.0.0/0").command("serve")

    assert 2 == result.returncode
    assert "collector.trusted_proxies" in result.stderr
    assert "forge visitors" in result.stderr


def test_the_password_of_a_kafka_url_without_slashes_is_not_printed(tmp_path: Path) -> None:
    """`footfall config` and the refusal to start show nothing of an address that they can't take apart."""
    footfall = Footfall(tmp_path, FOOTFALL__QUEUE__URL="kafka:user:hunter2@host:9092/hits")

    for command in ("config", "serve"):
        result = footfall.command(command)
        assert "queue.url" in result.stdout + result.stderr
        assert "hunter2" not in result.stdout + result.stderr


TOKEN = "a-long-random-text"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Footfall]:
    """`footfall serve` with a token, two collectors, and a proxy on this machine that it trusts."""
    footfall = Footfall(
        tmp_path_factory.mktemp("guarded"),
        FOOTFALL__REPORTING__TOKEN=TOKEN,
        FOOTFALL__COLLECTOR__TRUSTED_PROXIES="127.0.0.1",
        FOOTFALL__COLLECTOR__WORKERS="2",
    ).start()
    yield footfall
    footfall.kill()


def ask(footfall: Footfall, visitor: str, token: str, path: str = "/stats?site_id=s") -> httpx.Response:
    """As the proxy does, for a visitor."""
    return httpx.get(footfall.url + path, headers={"Authorization": f"Bearer {token}", "X-Forwarded-For": visitor})


def refused(footfall: Footfall) -> dict[str, float]:
    """How many requests for reports were refused, by reason."""
    metrics = ask(footfall, "9.9.9.250", TOKEN, "/metrics").text
    return {
        reason: float(count)
        for reason, count in re.findall(
            r'^footfall_reports_refused_total\{reason="(\w+)"\} (\S+)$', metrics, re.MULTILINE
        )
    }


def test_a_wrong_token_is_answered_slowly_and_logged(guarded: Footfall) -> None:
    """A second later, with the address and without what was sent; the right one is not held up."""
    before = refused(guarded)["wrong_token"]
    started = time.monotonic()

    answer = ask(guarded, "9.9.9.1", "guess-" + TOKEN)

    assert 401 == answer.status_code
    assert time.monotonic() - started >= 1.0
    assert "a wrong token for reports came from 9.9.9.1" in guarded.output()
    assert TOKEN not in guarded.output()
    assert 1 == refused(guarded)["wrong_token"] - before


def test_the_body_of_a_stranger_is_not_read(guarded: Footfall) -> None:
    """Who may not ask is told so by the head of a request alone, whatever comes after it."""
    lines = [b"Content-Length: 999999999", b"X-Forwarded-For: 9.9.9.4"]
    [answer] = exchange(guarded.port, get(b"/stats?site_id=s", *lines, method=b"POST"))

    assert (401, "close") == (answer.status, answer.headers["connection"])


def test_reports_are_limited_by_address(guarded: Footfall) -> None:
    """A visitor who asks too often is told when to come back; another is answered, and hits always are."""
    before = refused(guarded)["rate_limited"]
    request = get(b"/no-such-page", b"X-Forwarded-For: 9.9.9.2", b"Authorization: Bearer " + TOKEN.encode())

    limited = 0
    for answer in ask_again_and_again(guarded.port, request):
        if answer.status == 429:
            limited += 1
            assert "1" == answer.headers["retry-after"]
        if limited == 10:
            break

    assert 10 == refused(guarded)["rate_limited"] - before
    assert 200 == ask(guarded, "9.9.9.3", TOKEN).status_code
    assert 200 == ask(guarded, "9.9.9.2", TOKEN, "/track").status_code


def ask_again_and_again(port: int, request: bytes) -> Iterator[Answer]:
    """Each time once the one before is answered, over a few connections."""
    while True:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            answer = Answer(0, {}, b"")
            while answer.headers.get("connection") != "close":
                connection.sendall(request)
                [answer] = parse_answers(read_answer(connection))
                yield answer


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 4_000, reason="needs 4,000 files: ulimit -Hn 4000")
def test_unfinished_requests_keep_nobody_from_the_port_for_reports(tmp_path: Path) -> None:
    """1,500 of them, where the system gives a process 1,024 files unless it asks for more."""
    footfall = Footfall(tmp_path)
    footfall.set(FOOTFALL__REPORTING__PORT=str(footfall.port))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1_024, hard))
        footfall.spawn("run", "processor", "reporting")
        resource.setrlimit(resource.RLIMIT_NOFILE, (4_000, hard))
        footfall.await_ready()
        with ExitStack() as opened:
            for _ in range(1_500):
                connection = opened.enter_context(socket.create_connection(("127.0.0.1", footfall.port)))
                connection.sendall(b"GET /stats HTTP/1.1\r\n")
            assert 0 == footfall.stats("s")["total_views"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        footfall.kill()
