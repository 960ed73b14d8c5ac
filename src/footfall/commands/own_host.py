"""Which host a log's pages are on, where its lines do not say: pages that ask for styles and scripts are its own."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

from footfall.commands.access_log import LogFormat, MalformedLineError, parse_line
from footfall.referrer import host_of

_PARTS: Final = re.compile(r"\.(?:css|js)\Z", re.IGNORECASE)


def own_host(lines: Iterable[bytes], log_format: LogFormat) -> str:
    """The host, without `www.`; the empty text where `lines` do not tell.

    A page that asks for a style or a script is nearly always of the same site: more than half of these requests have
    to come from pages of one host.
    """
    hosts: Counter[str] = Counter()
    for line in lines:
        try:
            request = parse_line(line, log_format)
        except MalformedLineError:
            continue
        if request.referrer and _PARTS.search(request.path) and (host := host_of(request.referrer)):
            hosts[host.removeprefix("www.")] += 1
    for host, count in hosts.most_common(1):
        if 2 * count > hosts.total():
            return host
    return ""
