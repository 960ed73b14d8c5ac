"""`footfall serve` from outside: one port, everything on it, a clean start and stop."""

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest

from clickhouse_server import ClickhouseServer
from harness import ANSWER_S, IS_TIMED, START_S, Footfall, eventually, free_port, write_settings


def test_hit_and_event_reach_both_outputs(served: Footfall) -> None:
    """A hit of the image is a line and a view; an event is a view only; the ledger has both."""
    before = served.ledger()
    httpx.get(
        served.url + "/track?site_id=both&path=/a", headers={"User-Agent": "Both/1", "Referer": "https://b.example/"}
    )
    assert 202 == served.post(site_id="both", path="/b", user_id="u").status_code
    served.settle()
    assert {
        "site_id": "both",
        "total_views": 2,
        "unique_users": 2,
        "top_paths": [{"path": "/a", "views": 1}, {"path": "/b", "views": 1}],
    } == served.stats("both")
    lines = [line.split("|")[1:] for line in served.lines() if "Both/1" in line]
    assert [["https://b.example/", "Both/1", "127.0.0.1"]] == lines
    after = served.ledger()
    assert 2 == after["received"] - before["received"]
    assert (
        after["received"]
        == sum(after["sinks"]["visit_log"]["skipped"].values()) + after["sinks"]["visit_log"]["written"]
    )
    assert after["received"] == after["sinks"]["database"]["written"]


def test_accepted_is_in_stats_within_a_second(served: Footfall) -> None:
    """What was acknowledged is reported; how soon is asserted by `make test-timed` only, best of several."""
    delays = []
    for number in range(5):
        served.post(site_id=f"fresh-{number}")
        accepted = time.monotonic()
        eventually(1, lambda: served.stats(f"fresh-{number}")["total_views"])  # noqa: B023 - called at once
        delays.append(time.monotonic() - accepted)

    assert min(delays) < 1.0 or not IS_TIMED


def test_hit_without_parameters_counts_for_its_referrer(served: Footfall) -> None:
    """A bare image takes its site and path from the page that embeds it."""
    httpx.get(served.url + "/track", headers={"Referer": "https://Blog.Example:8443/posts/1?draft=1"})
    served.settle()
    assert [{"path": "/posts/1", "views": 1}] == served.stats("blog.example")["top_paths"]


def test_every_role_is_ready(served: Footfall) -> None:
    """`/readyz` names each role of the service."""
    assert {
        "status": "ready",
        "roles": dict.fromkeys(["collector", "storage", "processor", "reporting"], "ready"),
    } == served.get("/readyz")


def test_metrics_agree_with_the_ledger(served: Footfall) -> None:
    """The metrics are made of the same figures as the ledger."""
    served.settle()
    received = served.ledger()["received"]
    metrics = httpx.get(served.url + "/metrics").text
    assert f"footfall_received_total {float(received)}" in metrics
    assert 'footfall_sink_pending{sink="database"} 0.0' in metrics


def test_reports_come_through_the_collectors_port(served: Footfall) -> None:
    """The documentation, its assets and errors are answered there, too."""
    assert "3.1.0" == served.get("/openapi.json")["openapi"]
    assert "text/html" in httpx.get(served.url + "/docs").headers["content-type"]
    missing = httpx.get(served.url + "/stats")
    assert 422 == missing.status_code
    assert ["site_id"] == [error["field"] for error in missing.json()["errors"]]
    assert 404 == httpx.get(served.url + "/nothing-here").status_code
    assert 405 == httpx.delete(served.url + "/stats").status_code


def test_start_prints_where_to_look_and_what_to_paste(served: Footfall) -> None:
    """A newcomer needs nothing but the start's own words."""
    for text in (f"{served.url}/stats?site_id=", f'<img src="{served.url}/track?site_id=', str(served.visits_log)):
        assert text in served.output()


def test_restart_continues_where_it_was(footfall: Footfall) -> None:
    """A stop loses nothing, and the ledger survives it."""
    footfall.start()
    for number in range(20):
        footfall.post(path=f"/{number}")
    httpx.get(footfall.url + "/track?site_id=a")
    assert 0 == footfall.stop()
    footfall.start()
    footfall.settle()
    assert 21 == footfall.ledger()["received"]
    assert 21 == footfall.stats("a")["total_views"]
    assert 1 == len(footfall.lines())
    assert 0 == footfall.stop()


