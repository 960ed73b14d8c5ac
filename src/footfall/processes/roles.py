"""The roles of a service: what each is called, where it answers, and which settings it can't do without."""

import importlib.util
import logging
from typing import Final

from footfall.database.geo import open_places
from footfall.errors import BadSettingError, BadUsageError
from footfall.extras import how_to_install
from footfall.queue.broker import drivers
from footfall.settings import Settings, is_loopback
from footfall.status.socket_owner import tells_owners

COLLECTOR: Final = "collector"
STORAGE: Final = "storage"
PROCESSOR: Final = "processor"
REPORTING: Final = "reporting"
ROLES: Final = (COLLECTOR, STORAGE, PROCESSOR, REPORTING)

_MIN_TOKEN_LENGTH: Final = 16
"""Of `reporting.token`, where more than this machine can try it."""

_log = logging.getLogger(__name__)


def monitor_port(settings: Settings, roles: tuple[str, ...]) -> int | None:
    """The port that answers for the state of a service without any other port; None if it has one, or wants none."""
    return None if COLLECTOR in roles or REPORTING in roles else settings.monitor.port


def validate(settings: Settings, roles: tuple[str, ...]) -> None:
    """Check that these roles can run with these settings.

    Raises:
        BadSettingError: a setting is missing, or not safe; the text says what to set.
        BadUsageError: a role is missing.
    """
    # Services may share one file of settings, so a driver is needed only where it is used.
    if settings.queue.url is not None and roles != (REPORTING,):
        drivers.check_url(settings.queue.url)
    uses_database = PROCESSOR in roles or REPORTING in roles
    if uses_database and settings.database.is_clickhouse and importlib.util.find_spec("clickhouse_connect") is None:
        raise BadSettingError(
            f"database.url: needs clickhouse_connect; install it with: {how_to_install('clickhouse')}"
        )
    if REPORTING in roles and PROCESSOR not in roles and not settings.database.is_clickhouse:
        raise BadUsageError(
            "DuckDB lets one process in only, so reporting and processor run together: footfall run processor reporting"
        )
    if PROCESSOR in roles:
        open_places(settings.geo.database)
    has_port = monitor_port(settings, roles) is not None
    if has_port or COLLECTOR in roles or REPORTING in roles:
        is_needed = has_port or REPORTING in roles
        _validate_token(_reports_host(settings, roles), settings.reporting.token, is_needed=is_needed)


def _reports_host(settings: Settings, roles: tuple[str, ...]) -> str:
    if COLLECTOR in roles:
        return settings.collector.host
    return settings.reporting.host if REPORTING in roles else settings.monitor.host


def _validate_token(host: str, token: str | None, *, is_needed: bool) -> None:
    if is_loopback(host):
        if token is None and not tells_owners():
            _log.warning(
                "reports answer nobody: no token is set, and the kernel does not tell which user opened a connection "
                "(sock_diag, in its module tcp_diag). Set reporting.token"
            )
        return
    if token is None:
        if not is_needed:
            return  # a collector alone tells nothing but its state, and that nobody beyond this machine
        raise BadSettingError(
            f"reporting.token: reports would be open to everybody who can reach {host}. Set a long "
            "random one (FOOTFALL__REPORTING__TOKEN=…), or listen on 127.0.0.1."
        )
    if len(token) < _MIN_TOKEN_LENGTH:
        raise BadSettingError(
            f"reporting.token: everybody who can reach {host} can try tokens, and this one has fewer than "
            f"{_MIN_TOKEN_LENGTH} characters. Set a long random one, as `openssl rand -hex 24` prints, or listen on "
            "127.0.0.1."
        )
