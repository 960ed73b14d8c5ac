"""How many connections a process may have, as far as the system's limit on open files goes."""

import resource
from typing import Final

_SPARE_FILES: Final = 128
"""File descriptors that are not for connections."""


def raise_file_limit(connections: int) -> int:
    """Raise this process's soft limit on open files; return how many connections fit, at most `connections`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return connections if soft == resource.RLIM_INFINITY else min(connections, soft - _SPARE_FILES)
