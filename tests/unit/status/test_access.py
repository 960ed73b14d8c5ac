import socket
from collections.abc import Iterator

import pytest

from footfall.collector.address import ClientAddress
from footfall.status.access import DELAY_S, GUESSES_BURST, REQUESTS_BURST, ReportAccess
from footfall.status.local import Origin
from footfall.status.refusals import RefusalCounts

OPEN_PATHS = ["/healthz", "/readyz"]
DOCUMENTATION = ["/docs", "/api/v2/query/schema.json", "/docs/swagger-ui.css", "/openapi.json"]
GUARDED_PATHS = [
    "/",
    "/stats",
    "/api/v2/query",
    "/api/v2/query/schema.jsonx",
    "/api/v1/sites",
    "/ledger",
    "/metrics",
    "/no-such-page",
    "/docsx",
    "/healthz/",
    "/stats/docs/",
]
LOCAL = {b"host": b"localhost:8000"}
FOREIGN = {b"host": b"example.com", b"x-forwarded-for": b"9.9.9.1"}


@pytest.fixture
def here() -> Iterator[Origin]:
    """A connection of this test to itself."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0] as accepted,
    ):
        yield Origin("1.1", client.getsockname(), accepted.getsockname())


ELSEWHERE = Origin("1.1", ("9.9.9.1", 50_000), ("9.9.9.2", 8000))


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


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def from_address(address: str) -> Origin:
    return Origin("1.1", (address, 50_000), ("9.9.9.2", 8000))


def with_token(token: str) -> dict[bytes, bytes]:
    return {b"host": b"example.com", b"authorization": f"Bearer {token}".encode()}


def test_a_wrong_token_waits_for_its_answer() -> None:
    """Whoever has mistyped it loses a second, whoever tries many loses more; no token is no guess."""
    access = ReportAccess("open-sesame")

    wrong = access.refusal("/stats", with_token("wrong"), ELSEWHERE)
    none = access.refusal("/stats", {}, ELSEWHERE)

    assert wrong is not None
    assert none is not None
    assert (DELAY_S, 0.0) == (wrong.delay_s, none.delay_s)


def test_an_address_that_tries_tokens_is_not_heard_for_a_while() -> None:
    """After a number of wrong ones no token of it is looked at; other addresses are answered, and it is, later."""
    clock = Clock()
    access = ReportAccess("open-sesame", clock=clock)
    right, guesser = with_token("open-sesame"), from_address("2a00:db8::1")

    guesses = [status(access, "/stats", with_token(f"wrong-{n}"), guesser) for n in range(GUESSES_BURST + 5)]
    refusal = access.refusal("/stats", right, from_address("2a00:db8::2"))

    assert [401] * GUESSES_BURST + [429] * 5 == guesses
    assert refusal is not None, "an IPv6 network has one limit"
    assert ("1", 0.0) == (refusal.headers["Retry-After"], refusal.delay_s)
    assert status(access, "/stats", right, from_address("9.9.9.9")) is None
    clock.now += 1
    assert status(access, "/stats", right, guesser) is None


def test_ipv4_addresses_on_an_ipv6_listener_have_a_limit_each() -> None:
    """A listener on `::` sees them as IPv6 addresses of one network: a stranger must not lock out all others."""
    access = ReportAccess("open-sesame", clock=Clock())

    for n in range(GUESSES_BURST + 1):
        status(access, "/stats", with_token(f"wrong-{n}"), from_address("::ffff:9.9.9.1"))

    assert 429 == status(access, "/stats", with_token("open-sesame"), from_address("::ffff:9.9.9.1"))
    assert status(access, "/stats", with_token("open-sesame"), from_address("::ffff:9.9.9.2")) is None


def test_the_token_of_an_event_is_guessed_no_faster() -> None:
    """Where an event needs it, wrong ones count for the same limit."""
    access = ReportAccess("open-sesame", clock=Clock())

    assert access.has_token(with_token("open-sesame"), "9.9.9.1")
    assert not any(access.has_token(with_token("wrong"), "9.9.9.1") for _ in range(GUESSES_BURST))
    assert not access.has_token(with_token("open-sesame"), "9.9.9.1")
    assert 429 == status(access, "/stats", with_token("open-sesame"), from_address("9.9.9.1"))
    assert not ReportAccess(None).has_token(with_token("open-sesame"), "9.9.9.1")


def test_reports_of_one_address_are_limited() -> None:
    """Also with the token, with the time to wait; others are not, and neither is a proxy that is not trusted."""
    clock = Clock()
    access = ReportAccess("open-sesame", clock=clock)
    right = with_token("open-sesame")

    asked = [status(access, "/stats", right) for _ in range(REQUESTS_BURST + 1)]
    private = {
        status(access, "/stats", right, from_address(address))
        for address in ("127.0.0.1", "10.0.0.1", "fd00::1", "fe80::1%lo")
        for _ in range(REQUESTS_BURST + 1)
    }

    assert [None] * REQUESTS_BURST + [429] == asked
    assert {None} == private
    assert status(access, "/stats", right, from_address("9.9.9.9")) is None
    clock.now += 1
    assert status(access, "/stats", right) is None


def test_the_limit_is_for_whom_a_trusted_proxy_names() -> None:
    """One visitor of a proxy does not use up what others have."""
    access = ReportAccess("open-sesame", address_of=ClientAddress(["127.0.0.1"]).of, clock=Clock())
    proxy = from_address("127.0.0.1")

    def ask(visitor: bytes) -> int | None:
        return status(access, "/stats", {**with_token("open-sesame"), b"x-forwarded-for": visitor}, proxy)

    assert 429 == [ask(b"9.9.9.1") for _ in range(REQUESTS_BURST + 1)][-1]
    assert ask(b"9.9.9.2") is None


def test_wrong_tokens_are_logged_but_not_all(caplog: pytest.LogCaptureFixture) -> None:
    """Once a minute for each address, so many for all together, and the token in none of them."""
    clock = Clock()
    access = ReportAccess("open-sesame", clock=clock)

    for _ in range(3):
        access.refusal("/stats", with_token("secret-guess"), ELSEWHERE)
    assert ["a wrong token for reports came from 9.9.9.1"] == caplog.messages
    clock.now += 60
    access.refusal("/stats", with_token("secret-guess"), ELSEWHERE)
    assert 2 == len(caplog.messages)
    for number in range(10_000):
        access.refusal("/stats", with_token("secret-guess"), from_address(f"10.0.{number // 250}.{number % 250}"))
    assert 10 < len(caplog.messages) < 50
    assert "secret-guess" not in caplog.text


def test_refusals_are_counted_by_reason(here: Origin) -> None:
    """Each writer for itself, all together in the total."""
    refusals = RefusalCounts(2)
    first = ReportAccess("open-sesame", refusals=refusals, writer=0, clock=Clock())
    second = ReportAccess(None, refusals=refusals, writer=1)

    status(first, "/stats")
    status(first, "/healthz")
    for _ in range(GUESSES_BURST + 1):
        status(first, "/stats", with_token("wrong"))
    status(second, "/stats", FOREIGN)
    status(second, "/stats", LOCAL, here)

    assert {"not_local": 1, "no_token": 1, "wrong_token": GUESSES_BURST, "rate_limited": 1} == refusals.totals()
