import bz2
import gzip
import tempfile
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from footfall.commands.import_log import ImportReport, import_log
from footfall.commands.logfile import LogFile, Skipped
from footfall.entry import Entry, Hit, decode_entries
from footfall.errors import AlreadyInUseError, BadUsageError, QueueFullError
from footfall.queue.base import Progress
from footfall.queue.local.store import LocalQueue

TORN = b'192.0.2.1 - - [20/May/2015:12:05:17 +0000] "GET /torn HTTP/1.1" 200 5 "-" "Mozilla/5.0 (compatible; http://bot'


class Interrupted(Exception):  # noqa: N818 - stands for a Ctrl-C or a kill
    pass


def line(number: int, *, method: str = "GET", path: str | None = None, status: int = 200) -> bytes:
    target = f"/page/{number}" if path is None else path
    return (
        f"192.0.2.{number % 250} - - [17/May/2015:10:{number // 60 % 60:02}:{number % 60:02} +0000] "
        f'"{method} {target} HTTP/1.1" {status} 512 "https://news.example/{number}" "Agent/{number}"\n'
    ).encode()


def lines(count: int, *, start: int = 0) -> bytes:
    return b"".join(line(number) for number in range(start, start + count))


def pages(numbers: Iterable[int]) -> list[str]:
    return [f"/page/{number}" for number in numbers]


def entries_of(queue: LocalQueue) -> list[Entry]:
    return [entry for batch in queue.read(0, max_bytes=1 << 30) for entry in decode_entries(batch.payload)]


def paths_of(queue: LocalQueue) -> list[str]:
    return [entry.path or "" for entry in entries_of(queue)]


def open_queue(path: Path, *, max_bytes: int = 1 << 30) -> LocalQueue:
    return LocalQueue(path, sinks=["sink"], durability="memory", max_bytes=max_bytes)


def run(
    path: Path,
    queue: LocalQueue,
    *,
    site_id: str = "site",
    hosts: Sequence[str] = (),
    only_pages: bool = False,
    again: bool = False,
) -> ImportReport:
    with LogFile(path) as log:
        return import_log(log, queue, site_id=site_id, hosts=hosts, only_pages=only_pages, again=again)


def interrupt_after(calls: int) -> Callable[[object], None]:
    """A callback that lets so many calls pass."""
    left = iter(range(calls))

    def call(_: object) -> None:
        if next(left, None) is None:
            raise Interrupted

    return call


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[LocalQueue]:
    queue = open_queue(tmp_path / "queue")
    yield queue
    queue.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


def test_a_line_becomes_the_hit_it_once_was(log: Path, queue: LocalQueue) -> None:
    """Time, address, referrer and user agent are the original ones, the path is the requested one."""
    log.write_bytes(
        b'203.0.113.9 - - [17/May/2015:10:05:03 +0200] "GET /a%20b?c=d HTTP/1.1" 200 5 "-" "Caf\\xe9 \\"1\\""\n'
    )
    run(log, queue, site_id="blog")
    received_ns = int(datetime(2015, 5, 17, 8, 5, 3, tzinfo=UTC).timestamp()) * 10**9
    expected = Hit(received_ns, "203.0.113.9", b"", b'Caf\xe9 "1"', "blog", "/a%20b?c=d", None, "")
    assert [expected] == entries_of(queue)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lines_that_are_none_are_counted_with_their_numbers(log: Path, queue: LocalQueue, end: bytes) -> None:
    """A torn line, a blank one and one without a request are told apart, and the rest is sent."""
    no_request = line(3).replace(b"GET /page/3 HTTP/1.1", b"-")
    log.write_bytes(end.join([line(1).rstrip(), TORN, b"", no_request.rstrip(), b"", line(6).rstrip(), b""]))
    report = run(log, queue)
    expected = ImportReport(
        lines=6,
        sent=2,
        skipped={
            "no closing quote of the user agent": Skipped(1, [2]),
            "blank": Skipped(2, [3, 5]),
            "no request": Skipped(1, [4]),
        },
    )
    assert expected == report
    assert pages([1, 6]) == paths_of(queue)


