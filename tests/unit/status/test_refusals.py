import subprocess
import sys

from footfall.status.refusals import REASONS, RefusalCounts


def test_each_reason_is_counted_by_each_writer() -> None:
    """The totals are of all writers, and have a reason that nothing was refused for."""
    counts = RefusalCounts(3)
    for writer in range(3):
        counts.count("no_token", writer)
    counts.count("not_local", 2)

    assert {"not_local": 1, "no_token": 3, "wrong_token": 0, "rate_limited": 0} == counts.totals()
    assert REASONS == tuple(counts.totals())


def test_processes_count_together() -> None:
    """What one that was forked has counted stays when it has gone."""
    program = """
import os
from footfall.status.refusals import RefusalCounts

counts = RefusalCounts(2)
if os.fork() == 0:
    counts.count("wrong_token", 1)
    os._exit(0)
os.wait()
counts.count("wrong_token", 0)
print(counts.totals()["wrong_token"])
"""
    assert "2\n" == subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
