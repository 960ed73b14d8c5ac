"""The session of a person who has given the token in a browser: a cookie that proves it, until it expires.

The cookie holds when it expires, and a signature of that, keyed with the token. So any process can check it, none has
to keep it, and another token ends all sessions. Browsers send it with requests of Footfall's own pages only
(`SameSite=Strict`), and no script can read it (`HttpOnly`).
"""

import hashlib
import hmac
import time
from http.cookies import CookieError, SimpleCookie
from typing import Final

COOKIE: Final = "footfall_session"
LIFETIME_S: Final = 30 * 24 * 60 * 60
_PURPOSE: Final = b"footfall session until "


def cookie(token: bytes, *, is_secure: bool, now: float | None = None) -> str:
    """The value of `Set-Cookie` that begins a session.

    Args:
        token: `reporting.token`.
        is_secure: the browser is to send it over TLS only.
        now: seconds since 1970.
    """
    until = str(int(time.time() if now is None else now) + LIFETIME_S)
    return _set(f"{until}.{_signature(token, until)}", LIFETIME_S, is_secure=is_secure)


def end() -> str:
    """The value of `Set-Cookie` that ends a session."""
    return _set("", 0, is_secure=False)


def is_in(header: bytes, token: bytes, *, now: float | None = None) -> bool:
    """Whether the value of a header `Cookie` has a session that has not expired."""
    try:
        sent = SimpleCookie(header.decode("latin-1")).get(COOKIE)
    except CookieError:
        return False
    if sent is None:
        return False
    until, _, signature = sent.value.partition(".")
    if not hmac.compare_digest(signature.encode(), _signature(token, until).encode()):
        return False
    return int(until) > (time.time() if now is None else now)


def _set(value: str, lifetime_s: int, *, is_secure: bool) -> str:
    secure = "; Secure" if is_secure else ""
    return f"{COOKIE}={value}; Path=/; Max-Age={lifetime_s}; HttpOnly; SameSite=Strict{secure}"


def _signature(token: bytes, until: str) -> str:
    return hmac.new(token, _PURPOSE + until.encode(), hashlib.sha256).hexdigest()