def test_only_the_first_line_numbers_of_a_reason_are_kept(log: Path, queue: LocalQueue) -> None:
    """A log that holds much else does not fill the memory with line numbers."""
    log.write_bytes(line(1) + b"something else\n" * 1_000)
    assert {"no time": Skipped(1_000, list(range(2, 22)))} == run(log, queue).skipped


def test_a_log_of_another_format_is_refused(log: Path, queue: LocalQueue) -> None:
    """Before anything is sent, with the formats that are understood."""
    log.write_bytes(b'{"request": {"uri": "/"}}\n' * 1_000)
    with pytest.raises(BadUsageError, match=r"access\.log is in no format .* Common Log Format"):
        run(log, queue)
    assert [] == entries_of(queue)


def test_an_empty_log_has_no_lines(log: Path, queue: LocalQueue) -> None:
    """Nothing is sent, nothing is wrong."""
    log.touch()
    assert ImportReport() == run(log, queue)


def test_hits_travel_in_batches(log: Path, queue: LocalQueue) -> None:
    """A batch has a thousand hits at most, and the count that goes with it."""
    log.write_bytes(lines(2_500))
    run(log, queue)
    expected = [1_000, 1_000, 500]
    assert expected == [batch.count for batch in queue.read(0)]
    assert pages(range(2_500)) == paths_of(queue)


def test_long_lines_make_small_batches(log: Path, queue: LocalQueue) -> None:
    """A batch is bounded in bytes, too."""
    log.write_bytes(b"".join(line(number, path="/" + "x" * 200_000) for number in range(6)))
    run(log, queue)
    expected = [3, 3]
    assert expected == [batch.count for batch in queue.read(0)]


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_progress_is_told_in_bytes_on_disk(log: Path, queue: LocalQueue, compress: Callable[[bytes], bytes]) -> None:
    """Plain or gzip, known by its content, the steps add up to the file's size."""
    log.write_bytes(compress(lines(50_000)))
    steps: list[int] = []
    with LogFile(log) as file:
        report = import_log(file, queue, site_id="site", on_progress=steps.append)
        assert log.stat().st_size == file.size
    assert ImportReport(lines=50_000, sent=50_000) == report
    assert log.stat().st_size == sum(steps)
    assert len(steps) > 1
    assert min(steps) > 0


def test_a_log_of_several_gzip_members_is_one_log(log: Path, queue: LocalQueue) -> None:
    """Compressed pieces that were appended to each other are read through."""
    log.write_bytes(gzip.compress(lines(10)) + gzip.compress(lines(10, start=10)))
    run(log, queue)
    assert pages(range(20)) == paths_of(queue)


