"""The cookie of a person who has logged in."""

from http.cookies import SimpleCookie

import pytest
from hypothesis import given
from hypothesis import strategies as st

from footfall.status import session

TOKEN = b"open-sesame-and-more"


def sent_back(cookie: str) -> bytes:
    """What a browser sends after it was given a cookie."""
    return "; ".join(f"{name}={morsel.value}" for name, morsel in SimpleCookie(cookie).items()).encode()


def test_a_session_lasts_thirty_days() -> None:
    """It is taken until then, and no longer."""
    header = b"theme=dark; " + sent_back(session.cookie(TOKEN, is_secure=True, now=1_000))

    assert session.is_in(header, TOKEN, now=1_000 + session.LIFETIME_S - 1)
    assert not session.is_in(header, TOKEN, now=1_000 + session.LIFETIME_S)


def test_another_token_ends_all_sessions() -> None:
    """A cookie proves that its owner knew the token that is set now."""
    header = sent_back(session.cookie(TOKEN, is_secure=True))

    assert session.is_in(header, TOKEN)
    assert not session.is_in(header, b"another-token-of-16")


def test_a_session_can_not_be_prolonged() -> None:
    """When it ends is signed."""
    value = sent_back(session.cookie(TOKEN, is_secure=True, now=1_000)).decode()
    name, _, rest = value.partition("=")
    until, _, signature = rest.partition(".")

    assert not session.is_in(f"{name}={int(until) + 1}.{signature}".encode(), TOKEN, now=1_000)


@pytest.mark.parametrize(("is_secure", "flag"), [(True, True), (False, "")])
def test_scripts_and_other_sites_can_not_use_the_cookie(*, is_secure: bool, flag: object) -> None:
    """It is for requests of Footfall's own pages, and over TLS only if the page came so."""
    [morsel] = SimpleCookie(session.cookie(TOKEN, is_secure=is_secure)).values()

    assert (morsel["httponly"], morsel["samesite"], morsel["secure"]) == (True, "Strict", flag)


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda value: b"footfall_session=" + value))
def test_no_other_cookie_is_a_session(header: bytes) -> None:
    """Whatever is sent, it is refused without an error."""
    assert not session.is_in(header, TOKEN)
