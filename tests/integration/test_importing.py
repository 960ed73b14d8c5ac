"""`footfall import` as somebody at a shell meets it."""

import gzip
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from harness import START_S, Footfall

LOG = Path(__file__).parents[1] / "data" / "access.log.gz"


def test_copies_of_a_log_add_nothing(footfall: Footfall) -> None:
    """A shorter one, the rest of one, and one from standard input; nothing but sentences is on standard error."""
    whole = gzip.decompress(LOG.read_bytes())
    lines = whole.splitlines(keepends=True)
    (footfall.directory / "head.log").write_bytes(b"".join(lines[:200]))
    (footfall.directory / "rest.log.gz").write_bytes(gzip.compress(b"".join(lines[4_321:])))
    assert footfall.command("import", str(LOG), "--site-id", "old-site").stdout.startswith("9,999 hits sent\n")

    copies = footfall.command("import", "head.log", "rest.log.gz", "--site-id", "old-site")
    assert 0 == copies.returncode
    assert "head.log: 0 hits sent; 200 lines had been imported before" in copies.stdout
    assert "rest.log.gz: 0 hits sent; 5,678 lines had been imported before" in copies.stdout
    assert all(line.endswith(".") for line in copies.stderr.splitlines())

    piped = import_from(footfall, whole)
    assert (0, True) == (piped.returncode, piped.stdout.startswith(b"0 hits sent; 9,999 lines"))


def import_from(footfall: Footfall, content: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "footfall", "import", "-", "--site-id", "old-site"]
    return subprocess.run(
        command, input=content, cwd=footfall.directory, env=footfall.environment(), capture_output=True, check=False
    )


def test_a_sites_own_pages_are_no_source(footfall: Footfall) -> None:
    """The log's own host, which its pages tell, is none, with and without `www.`; other hosts are."""
    shutil.copy(LOG, footfall.directory / "access.log.gz")
    footfall.start()
    told = footfall.command("import", "access.log.gz", "--site-id", "old-site").stderr
    assert "Its pages are on semicomplete.com, which is no source (--host)." in told
    footfall.settle()
    assert 0 == footfall.stop()

    exported = footfall.command("export", "events.ndjson")
    assert 0 == exported.returncode, exported.stderr
    text = (footfall.directory / "events.ndjson").read_text("utf-8")
    assert '"source":"Google"' in text
    assert '"source":"semicomplete.com"' not in text


def test_ctrl_c_says_what_is_in_and_how_to_go_on(footfall: Footfall) -> None:
    """What was read is sent, and the same command sends the rest."""
    large = footfall.directory / "large.log"
    with large.open("wb") as file:
        for hour in range(24):
            for number in range(5_000):
                file.write(
                    b'192.0.2.1 - - [17/May/2015:%02d:%02d:%02d +0000] "GET /%d HTTP/1.1" 200 5\n'
                    % (hour, number // 60 % 60, number % 60, number)
                )
    arguments = [sys.executable, "-m", "footfall", "import", str(large), "--site-id", "large"]
    process = subprocess.Popen(
        arguments,
        cwd=footfall.directory,
        env=footfall.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "Common Log Format" in process.stderr.readline()
    has_begun = footfall.data_dir / "queue.sqlite-wal"
    deadline = time.monotonic() + START_S
    while not (has_begun.exists() and has_begun.stat().st_size > 200_000):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=START_S)

    assert 130 == process.returncode
    assert "interrupted. What was sent is in. To go on, run the same command again" in stderr
    sent = int(stdout.split()[0].replace(",", ""))
    assert 0 < sent < 120_000
    rest = footfall.command("import", str(large), "--site-id", "large").stdout
    assert f"{120_000 - sent:,} hits sent; {sent:,} lines had been imported before" in rest


def test_a_log_of_another_format_is_an_error(footfall: Footfall) -> None:
    """It is not `0 hits sent` with the exit code of success."""
    (footfall.directory / "caddy.log").write_text('{"request":{"uri":"/"}}\n')
    refused = footfall.command("import", "caddy.log", "--site-id", "a")
    assert (2, "") == (refused.returncode, refused.stdout)
    assert "caddy.log is in no format that is understood" in refused.stderr
