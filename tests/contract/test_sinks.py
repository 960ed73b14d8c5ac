"""What every sink promises: each entry once, and a position that fits the output."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from footfall.entry import Entry, Hit, encode_entries
from footfall.errors import DamagedFileError
from footfall.queue.base import Batch
from footfall.queue.sink import SINKS, Sink

OpenSink = Callable[[Path], AbstractContextManager[Sink]]
ReadOutput = Callable[[Path], list[str]]

HOMELESS = Hit(0, None, b"", b"")
"""An entry with neither address nor site: no sink has a place for it."""


def hit(text: str) -> Hit:
    """A hit that every output shows as `text`."""
    return Hit(1_700_000_000_000_000_000, "203.0.113.7", b"", text.encode(), "my-blog", text)


def batch_of(entries: Sequence[Entry], sequence: int, source: str = "a") -> Batch:
    return Batch(source, sequence, 0, len(entries), encode_entries(entries))


def batch(sequence: int, source: str = "a") -> Batch:
    """Two hits, told by source and sequence."""
    return batch_of([hit(text) for text in texts(sequence, source)], sequence, source)


def texts(sequence: int, source: str = "a") -> list[str]:
    return [f"/{source}-{sequence}-first", f"/{source}-{sequence}-second"]


def by_source(output: Sequence[str]) -> list[str]:
    """Texts in the order of their sources, which is what an output promises: within each source, that of the queue."""
    return sorted(output, key=lambda text: text.partition("-")[0])


def sequences(sink: Sink) -> dict[str, int]:
    return {source: progress.sequence for source, progress in sink.progress().items()}


def standing(sink: Sink) -> dict[str, tuple[int, int, dict[str, int]]]:
    """Sequence, written and skipped by source."""
    return {
        source: (progress.sequence, progress.written, progress.skipped) for source, progress in sink.progress().items()
    }


def test_name_is_a_known_one(open_sink: OpenSink, tmp_path: Path) -> None:
    """The queue keeps batches for the sinks it knows by name."""
    with open_sink(tmp_path) as sink:
        assert sink.name in SINKS


def test_a_new_sink_stands_nowhere(open_sink: OpenSink, read_output: ReadOutput, tmp_path: Path) -> None:
    """It has no position in any source, and no output."""
    with open_sink(tmp_path) as sink:
        assert {} == sink.progress()

    assert [] == read_output(tmp_path)


def test_an_empty_write_changes_nothing(open_sink: OpenSink, read_output: ReadOutput, tmp_path: Path) -> None:
    """A sink with nothing to do is called all the same, for its own upkeep."""
    with open_sink(tmp_path) as sink:
        sink.write([])
        sink.write([batch(1)])
        before = standing(sink)
        sink.write([])

        assert before == standing(sink)
    assert texts(1) == read_output(tmp_path)


def test_batches_come_out_in_order(open_sink: OpenSink, read_output: ReadOutput, tmp_path: Path) -> None:
    """Within a source the output has the order of the queue, over several writes."""
    with open_sink(tmp_path) as sink:
        sink.write([batch(1), batch(2)])
        sink.write([batch(3)])

    assert texts(1) + texts(2) + texts(3) == read_output(tmp_path)


def test_a_batch_delivered_again_is_passed_over(open_sink: OpenSink, read_output: ReadOutput, tmp_path: Path) -> None:
    """Transport may deliver twice: in one call, in the next, and in ranges that overlap."""
    with open_sink(tmp_path) as sink:
        sink.write([batch(1), batch(1), batch(2)])
        sink.write([batch(1), batch(2)])
        sink.write([batch(2), batch(3)])

        assert {"a": 3} == sequences(sink)
        assert {"a": 6} == {source: progress.written for source, progress in sink.progress().items()}
    assert texts(1) + texts(2) + texts(3) == read_output(tmp_path)


def test_sources_do_not_touch_each_other(open_sink: OpenSink, read_output: ReadOutput, tmp_path: Path) -> None:
    """Each source has a position of its own, however their batches are mixed."""
    with open_sink(tmp_path) as sink:
        sink.write([batch(7, "a"), batch(1, "b"), batch(8, "a"), batch(2, "b")])
        sink.write([batch(3, "b"), batch(7, "a")])

        assert {"a": 8, "b": 3} == sequences(sink)
    assert texts(7, "a") + texts(8, "a") == [text for text in read_output(tmp_path) if text.startswith("/a")]
    assert texts(1, "b") + texts(2, "b") + texts(3, "b") == [
        text for text in read_output(tmp_path) if text.startswith("/b")
    ]


def test_sequences_may_have_gaps(open_sink: OpenSink, read_output: ReadOutput, tmp_path: Path) -> None:
    """A queue promises that they grow, not that they grow by one."""
    with open_sink(tmp_path) as sink:
        sink.write([batch(3), batch(10)])
        sink.write([batch(2**40)])

        assert {"a": 2**40} == sequences(sink)
    assert texts(3) + texts(10) + texts(2**40) == read_output(tmp_path)


def test_the_position_outlives_the_sink(open_sink: OpenSink, read_output: ReadOutput, tmp_path: Path) -> None:
    """A sink opened again stands where the last one stopped."""
    with open_sink(tmp_path) as sink:
        sink.write([batch(1), batch_of([hit("/a-third"), HOMELESS], 2), batch(1, "b")])
        before = standing(sink)

    with open_sink(tmp_path) as sink:
        assert before == standing(sink)
        sink.write([batch(1), batch(2), batch(3), batch(1, "b")])

        assert {"a": 3, "b": 1} == sequences(sink)
    assert by_source([*texts(1), "/a-third", *texts(3), *texts(1, "b")]) == by_source(read_output(tmp_path))


def test_what_has_no_place_is_counted_with_its_reason(
    open_sink: OpenSink, read_output: ReadOutput, tmp_path: Path
) -> None:
    """Written and skipped make up all that came, over writes and openings, for each source."""
    with open_sink(tmp_path) as sink:
        sink.write([batch_of([hit("/one"), HOMELESS], 1), batch_of([HOMELESS], 2)])
        sink.write([batch_of([HOMELESS], 1, "b")])
    with open_sink(tmp_path) as sink:
        sink.write([batch_of([HOMELESS, hit("/3-one"), hit("/3-two")], 3), batch_of([HOMELESS], 1, "b")])

        assert {"a": (3, [3]), "b": (0, [1])} == {
            source: (progress.written, list(progress.skipped.values())) for source, progress in sink.progress().items()
        }
    assert ["/one", "/3-one", "/3-two"] == read_output(tmp_path)


def test_a_batch_of_nothing_moves_the_position(open_sink: OpenSink, read_output: ReadOutput, tmp_path: Path) -> None:
    """Else the queue could never let go of it."""
    with open_sink(tmp_path) as sink:
        sink.write([batch_of([], 1), batch_of([HOMELESS], 2)])
    with open_sink(tmp_path) as sink:
        assert {"a": 2} == sequences(sink)

    assert [] == read_output(tmp_path)


def test_a_write_that_fails_leaves_nothing(open_sink: OpenSink, read_output: ReadOutput, tmp_path: Path) -> None:
    """Neither output nor position: the good batches of the call are written when they come again."""
    unreadable = Batch("a", 3, 0, 1, b"\x91not what a queue holds")
    with open_sink(tmp_path) as sink:
        sink.write([batch(1)])
        before = standing(sink)
        with pytest.raises(DamagedFileError, match="3"):
            sink.write([batch(2), batch(1, "b"), unreadable])

        assert before == standing(sink)
        assert texts(1) == read_output(tmp_path)
        sink.write([batch(2)])
    with open_sink(tmp_path) as sink:
        sink.write([batch(1, "b")])

    assert by_source(texts(1) + texts(2) + texts(1, "b")) == by_source(read_output(tmp_path))


def test_hostile_entries_are_written(open_sink: OpenSink, tmp_path: Path) -> None:
    """What a stranger sends must not stop what comes after it."""
    entries = [
        Hit(0, "203.0.113.7", value, value, "my-blog", value.decode(errors="replace"))
        for value in (b"\x00", b"\xff\xfe\xed\xa0\x80", b"a|b\nc\r\\d", b"'; DROP TABLE events", b"x" * 200_000)
    ]
    with open_sink(tmp_path) as sink:
        sink.write([batch_of(entries, 1)])

        assert len(entries) == sink.progress()["a"].written


def test_a_large_write_comes_out_whole(open_sink: OpenSink, read_output: ReadOutput, tmp_path: Path) -> None:
    """After an outage there is much to catch up with."""
    entries = [hit(f"/hit-{number:05}") for number in range(30_000)]
    with open_sink(tmp_path) as sink:
        sink.write([batch_of(entries[first : first + 10_000], first + 1) for first in range(0, 30_000, 10_000)])

    assert [entry.path for entry in entries] == read_output(tmp_path)


def test_what_is_safe_is_no_more_than_what_is_written(open_sink: OpenSink, tmp_path: Path) -> None:
    """The queue drops what is safe; after a clean end that is all."""
    with open_sink(tmp_path) as sink:
        sink.write([batch(1), batch(2)])

        assert sink.progress()["a"].safe_sequence <= 2
    with open_sink(tmp_path) as sink:
        assert 2 == sink.progress()["a"].safe_sequence


CALL = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 9)), max_size=6).map(sorted)
"""What one write is given: sources and sequences, ascending within each source."""


@settings(max_examples=30)
@given(sessions=st.lists(st.lists(CALL, max_size=4), min_size=1, max_size=3))
def test_any_delivery_comes_out_once(
    open_sink: OpenSink,
    read_output: ReadOutput,
    tmp_path_factory: pytest.TempPathFactory,
    sessions: list[list[list[tuple[str, int]]]],
) -> None:
    """Whatever is delivered, however often, over several openings, only what is past the position comes out."""
    directory = tmp_path_factory.mktemp("sink")
    position: dict[str, int] = {}
    expected: list[str] = []
    for session in sessions:
        with open_sink(directory) as sink:
            for call in session:
                sink.write([batch(sequence, source) for source, sequence in call])
                for source, sequence in call:
                    if sequence > position.get(source, 0):
                        position[source] = sequence
                        expected += texts(sequence, source)
                assert position == sequences(sink)

    assert by_source(expected) == by_source(read_output(directory))
