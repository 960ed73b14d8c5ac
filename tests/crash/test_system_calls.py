"""Each writer of files, killed at system calls: a sample of them; `make crash` kills at every one."""

import os
from pathlib import Path

import pytest

from crash.drivers import DRIVERS
from crash.system_calls import Place, count_calls, kill_at, trouble

OF_EACH_CALL = 3
"""How many are killed at, from the first to the last."""


@pytest.fixture(scope="session", autouse=True)
def _strace() -> None:
    reason = trouble()
    if reason is not None and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason is not None:
        pytest.skip(reason)


@pytest.mark.crash
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_kill_between_two_system_calls_loses_and_doubles_nothing(driver: str, tmp_path: Path) -> None:
    """What was done stays done and is there once, wherever the work is killed, and where its recovery is."""
    for call, count in count_calls(driver, tmp_path).items():
        numbers = sorted({1 + index * (count - 1) // (OF_EACH_CALL - 1) for index in range(OF_EACH_CALL)})
        killed = [kill_at(Place(driver, call, number), tmp_path) for number in numbers]
        assert killed[0], f"{call} was not killed at"


@pytest.mark.crash
@pytest.mark.parametrize("number", range(2, 5))
def test_a_database_that_was_being_made_is_made_anew(number: int, tmp_path: Path) -> None:
    """A kill at the first start, between the first blocks of the new database, does not keep it from starting."""
    assert kill_at(Place("database", "pwrite64", number), tmp_path)
