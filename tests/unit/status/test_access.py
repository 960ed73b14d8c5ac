import pytest

from footfall.status.access import ReportAccess

OPEN_PATHS = ["/healthz", "/readyz", "/docs", "/docs/swagger-ui.css", "/openapi.json"]
GUARDED_PATHS = ["/", "/stats", "/ledger", "/metrics", "/no-such-page", "/docsx", "/healthz/", "/stats/docs/"]
LOCAL = {b"host": b"localhost:8000"}


def status(access: ReportAccess, path: str, headers: dict[bytes, bytes]) -> int | None:
    problem = access.refusal(path, headers)
    return None if problem is None else problem.status


@pytest.mark.parametrize("path", OPEN_PATHS)
@pytest.mark.parametrize("token", ["open-sesame", None])
def test_what_holds_no_data_is_open_to_all(token: str | None, path: str) -> None:
    """Health, readiness and the documentation answer anyone, from anywhere."""
    assert status(ReportAccess(token), path, {b"host": b"example.com", b"x-forwarded-for": b"192.0.2.1"}) is None


@pytest.mark.parametrize("path", GUARDED_PATHS)
def test_everything_else_needs_the_token(path: str) -> None:
    """With a token set, a path that is not known to be harmless is refused without it, even on this machine."""
    assert status(ReportAccess("open-sesame"), path, LOCAL) == 401


@pytest.mark.parametrize("path", GUARDED_PATHS)
def test_the_token_opens_everything_from_anywhere(path: str) -> None:
    """The right token is enough, whatever the host and through any proxy."""
    headers = {b"authorization": b"Bearer open-sesame", b"host": b"example.com", b"x-forwarded-for": b"192.0.2.1"}

    assert status(ReportAccess("open-sesame"), path, headers) is None


@pytest.mark.parametrize("value", [b"bearer open-sesame", b"BEARER   open-sesame", b"Bearer open-sesame "])
def test_the_scheme_is_read_as_http_has_it(value: bytes) -> None:
    """The scheme's case and the number of spaces after it do not matter (RFC 9110, section 11.4)."""
    assert status(ReportAccess("open-sesame"), "/stats", {b"authorization": value}) is None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"open-sesame",
        b"Basic open-sesame",
        b"Bearer open-sesam",
        b"Bearer open-sesame2",
        b"Bearer OPEN-SESAME",
        b"Bearer open sesame",
        b"Bearer open-sesame, Bearer other",
        "Bearer öpen-sesame".encode(),
        b"Bearer \xff\xfe\x00",
    ],
)
def test_anything_but_the_token_is_refused(value: bytes) -> None:
    """A wrong, cut or garbled Authorization header gives 401, never an error."""
    assert status(ReportAccess("open-sesame"), "/stats", {b"authorization": value}) == 401


@pytest.mark.parametrize(
    "host",
    [
        b"localhost",
        b"LOCALHOST:8000",
        b"localhost.:8000",
        b"stats.localhost:1",
        b"127.0.0.1",
        b"127.8.9.1:8000",
        b"[::1]",
        b"[::1]:8000",
    ],
)
def test_without_a_token_this_machine_may_read(host: bytes) -> None:
    """Every name that only ever means this machine is taken, with any port."""
    assert status(ReportAccess(None), "/stats", {b"host": host}) is None


@pytest.mark.parametrize(
    "host",
    [
        None,
        b"",
        b"example.com",
        b"localhost.example.com",
        b"notlocalhost",
        b"127.0.0.1.example.com",
        b"127.0.0.1, example.com",
        b"192.0.2.1:8000",
        b"0.0.0.0:8000",
        b"[::]:8000",
        b"[2001:db8::1]",
        b"::1",
        b"localhost:8000:9000",
        b"localhost:http",
        b"[localhost]",
        b"2130706433",
        b"\xff\x00",
    ],
)
def test_without_a_token_a_foreign_name_is_refused(host: bytes | None) -> None:
    """A page that pointed its own name at this machine (DNS rebinding) reads nothing."""
    assert status(ReportAccess(None), "/stats", {} if host is None else {b"host": host}) == 403


@pytest.mark.parametrize("name", [b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via"])
def test_without_a_token_nothing_comes_in_through_a_proxy(name: bytes) -> None:
    """A proxy on this machine has a local name and address, but not whoever it speaks for."""
    assert status(ReportAccess(None), "/stats", {**LOCAL, name: b"127.0.0.1"}) == 403


def test_a_refusal_says_what_to_do() -> None:
    """Whoever is refused learns which setting or header would help."""
    without_token = ReportAccess(None).refusal("/stats", {})
    with_token = ReportAccess("open-sesame").refusal("/stats", {})

    assert without_token is not None
    assert "reporting.token" in without_token.detail
    assert with_token is not None
    assert "Authorization: Bearer" in with_token.detail
