"""Requests by chance: no error, every answer is HTTP, all is accounted for. `make fuzz` looks for longer."""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, example, given, settings

from raw_http import get
from security.chance import Good, bad_conversations, good_conversations
from security.fuzz import Fuzzed

# The same examples in every run: what chance finds is for `make fuzz`, and becomes a test of its own.
bounded = settings(derandomize=True, database=None, max_examples=300, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    """One collector for all examples."""
    with Fuzzed(tmp_path_factory.mktemp("fuzz")) as fuzzed:
        yield fuzzed


@bounded
@given(conversation=good_conversations())
def test_right_requests_are_answered_and_counted(
    collector: Fuzzed, conversation: tuple[Sequence[Good], Sequence[bytes]]
) -> None:
    """However they follow one another, and wherever they are cut."""
    collector.check_good(*conversation)


@bounded
@given(pieces=bad_conversations())
@example([get(b"?", method=b"CONNECT")])
@example([get(b"/track", b"Connection: Upgrade", b"Upgrade: h2c", b"Transfer-Encoding: gzip")])
@example([get(b"/event", b"Connection: Upgrade, close", b"Upgrade: h2c", b"Content-Length: 0", method=b"POST")])
def test_wrong_requests_harm_nobody(collector: Fuzzed, pieces: Sequence[bytes]) -> None:
    """Whatever is answered is HTTP and is accounted for, and others are served."""
    collector.check_bad(pieces)