def test_a_torn_gzip_file_gives_what_is_before_the_tear(log: Path, queue: LocalQueue) -> None:
    """The tear is reported, and the whole file, when it is there, gives the rest."""
    whole = gzip.compress(lines(5_000))
    log.write_bytes(whole[: len(whole) // 2])
    torn = run(log, queue)
    assert torn.sent > 1_000
    assert torn.error is not None
    assert f"{log} can't be read past line {torn.sent}: " in torn.error
    log.write_bytes(whole)
    assert ImportReport(already=torn.sent, lines=5_000 - torn.sent, sent=5_000 - torn.sent) == run(log, queue)
    assert pages(range(5_000)) == paths_of(queue)


def test_a_gzip_file_torn_before_what_was_done_brings_nothing_new(log: Path, queue: LocalQueue) -> None:
    """Where a file can't be read up to its mark, its lines are known one by one."""
    whole = gzip.compress(lines(5_000))
    log.write_bytes(whole)
    run(log, queue)
    log.write_bytes(whole[: len(whole) // 2])
    report = run(log, queue)
    assert (0, 0) == (report.lines, report.sent)
    assert report.already > 1_000
    assert report.error is not None


@pytest.mark.parametrize("damage", [slice(-2_000, -1_000), slice(-8, -4)])
def test_a_damaged_gzip_file_is_reported(log: Path, queue: LocalQueue, damage: slice) -> None:
    """Broken data and a checksum that is wrong are trouble, not a traceback."""
    content = bytearray(gzip.compress(lines(5_000)))
    content[damage] = b"\xff" * len(content[damage])
    log.write_bytes(content)
    report = run(log, queue)
    assert report.error is not None
    assert pages(range(report.sent)) == paths_of(queue)


def test_a_file_of_which_nothing_can_be_read_is_refused(log: Path, queue: LocalQueue) -> None:
    """A broken header leaves no line to look at."""
    log.write_bytes(b"\x1f\x8b" + b"\xff" * 100)
    with pytest.raises(BadUsageError, match=r"access\.log can't be read: Unknown compression method"):
        run(log, queue)


def test_an_import_goes_on_where_it_was_interrupted(log: Path, tmp_path: Path) -> None:
    """Whatever an interrupted run has sent is not sent again, and nothing is left out."""
    log.write_bytes(lines(10_000))
    small = open_queue(tmp_path / "queue", max_bytes=600_000)
    with LogFile(log) as file, pytest.raises(Interrupted):
        import_log(file, small, site_id="site", on_wait=interrupt_after(0))
    done = len(paths_of(small))
    assert 0 < done < 10_000
    small.close()
    large = open_queue(tmp_path / "queue")
    assert ImportReport(already=done, lines=10_000 - done, sent=10_000 - done) == run(log, large)
    assert pages(range(10_000)) == paths_of(large)
    large.close()


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_an_import_interrupted_again_and_again_counts_each_line_once(
    log: Path, queue: LocalQueue, compress: Callable[[bytes], bytes]
) -> None:
    """A run that is stopped at any of its steps leaves a queue from which the next one goes on."""
    log.write_bytes(compress(lines(5_000)))
    for calls in range(12):
        with LogFile(log) as file, suppress(Interrupted):
            import_log(file, queue, site_id="site", on_progress=interrupt_after(calls))
    run(log, queue)
    assert pages(range(5_000)) == paths_of(queue)


def test_a_log_is_imported_once(log: Path, queue: LocalQueue) -> None:
    """A second run finds nothing to do."""
    log.write_bytes(lines(1_500))
    run(log, queue)
    assert ImportReport(already=1_500) == run(log, queue)
    assert pages(range(1_500)) == paths_of(queue)


def test_a_log_is_known_by_its_content(log: Path, queue: LocalQueue, tmp_path: Path) -> None:
    """Rotated and compressed, it is the same log."""
    log.write_bytes(lines(1_500))
    run(log, queue)
    rotated = tmp_path / "access.log.2.gz"
    rotated.write_bytes(gzip.compress(log.read_bytes()))
    assert ImportReport(already=1_500) == run(rotated, queue)


def test_a_grown_log_gives_its_new_lines(log: Path, queue: LocalQueue) -> None:
    """Line numbers go on from the old ones."""
    log.write_bytes(lines(1_500))
    run(log, queue)
    with log.open("ab") as file:
        file.write(b"\n" + lines(1, start=1_500))
    assert ImportReport(already=1_500, lines=2, sent=1, skipped={"blank": Skipped(1, [1_501])}) == run(log, queue)
    assert pages(range(1_501)) == paths_of(queue)


def test_a_half_written_last_line_is_sent_when_it_is_whole(log: Path, queue: LocalQueue) -> None:
    """It is reported as it is now, and not passed over once it is finished."""
    log.write_bytes(lines(3)[:-5])
    assert {"no closing quote of the user agent": Skipped(1, [3])} == run(log, queue).skipped
    log.write_bytes(lines(4))
    assert ImportReport(already=2, lines=2, sent=2) == run(log, queue)
    assert pages(range(4)) == paths_of(queue)


@pytest.mark.parametrize("rest", [b"\n", b"\r\n", b" rt=0.1\n"])
def test_the_rest_of_a_line_that_was_sent_is_no_line(log: Path, queue: LocalQueue, rest: bytes) -> None:
    """A last line without its end is sent when it is well-formed; what is written behind it later adds nothing."""
    log.write_bytes(lines(2).rstrip())
    assert ImportReport(lines=2, sent=2) == run(log, queue)
    log.write_bytes(lines(2).rstrip() + rest + line(2))
    assert ImportReport(already=2, lines=1, sent=1) == run(log, queue)
    assert pages(range(3)) == paths_of(queue)


@settings(max_examples=30, deadline=None)
@given(
    kinds=st.lists(st.sampled_from([line(1), line(2)[:-1] + b"\r\n", line(3)[:-1] + b" x y\n", b"\n", TORN + b"\n"])),
    cuts=st.lists(st.integers(min_value=0, max_value=600), max_size=5),
)
def test_imports_while_a_log_grows_equal_one_of_the_whole(kinds: list[bytes], cuts: list[int]) -> None:
    """Wherever the log happens to end at each import, each line counts once."""
    content = b"".join(kinds)
    expected = [path for kind in kinds for number in (1, 2, 3) if (path := f"/page/{number}").encode() in kind]
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "access.log")
        queue = open_queue(Path(directory, "queue"))
        for cut in [*sorted(cuts), len(content)]:
            log.write_bytes(content[:cut])
            with suppress(BadUsageError):  # perhaps no line is whole
                run(log, queue)
        assert expected == paths_of(queue)
        queue.close()


NUMBERS = st.integers(min_value=0, max_value=40)
SEGMENTS = st.tuples(
    NUMBERS,  # where it begins
    NUMBERS,  # how long it is
    st.sampled_from([bytes, gzip.compress, bz2.compress]),
    st.none() | NUMBERS,  # the line before which it is killed
    st.booleans(),  # whether it may end in order
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(repeats=st.lists(st.integers(min_value=1, max_value=3), min_size=1, max_size=30), segments=st.lists(SEGMENTS))
def test_any_copies_of_a_log_in_any_order_count_each_line_once(
    monkeypatch: pytest.MonkeyPatch, repeats: list[int], segments: list[tuple[int, int, Any, int | None, bool]]
) -> None:
    """Shorter, longer, cut, compressed and interrupted copies never count a line twice, and the whole log has all.

    Some lines come up to three times: a client that asks for the same page again within a second. A cut between such
    lines is the one thing that a copy does not tell, so only lines that come once are expected after each step.
    """
    monkeypatch.setattr("footfall.commands.import_log._BATCH_HITS", 7)
    whole = [line(number) for number, times in enumerate(repeats) for _ in range(times)]
    paths = [f"/page/{number}" for number, times in enumerate(repeats) for _ in range(times)]
    single = {f"/page/{number}" for number, times in enumerate(repeats) if times == 1}
    seen: set[str] = set()
    with tempfile.TemporaryDirectory() as directory, closing(open_queue(Path(directory, "queue"))) as queue:
        for step, (first, length, pack, kill_at, is_orderly) in enumerate(segments):
            log = Path(directory, f"access.log.{step}")
            log.write_bytes(pack(b"".join(whole[first : first + length])))
            import_until(log, queue, kill_at, is_orderly=is_orderly)
            if kill_at is None or kill_at >= len(whole[first : first + length]):
                seen.update(paths[first : first + length])
            counts = Counter(paths_of(queue))
            assert counts <= Counter(paths)
            assert single & seen <= set(counts)
        last = Path(directory, "access.log")
        last.write_bytes(b"".join(whole))
        run(last, queue)
        assert Counter(paths) == Counter(paths_of(queue))
        assert 0 == run(last, queue).sent


def import_until(log: Path, queue: LocalQueue, line_number: int | None, *, is_orderly: bool) -> None:
    """Import, killed or told to stop before a line."""
    asked = count()

    def should_stop() -> bool:
        is_over = next(asked) == line_number
        if is_over and not is_orderly:
            raise Interrupted
        return is_over

    with LogFile(log) as file, suppress(Interrupted):
        import_log(file, queue, site_id="site", should_stop=should_stop)


def test_lines_that_are_alike_are_told_by_their_number(log: Path, queue: LocalQueue, tmp_path: Path) -> None:
    """A page asked for three times in a second counts three times, also where the import is interrupted between."""
    log.write_bytes(line(1) * 3 + line(2))
    import_until(log, queue, 2, is_orderly=True)
    assert pages([1, 1]) == paths_of(queue)
    assert ImportReport(already=2, lines=2, sent=2) == run(log, queue)
    copy = tmp_path / "copy.log"
    copy.write_bytes(line(0) + line(1) * 3)
    assert ImportReport(already=3, lines=1, sent=1) == run(copy, queue)


def test_rotated_logs_that_are_imported_together_count_once(log: Path, queue: LocalQueue, tmp_path: Path) -> None:
    """After rotation the rest of a log is in a file of its own, and a copy of both may be in a third."""
    rotated, joined = tmp_path / "access.log.1", tmp_path / "all.log"
    rotated.write_bytes(lines(700))
    run(rotated, queue)
    log.write_bytes(lines(800, start=700))
    joined.write_bytes(rotated.read_bytes() + log.read_bytes())
    assert ImportReport(already=700, lines=800, sent=800) == run(joined, queue)
    assert ImportReport(already=800) == run(log, queue)
    assert pages(range(1_500)) == paths_of(queue)


def test_lines_that_are_forgotten_are_told(
    log: Path, queue: LocalQueue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A queue remembers the newest lines. A copy of older ones counts again, and the report says so."""
    monkeypatch.setattr("footfall.queue.local.imports._SHARE", 1e-5)
    log.write_bytes(lines(3_000))
    run(log, queue)
    copy = tmp_path / "copy.log"
    copy.write_bytes(lines(20))
    assert ImportReport(lines=20, sent=20, uncompared=20) == run(copy, queue)
    copy.write_bytes(lines(20, start=2_980))
    assert ImportReport(already=20) == run(copy, queue)
    assert ImportReport(already=3_000) == run(log, queue)


def test_a_log_with_virtual_hosts_says_where_its_pages_are(log: Path, queue: LocalQueue) -> None:
    """Each line's host goes with it; lines of other hosts are left out when that was asked for."""
    log.write_bytes(b"www.Blog.example:443 " + line(1) + b"shop.example:443 " + line(2))
    report = run(log, queue, hosts=["blog.example"])
    assert {"another virtual host": Skipped(1, [2])} == report.skipped
    assert ["www.blog.example"] == hosts_of(queue)
    assert ImportReport(already=1, lines=1, sent=1) == run(log, queue)
    assert ["www.blog.example", "shop.example"] == hosts_of(queue)


def test_a_log_without_virtual_hosts_tells_its_own_by_what_pages_ask_for(log: Path, queue: LocalQueue) -> None:
    """The host whose pages ask for styles and scripts is that of the site, unless somebody says otherwise."""
    log.write_bytes(line(1) + line(2, path="/style.css?v=2") + line(3, path="/logo.png"))
    run(log, queue, site_id="a")
    run(log, queue, site_id="b", hosts=["blog.example", "news.example"])
    run(log, queue, site_id="c", hosts=["blog.example"])
    run(log, queue, site_id="d", hosts=["www.example"])
    assert ["news.example"] * 6 + ["blog.example"] * 3 + ["www.example"] * 3 == hosts_of(queue)


def test_what_is_below_the_sites_host_is_the_sites(log: Path, queue: LocalQueue) -> None:
    """As domains in the settings are meant; what only ends alike is another site's."""
    log.write_bytes(line(1).replace(b"news.example/1", b"shop.blog.example/a") + line(2).replace(b"news", b"myblog"))
    run(log, queue, hosts=["blog.example"])
    assert ["shop.blog.example", "blog.example"] == hosts_of(queue)


def hosts_of(queue: LocalQueue) -> list[str | None]:
    return [entry.host for entry in entries_of(queue) if isinstance(entry, Hit)]


def test_logs_that_begin_alike_are_told_apart(log: Path, queue: LocalQueue, tmp_path: Path) -> None:
    """Two servers whose first lines are the same have two logs. Each is known again; the line counts once."""
    other = tmp_path / "other.log"
    log.write_bytes(line(0) + lines(1_500, start=1_000))
    other.write_bytes(line(0) + lines(1_500, start=5_000))
    assert ImportReport(lines=1_501, sent=1_501) == run(log, queue)
    assert ImportReport(already=1, lines=1_500, sent=1_500) == run(other, queue)
    for path in (log, other):
        assert ImportReport(already=1_501) == run(path, queue)


def test_a_site_has_its_own_memory(log: Path, queue: LocalQueue) -> None:
    """A log that was imported for one site can be imported for another."""
    log.write_bytes(lines(10))
    done = ImportReport(lines=10, sent=10)
    assert done == run(log, queue, site_id="a")
    assert done == run(log, queue, site_id="b")
    assert ImportReport(already=10) == run(log, queue, site_id="a")


def test_pages_that_are_in_do_not_count_again_with_the_rest(log: Path, queue: LocalQueue) -> None:
    """Whoever imports pages alone and then everything, or the other way round, has each line once."""
    log.write_bytes(line(1) + line(2, path="/style.css") + line(3))
    not_pages = {"not a document": Skipped(1, [2])}
    assert ImportReport(lines=3, sent=2, skipped=not_pages) == run(log, queue, only_pages=True)
    assert ImportReport(already=2, lines=1, sent=1) == run(log, queue)
    log.write_bytes(log.read_bytes() + line(4))
    assert ImportReport(already=3, lines=1, sent=1) == run(log, queue)
    assert ImportReport(already=4) == run(log, queue, only_pages=True)


def test_again_sends_everything_once_more(log: Path, queue: LocalQueue) -> None:
    """What was done before is no hindrance, and is known afterwards."""
    log.write_bytes(lines(1_500))
    run(log, queue)
    assert ImportReport(lines=1_500, sent=1_500) == run(log, queue, again=True)
    assert ImportReport(already=1_500) == run(log, queue)
    assert pages(range(1_500)) * 2 == paths_of(queue)


def test_an_interrupted_again_goes_on_without_it(log: Path, queue: LocalQueue) -> None:
    """A plain run after it sends the lines that it had not come to."""
    log.write_bytes(lines(2_500))
    run(log, queue)
    with LogFile(log) as file, pytest.raises(Interrupted):
        import_log(file, queue, site_id="site", again=True, on_progress=interrupt_after(1))
    assert pages(range(2_500)) + pages(range(2_000)) == paths_of(queue)
    run(log, queue)
    assert pages(range(2_500)) * 2 == paths_of(queue)


def test_two_imports_of_one_log_at_a_time_do_not_count_it_twice(log: Path, queue: LocalQueue) -> None:
    """The one that finds the mark moved by the other stops."""
    log.write_bytes(lines(2_500))
    others: list[ImportReport] = []

    def on_progress(_: int) -> None:
        if not others:
            others.append(run(log, queue))

    with LogFile(log) as file, pytest.raises(AlreadyInUseError):
        import_log(file, queue, site_id="site", on_progress=on_progress)
    assert pages(range(2_500)) == paths_of(queue)


def test_a_full_queue_is_waited_for(log: Path, tmp_path: Path) -> None:
    """The import tells that it waits, once a batch, and goes on when there is room."""
    log.write_bytes(lines(10_000))
    queue = open_queue(tmp_path / "queue", max_bytes=600_000)
    seen: dict[int, list[str]] = {}
    told: list[QueueFullError] = []
    slept: list[float] = []

    def consume() -> None:
        for batch in queue.read(max(seen, default=0), max_bytes=1 << 30):
            seen[batch.sequence] = [entry.path or "" for entry in decode_entries(batch.payload)]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) % 2 == 0:
            consume()
            queue.report("sink", Progress(max(seen), max(seen)))
            queue.trim()

    with LogFile(log) as file:
        report = import_log(file, queue, site_id="site", on_wait=told.append, sleep=sleep)
    consume()
    queue.close()
    assert ImportReport(lines=10_000, sent=10_000) == report
    assert pages(range(10_000)) == [path for batch in seen.values() for path in batch]
    assert len(told) * 2 == len(slept)
    assert "queue.max_bytes" in str(told[0])


@pytest.mark.parametrize(
    ("path", "is_page"),
    [
        ("/", True),
        ("/about", True),
        ("/about/?utm_source=x.png", True),
        ("/index.html", True),
        ("/INDEX.HTM", True),
        ("/blog.php?id=3", True),
        ("/index.php/archive", True),
        ("/releases/1.2", True),
        ("/v1.2/notes", True),
        ("/logo.png", False),
        ("/site.css?v=3", False),
        ("/app.js", False),
        ("/font.woff2", False),
        ("/talk.mp4", False),
        ("/feed.xml", False),
        ("/robots.txt", False),
        ("/backup.tar.gz", False),
        ("/backup.7z", False),
        ("/favicon.ico", False),
        ("/site.webmanifest", False),
    ],
)
def test_only_pages_keeps_documents(log: Path, queue: LocalQueue, path: str, *, is_page: bool) -> None:
    """A document has no extension, or one that pages have."""
    log.write_bytes(line(1, path=path))
    expected = {} if is_page else {"not a document": Skipped(1, [1])}
    assert expected == run(log, queue, only_pages=True).skipped


def test_only_pages_keeps_successful_gets(log: Path, queue: LocalQueue) -> None:
    """Other methods, redirects and errors are counted as what they are."""
    log.write_bytes(
        b"".join(
            [
                line(1),
                line(2, status=304),
                line(3, status=206),
                line(4, method="HEAD"),
                line(5, method="POST"),
                line(6, status=301),
                line(7, status=404),
                line(8, status=500),
            ]
        )
    )
    report = run(log, queue, only_pages=True)
    assert {"not a GET": Skipped(2, [4, 5]), "not successful": Skipped(3, [6, 7, 8])} == report.skipped
    assert pages([1, 2, 3]) == paths_of(queue)


@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_huge_line_is_skipped_without_being_held(log: Path, queue: LocalQueue, end: bytes) -> None:
    """Memory stays small, and the lines around it are sent."""
    with log.open("wb") as file:
        file.write(line(1))
        for _ in range(32):
            file.write(b"x" * (1 << 20))
        file.write(b"\n" + line(3))
        file.write(line(4)[:-2] + b"x" * (1 << 20) + b'"' + end)
    tracemalloc.start()
    report = run(log, queue)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert {"longer than 1048576 bytes": Skipped(2, [2, 4])} == report.skipped
    assert pages([1, 3]) == paths_of(queue)
    assert peak < 8 << 20


@pytest.mark.parametrize("site_id", ["", "x" * 129, "caf\udce9"])
def test_a_site_id_must_be_one(log: Path, queue: LocalQueue, site_id: str) -> None:
    """A site id is held to the same limits as an event's, before anything is sent."""
    log.write_bytes(lines(3))
    with pytest.raises(BadUsageError, match=r"site id"):
        run(log, queue, site_id=site_id)
    assert pages([]) == paths_of(queue)
