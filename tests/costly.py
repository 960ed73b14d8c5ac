"""Requests that were made to cost the collector more than their share."""

from collections.abc import Callable

from raw_http import get, post


def fields(count: int) -> bytes:
    return b",".join(b'"%d":1' % number for number in range(count))


WRONG_EVENT = b'{"site_id":1,"event_type":1,"path":1,"timestamp":"x","referrer":1,"props":1}'

COSTLY: dict[str, Callable[[int], bytes]] = {
    "parameters": lambda n: get(b"/track?" + b"a&" * (300 * n)),
    "known parameters": lambda n: get(b"/track?" + b"&".join([b"path=%2F"] * (60 * n))),
    "escapes": lambda n: get(b"/track?site_id=" + b"%41" * (200 * n)),
    "fields": lambda n: post(b'{"site_id":"a","event_type":"b",%b}' % fields(60 * n)),
    "the same field": lambda n: post(b"{%b}" % b",".join([b'"site_id":"a"'] * (40 * n))),
    "props": lambda n: post(b'{"site_id":"a","event_type":"b","props":{%b}}' % fields(60 * n)),
    "depth": lambda n: post(b"[" * (600 * n)),
    "digits": lambda n: post(b'{"site_id":%b}' % (b"1" * (600 * n))),
    "many numbers": lambda n: post(b"[%b1]" % (b"1," * (5_000 * n)), target=b"/events"),
    "many blank lines": lambda n: post(b"\n" * (10_000 * n), target=b"/events"),
    "many wrong events": lambda n: post(b"[%b]" % b",".join([WRONG_EVENT] * (10 * n)), target=b"/events"),
    "headers": lambda n: get(b"/track", *[b"%d:" % number for number in range(2 * n)]),
    "the same header": lambda n: get(b"/track", *[b"a:" + b"b" * 250] * (2 * n)),
}
"""Requests of a size that may cost more than their share; for 100 about the largest that are taken."""