def test_stop_drains_the_queue(footfall: Footfall) -> None:
    """What was acknowledged before the stop is in the visits log when the program has ended."""
    footfall.start()
    for _ in range(50):
        httpx.get(footfall.url + "/track?site_id=a")
    assert 0 == footfall.stop()
    assert 50 == len(footfall.lines())


def test_several_collector_processes_share_the_work(tmp_path: Path) -> None:
    """With `collector.workers` each process takes hits, and none is lost or doubled."""
    footfall = Footfall(tmp_path, FOOTFALL__COLLECTOR__WORKERS="3")
    try:
        footfall.start()
        threads = [threading.Thread(target=_send_hits, args=(footfall, name)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        footfall.settle()
        agents = [line.split("|")[2] for line in footfall.lines()]
        assert sorted(f"{name}-{number}" for name in "abcd" for number in range(50)) == sorted(agents)
    finally:
        footfall.kill()


def _send_hits(footfall: Footfall, name: str) -> None:
    for number in range(50):
        httpx.get(footfall.url + "/track?site_id=w", headers={"User-Agent": f"{name}-{number}"})


def _page(url: str) -> str:
    """What a service that is just being started answers; empty as long as it does not."""
    try:
        return httpx.get(url).text
    except httpx.TransportError:
        return ""


def test_roles_run_as_services_of_their_own(tmp_path: Path) -> None:
    """Three services over one data directory do what `serve` does."""
    collector = Footfall(tmp_path)
    storage, database = Footfall(tmp_path), Footfall(tmp_path)
    environment = {**collector.environment(), "FOOTFALL__REPORTING__PORT": str(database.port)}
    others = [
        subprocess.Popen([sys.executable, "-m", "footfall", "run", *roles], cwd=tmp_path, env=environment)
        for roles in (["storage"], ["processor", "reporting"])
    ]
    try:
        collector.start("run", "collector")
        # The pages are served elsewhere, and still tell newcomers where the collector is.
        eventually(True, lambda: f"{collector.url}/script.js" in _page(database.url), START_S)
        httpx.get(collector.url + "/track?site_id=split")
        collector.settle()
        assert 1 == len(collector.lines())
        stats = httpx.get(database.url + "/stats", params={"site_id": "split"}).json()
        assert 1 == stats["total_views"]
        assert 404 == httpx.get(collector.url + "/stats", params={"site_id": "split"}).status_code
        assert 200 == httpx.get(database.url + "/ledger").status_code
    finally:
        for process in others:
            process.terminate()
        assert [0, 0] == [process.wait(15) for process in others]
        collector.kill()
        storage.kill()


def test_readiness_names_a_role_that_is_gone(tmp_path: Path) -> None:
    """A storage that can't start again is named by `/readyz`, hits are taken meanwhile, and it comes back by itself."""
    logs, away = tmp_path / "logs", tmp_path / "away"
    logs.mkdir()
    footfall = Footfall(tmp_path, FOOTFALL__STORAGE__PATH=str(logs / "visits.log"))
    try:
        footfall.start()
        logs.rename(away)
        os.kill(footfall.holder("visit_log.lock"), signal.SIGKILL)
        eventually(503, lambda: httpx.get(footfall.url + "/readyz").status_code)
        assert ["storage"] == list(httpx.get(footfall.url + "/readyz").json()["roles"])
        assert 200 == httpx.get(footfall.url + "/track?site_id=a").status_code
        assert "storage was killed by signal 9; restarting it" in footfall.output()
        away.rename(logs)
        eventually(200, lambda: httpx.get(footfall.url + "/readyz").status_code, timeout_s=30)
        footfall.settle()
        assert 1 == len((logs / "visits.log").read_text().splitlines())
    finally:
        footfall.kill()


@pytest.mark.xdist_group("clickhouse")
@pytest.mark.parametrize("roles", [["reporting"], ["collector", "reporting"]])
def test_readiness_names_reporting_when_its_server_is_away(tmp_path: Path, roles: list[str]) -> None:
    """No report can be made then; the service comes back by itself."""
    server = ClickhouseServer(tmp_path / "clickhouse", free_port()).start()
    footfall = Footfall(tmp_path, FOOTFALL__DATABASE__URL=server.url("footfall"))
    footfall.set(FOOTFALL__REPORTING__PORT=str(footfall.port))
    try:
        footfall.start("run", *roles)
        server.kill()
        answer = httpx.get(footfall.url + "/readyz", timeout=ANSWER_S)
        assert (503, ["reporting"]) == (answer.status_code, list(answer.json()["roles"]))
        server.start()
        footfall.await_ready()
    finally:
        footfall.kill()
        server.kill()


def test_port_in_use_is_said_plainly(footfall: Footfall) -> None:
    """The setting to change is named; no traceback."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", footfall.port))
        other.listen()
        result = footfall.command("serve")
    assert 1 == result.returncode
    assert f"collector.port: port {footfall.port} on 127.0.0.1 is taken" in result.stderr
    assert "Traceback" not in result.stderr


def test_host_that_is_none_is_said_plainly(footfall: Footfall) -> None:
    """A dot too many makes a name that can't even be looked up."""
    result = footfall.set(FOOTFALL__COLLECTOR__HOST="127.0..1").command("run", "collector")
    assert 1 == result.returncode
    assert "collector.host, collector.port: can't listen on 127.0..1" in result.stderr
    assert "Traceback" not in result.stderr


def test_second_serve_on_the_same_data_says_who_holds_it(footfall: Footfall) -> None:
    """Two storages never write one visits log."""
    footfall.start()
    second = Footfall(footfall.directory)
    result = second.command("serve")
    assert 1 == result.returncode
    assert "already held by process" in result.stderr
    assert "Traceback" not in result.stderr
    assert 200 == httpx.get(footfall.url + "/readyz").status_code


def test_data_dir_that_cannot_be_made_is_said_plainly(footfall: Footfall) -> None:
    """A file in the way of `data_dir` is named."""
    footfall.data_dir.write_text("in the way")
    result = footfall.command("serve")
    assert 1 == result.returncode
    assert f"data_dir: {footfall.data_dir} can't be written" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", ["database.lock", "storage.presence", "database.presence"])
def test_lock_that_cannot_be_had_is_said_plainly(footfall: Footfall, name: str) -> None:
    """As when somebody else made the file: root, say, with `sudo footfall export`."""
    (footfall.data_dir / name).mkdir(parents=True)
    result = footfall.command("serve")
    assert 1 == result.returncode
    assert f"{footfall.data_dir / name} can't be used: it is not a regular file (data_dir)." in result.stderr
    assert "Traceback" not in result.stderr


def test_missing_directory_of_the_visits_log_is_said_plainly(tmp_path: Path) -> None:
    """The setting is named, and nothing keeps running."""
    footfall = Footfall(tmp_path, FOOTFALL__STORAGE__PATH=str(tmp_path / "absent" / "visits.log"))
    result = footfall.command("serve")
    assert 1 == result.returncode
    assert "storage.path" in result.stderr
    assert "Traceback" not in result.stderr


def test_database_opened_elsewhere_is_said_plainly(footfall: Footfall) -> None:
    """DuckDB lets one process in; the error says so."""
    footfall.data_dir.mkdir()
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(footfall.data_dir / "footfall.duckdb")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        result = footfall.command("serve")
        assert other.stdin is not None
        other.stdin.close()
    assert 1 == result.returncode
    assert str(other.pid) in result.stderr
    assert "Traceback" not in result.stderr


def test_reporting_without_processor_is_refused(footfall: Footfall) -> None:
    """With DuckDB the two share a process, and the error says how."""
    result = footfall.command("run", "reporting")
    assert 2 == result.returncode
    assert "footfall run processor reporting" in result.stderr


def test_reports_beyond_loopback_need_a_token(tmp_path: Path) -> None:
    """No report is open to the network by accident."""
    footfall = Footfall(tmp_path, FOOTFALL__COLLECTOR__HOST="0.0.0.0")
    result = footfall.command("serve")
    assert 2 == result.returncode
    assert "reporting.token" in result.stderr


def test_token_guards_reports_and_not_collecting(tmp_path: Path) -> None:
    """With a token set, figures need it; hits, health and readiness do not."""
    footfall = Footfall(tmp_path, FOOTFALL__REPORTING__TOKEN="correct-horse")
    try:
        footfall.start()
        assert 200 == httpx.get(footfall.url + "/track?site_id=t").status_code
        assert 202 == footfall.post(site_id="t").status_code
        for path in ("/stats?site_id=t", "/ledger", "/metrics"):
            refused = httpx.get(footfall.url + path)
            assert (401, True) == (refused.status_code, refused.headers["www-authenticate"].startswith("Bearer"))
            headers = {"Authorization": "Bearer correct-horse"}
            assert 200 == httpx.get(footfall.url + path, headers=headers).status_code
        for path in ("/healthz", "/readyz"):
            assert 200 == httpx.get(footfall.url + path).status_code
    finally:
        footfall.kill()


def test_one_connection_for_many_reports(served: Footfall) -> None:
    """A client asks for figures, state and files one after the other, right or wrong, and need not connect again."""
    asked = [
        ("GET", "/stats?site_id=s", 200),
        ("GET", "/ledger", 200),
        ("HEAD", "/docs/swagger-ui-bundle.js", 200),
        ("GET", "/docs/swagger-ui-bundle.js", 200),
        ("POST", "/stats?site_id=s", 405),
        ("GET", "/stats", 422),
        ("GET", "/no-such-page", 404),
        ("GET", "/stats?site_id=s", 200),
    ]
    connection = HTTPConnection("127.0.0.1", served.port, timeout=ANSWER_S)
    with closing(connection):
        connection.connect()
        port = connection.sock.getsockname()[1]
        for method, target, status in asked:
            connection.request(method, target)
            answer = connection.getresponse()
            body = answer.read()
            assert (status, method == "HEAD") == (answer.status, body == b"")
            assert port == connection.sock.getsockname()[1]


def test_second_signal_ends_it_at_once(footfall: Footfall) -> None:
    """Somebody in a hurry does not wait for a connection that stays open."""
    footfall.start()
    with socket.create_connection(("127.0.0.1", footfall.port)) as slow:
        slow.sendall(b"POST /event HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
        footfall.process.terminate()
        eventually(True, lambda: _refuses_connections(footfall.port))
        footfall.process.terminate()
        eventually(True, lambda: footfall.process.poll() is not None, 5.0)  # half of what a stop may take


def _refuses_connections(port: int) -> bool:
    """Whether the collector has begun to stop; the supervisor's own socket still takes a connection in."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.2) as probe:
            probe.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            return not probe.recv(1)
    except OSError:
        return True


def test_killed_supervisor_takes_its_processes_along(footfall: Footfall) -> None:
    """No process outlives the one that looks after it, and the port is free again."""
    footfall.start()
    footfall.process.kill()
    footfall.process.wait()
    eventually(True, lambda: _is_free(footfall.port), timeout_s=15)
    footfall.start()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections linger in the kernel
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def test_data_is_not_for_everybody(footfall: Footfall) -> None:
    """Addresses of visitors are readable by the owner's group at most."""
    footfall.start()
    httpx.get(footfall.url + "/track?site_id=a")
    footfall.settle()
    for path in (footfall.data_dir, footfall.visits_log):
        assert 0 == stat.S_IMODE(path.stat().st_mode) & stat.S_IRWXO


def test_settings_file_and_config_command(footfall: Footfall) -> None:
    """`footfall config` shows each value and where it came from; a bad one exits 2, named."""
    write_settings(footfall.directory, {"queue": {"max_bytes": 5_000_000}})
    shown = footfall.command("config")
    assert 0 == shown.returncode
    rows = {line.split()[0]: line.split()[1:] for line in shown.stdout.splitlines()}
    assert ["5000000", "appsettings.json"] == rows["queue.max_bytes"]
    assert [str(footfall.port), "FOOTFALL__COLLECTOR__PORT"] == rows["collector.port"]
    assert ["disk", "default"] == rows["queue.durability"]
    write_settings(footfall.directory, {"queue": {"max_bytes": "many"}})
    refused = footfall.command("config")
    assert (2, True) == (refused.returncode, "queue.max_bytes" in refused.stderr)
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["run", "--help"], ["import", "--help"]])
def test_help_teaches(footfall: Footfall, arguments: list[str]) -> None:
    """Each command explains itself."""
    result = footfall.command(*arguments)
    assert 0 == result.returncode
    assert "Usage: " in result.stdout
