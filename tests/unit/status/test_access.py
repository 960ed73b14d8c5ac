import socket
from collections.abc import Iterator

import pytest

from footfall.status.access import ReportAccess
from footfall.status.local import Origin

OPEN_PATHS = ["/healthz", "/readyz"]
DOCUMENTATION = ["/docs", "/docs/swagger-ui.css", "/openapi.json"]
GUARDED_PATHS = ["/", "/stats", "/ledger", "/metrics", "/no-such-page", "/docsx", "/healthz/", "/stats/docs/"]
LOCAL = {b"host": b"localhost:8000"}
FOREIGN = {b"host": b"example.com", b"x-forwarded-for": b"192.0.2.1"}


@pytest.fixture
def here() -> Iterator[Origin]:
    """A connection of this test to itself."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0] as accepted,
    ):
        yield Origin("1.1", client.getsockname(), accepted.getsockname())


ELSEWHERE = Origin("1.1", ("192.0.2.1", 50_000), ("192.0.2.2", 8000))


def status(
    access: ReportAccess, path: str, headers: dict[bytes, bytes] = LOCAL, origin: Origin = ELSEWHERE
) -> int | None:
    refusal = access.refusal(path, headers, origin)
    return None if refusal is None else refusal.problem.status


@pytest.mark.parametrize("path", OPEN_PATHS)
@pytest.mark.parametrize("token", ["open-sesame", None])
def test_health_and_readiness_are_open_to_all(token: str | None, path: str) -> None:
    """They answer anyone, from anywhere."""
    assert status(ReportAccess(token), path, FOREIGN) is None


@pytest.mark.parametrize("path", DOCUMENTATION)
def test_the_documentation_is_open_where_a_token_is_set(path: str) -> None:
    """A browser that opens it has no token to send, and it holds no data."""
    assert status(ReportAccess("open-sesame"), path, FOREIGN) is None


@pytest.mark.parametrize("path", [*GUARDED_PATHS, *DOCUMENTATION])
def test_without_a_token_only_this_user_reads(path: str, here: Origin) -> None:
    """Nothing else is open by accident, the documentation included."""
    access = ReportAccess(None)

    assert status(access, path, LOCAL, here) is None
    assert status(access, path, FOREIGN, here) == 403
    assert status(access, path, LOCAL, ELSEWHERE) == 403
    assert status(access, path, LOCAL, here._replace(peer=None)) == 403


@pytest.mark.parametrize("path", GUARDED_PATHS)
def test_everything_else_needs_the_token(path: str, here: Origin) -> None:
    """With a token set, a path that is not known to be harmless is refused without it, even on this machine."""
    assert status(ReportAccess("open-sesame"), path, LOCAL, here) == 401


@pytest.mark.parametrize("path", GUARDED_PATHS)
def test_the_token_opens_everything_from_anywhere(path: str) -> None:
    """The right token is enough, whatever the host and through any proxy."""
    headers = {**FOREIGN, b"authorization": b"Bearer open-sesame"}

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


def test_a_refusal_says_what_to_do() -> None:
    """Whoever is refused learns which setting, header or command would help."""
    without_token = ReportAccess(None).refusal("/stats", {}, ELSEWHERE)
    with_token = ReportAccess("open-sesame").refusal("/stats", {}, ELSEWHERE)

    assert without_token is not None
    assert "reporting.token" in without_token.problem.detail
    assert "ssh -L" in without_token.problem.detail
    assert with_token is not None
    assert "Authorization: Bearer" in with_token.problem.detail
    assert with_token.headers["WWW-Authenticate"].startswith("Bearer")
