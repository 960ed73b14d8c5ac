"""A ClickHouse database: reaching it, its tables, and what its errors mean.

Tables (the table `format` holds the number 1):

- `events`: a row for each entry that has a site, with the columns of `footfall.database.enrich`, the empty text for
  what is not known, and three more: `queue` and `sequence` say which batch the row came from, `event_key` is the hash
  of site and `event_id`, 0 for an event without one.
- `positions`: for each source how far its rows have come: the last `sequence`, rows `written`, entries `skipped` by
  reason (JSON). A new position is a new row; the one with the greatest sequence counts, and merging drops the others.
- `salts`: the secrets that tell visitors without a user id apart, by UTC day (days since 1970). A salt that is
  forgotten leaves an empty row; one that is made after that has the next `generation`.
- `doubles`: rows of `events` that reports leave out: two processors wrote the same event id at the same moment.

An insert is one part: it is there whole or not at all, in one partition, whatever the server is asked to gather. An
answer means that the rows are synced to the disk, which MergeTree leaves to a setting of the table.

An insert has a token, and a token that a table has seen (it remembers the last 10,000) makes an insert do nothing. A
server without replicas notes the token and then puts the rows in their place. Killed in between, it knows a token
without rows, and drops whatever comes with it for good: a dead token, which `insert_once` finds out.

With `?cluster=NAME` the tables are made on all its servers. `events` is then spread over the shards by `queue`, so that
an insert still is one part in one place, behind a Distributed table of that name; `events_local` is what a server has.
The others are replicated to every server. This takes the macros `{shard}` and `{replica}`, as usual.
"""

import logging
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError
from clickhouse_connect.driver.external import ExternalData
from msgspec import Struct

from footfall.errors import BadSettingError, DamagedFileError, FootfallError

REMEMBERED_INSERTS: Final = 10_000
"""How many tokens a table remembers."""
OLDEST_VERSION: Final = (25, 8)
"""Reports need `enable_shared_storage_snapshot_in_query`."""

_PLAIN: Final = {"MergeTree", "ReplacingMergeTree"}
"""Engines of tables that one server has."""
_FORMAT: Final = 1
_MAX_DEAD: Final = 100
"""More dead tokens there will not be in one place: each takes a failure within a tenth of a millisecond. And rows that
something hides would else be added without end."""
_CONNECT_S: Final = 5
_ANSWER_S: Final = 60
"""After this a server that says nothing counts as away; what it was told to do may still happen."""

_SETTINGS: Final = {
    # Gathered inserts have no order, and are one part with those of others.
    "async_insert": 0,
    # All blocks of an insert become one part. An insert holds a read of the queue, which is less by far.
    "min_insert_block_size_rows": 2**31,
    "min_insert_block_size_bytes": 2**32,
}
_CLUSTER_SETTINGS: Final = {
    # Answered when the shard has it, and most of the shard's replicas.
    "distributed_foreground_insert": 1,
    "insert_quorum": "auto",
}

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SCHEMES: Final = {"clickhouse": 8123, "clickhouses": 8443}

_AUTHENTICATION_FAILED: Final = 516
_ACCESS_DENIED: Final = 497
_TOO_MUCH: Final = {158, 159, 160, 241, 307, 394}
"""Limits on rows, time, speed, memory and bytes, and a query that was killed."""
_WRONG_SET_UP: Final = {
    _AUTHENTICATION_FAILED: "the user or the password is wrong",
    _ACCESS_DENIED: "the user may not do that",
    60: "a table is gone",
    81: "the database is gone",
    170: "there is no such cluster",
    701: "there is no such cluster",
}
"""By error code, what trying again will not mend."""

_Found = TypeVar("_Found")

# Every failure is told where it is met; the driver and what is under it would log each once more.
for _name in ("clickhouse_connect", "urllib3.connectionpool"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class ClickhouseUrl(Struct, frozen=True):
    """`database.url`, taken apart."""

    host: str
    port: int
    is_secure: bool
    user: str
    password: str
    database: str
    cluster: str | None


def parse_url(url: str) -> ClickhouseUrl:
    """Take `clickhouse://user:password@host:8123/database?cluster=NAME` apart; `clickhouses` is the same over TLS.

    Raises:
        BadSettingError: it is not of that form; the text says what is wrong, and not the password.
    """
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        port = parts.port or _SCHEMES[parts.scheme]
    except (ValueError, KeyError):
        raise _bad_url("must be clickhouse://user:password@host:8123/database") from None
    database, cluster = parts.path.removeprefix("/"), options.pop("cluster", None)
    if not parts.hostname:
        raise _bad_url("names no host")
    if not _NAME.fullmatch(database) or (cluster is not None and not _NAME.fullmatch(cluster)):
        raise _bad_url("names of a database and a cluster are letters, digits and _, and begin with no digit")
    if options or parts.fragment:
        raise _bad_url("has one option only, ?cluster=NAME")
    return ClickhouseUrl(
        parts.hostname,
        port,
        parts.scheme == "clickhouses",
        unquote(parts.username or "default"),
        unquote(parts.password or ""),
        database,
        cluster,
    )


def tables(database: str, cluster: str | None) -> list[str]:
    """The statements that make the database and what it lacks of its tables."""
    everywhere = f" ON CLUSTER {cluster}" if cluster else ""
    kept = (
        f"non_replicated_deduplication_window = {REMEMBERED_INSERTS}, "
        f"replicated_deduplication_window = {REMEMBERED_INSERTS}, "
        "fsync_after_insert = 1, fsync_part_directory = 1"
    )

    def table(name: str, columns: str, order: str, *, version: str = "", more: str = "") -> str:
        kind = "ReplacingMergeTree" if version else "MergeTree"
        arguments = [version] if version else []
        if cluster:
            place = ("{shard}", "{replica}") if name == "events_local" else ("all", "{shard}-{replica}")
            arguments = [f"'/clickhouse/tables/{place[0]}/{database}/{name}'", f"'{place[1]}'", *arguments]
            kind = f"Replicated{kind}"
        return (
            f"CREATE TABLE IF NOT EXISTS {database}.{name}{everywhere} ({columns}) "
            f"ENGINE = {kind}({', '.join(arguments)}) ORDER BY {order} SETTINGS {kept}{more}"
        )

    made = [
        f"CREATE DATABASE IF NOT EXISTS {database}{everywhere}",
        table("format", "version UInt32", "version"),
        table("events_local" if cluster else "events", _EVENTS, "(site_id, event_type, time)"),
        table(
            "positions",
            "source String, sequence UInt64, written UInt64, skipped String, moved_at DateTime64(6, 'UTC')",
            "source",
            version="sequence",
        ),
        table(
            "salts",
            "day Int32, generation UInt32, salt String, made_at DateTime64(6, 'UTC')",
            "(day, generation)",
            # A salt that is forgotten shall leave the disk, not only the table.
            more=", old_parts_lifetime = 60",
        ),
        table(
            "doubles",
            "site_id LowCardinality(String), queue LowCardinality(String), sequence UInt64, event_key Int128",
            "(site_id, queue, sequence, event_key)",
        ),
    ]
    if cluster:
        made.append(
            f"CREATE TABLE IF NOT EXISTS {database}.events{everywhere} AS {database}.events_local "
            f"ENGINE = Distributed({cluster}, {database}, events_local, cityHash64(queue))"
        )
    return made


# Times are raw microseconds: an event may have happened in the year one, which is more than the type shows everywhere.
# A batch is found by its sequence, and a key by its hash, without a look at every row: sequences are times, so rows of
# one moment, which are near each other on the disk, have sequences that are near each other.
_EVENTS: Final = """
    time DateTime64(6, 'UTC'),
    received_at DateTime64(6, 'UTC'),
    site_id LowCardinality(String),
    event_type LowCardinality(String),
    path String,
    visitor Int128,
    user_id String,
    referrer String,
    source LowCardinality(String),
    browser LowCardinality(String),
    os LowCardinality(String),
    device LowCardinality(String),
    props String,
    queue LowCardinality(String),
    sequence UInt64,
    event_key Int128,
    INDEX by_sequence sequence TYPE minmax GRANULARITY 1,
    INDEX by_event_key event_key TYPE bloom_filter GRANULARITY 1
"""


class ClickhouseDatabase:
    """A connection to the database, whose tables are there; any thread may use it.

    Attributes:
        name: the database's.
        is_replicated: some tables are on several servers, and the one that is asked may be behind. That is so in a
            cluster, but also where a server makes such tables of all (a Replicated database, ClickHouse Cloud).

    Methods raise:
        TimeoutError: a limit was reached.
        OSError: the server is away, or can't do it now; try again. What was to be written may be written.
        FootfallError: trying again will not help; the text names the setting.
    """

    def __init__(self, url: ClickhouseUrl) -> None:
        """Connect, and make what is missing."""
        self._url = url
        self.name: Final = url.database
        settings = _SETTINGS | (_CLUSTER_SETTINGS if url.cluster else {})
        with self._naming_errors():
            self._client = clickhouse_connect.get_client(
                interface="https" if url.is_secure else "http",
                host=url.host,
                port=url.port,
                username=url.user,
                password=url.password,
                settings=settings,
                connect_timeout=_CONNECT_S,
                send_receive_timeout=_ANSWER_S,
                show_clickhouse_errors="scrub",
                # A session would let one query through at a time, and has nothing that is wanted.
                autogenerate_session_id=False,
                query_retries=0,
                client_name="footfall",
            )
        try:
            self._check_version()
            self.is_replicated: Final = not self._make_tables() <= _PLAIN
        except BaseException:
            self.close()
            raise

    def query(
        self,
        query: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        settings: Mapping[str, Any] | None = None,
        keys: Iterable[int] | None = None,
    ) -> list[tuple[Any, ...]]:
        """The rows that a query gives; times in it are to be asked for as numbers.

        Args:
            query: `{name:Type}` stands for a parameter.
            parameters: by name.
            settings: of ClickHouse, for this query.
            keys: numbers of 128 bits that the query may ask for: `x IN keys`; as many as there are.
        """
        external = None
        if keys is not None:
            packed = b"".join(key.to_bytes(16, "little", signed=True) for key in keys)
            external = ExternalData(file_name="keys", data=packed, fmt="RowBinary", structure="key Int128")
        with self._naming_errors():
            return [
                tuple(row)
                for row in self._client.query(
                    query,
                    parameters=dict(parameters or {}),
                    settings=dict(settings or {}),
                    external_data=external,
                ).result_rows
            ]

    def run(
        self,
        statement: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Run a statement that gives no rows; the parameters are those of `query`."""
        with self._naming_errors():
            self._client.command(statement, parameters=dict(parameters or {}), settings=dict(settings or {}))

    def insert_once(
        self,
        table: str,
        columns: Mapping[str, str],
        rows: Sequence[Sequence[Any]],
        token: str,
        look: Callable[[], _Found],
    ) -> _Found:
        """Add rows as one part, as `insert` does, unless that has been done with that token; give what is there then.

        Args:
            table: as in `insert`, like `columns` and `rows`.
            columns: see there.
            rows: see there.
            token: the same for all, in whatever process, that would add these rows.
            look: gives what is there of them, false for nothing. A token after which nothing is there is dead, for all
                and for ever, so the next is tried, which is the same for all again. But replicas agree on token and
                rows in one step, and the one that is asked may not have the rows yet.
        """
        for number in range(_MAX_DEAD + 1):
            self.insert(table, columns, rows, f"{token}:{number}" if number else token)
            found = look()
            if found or self.is_replicated:
                return found
        raise OSError(f"ClickHouse on {self._place()} confirms what is added to {table}, and does not keep it")

    def insert(
        self, table: str, columns: Mapping[str, str], rows: Sequence[Sequence[Any]], token: str | None = None
    ) -> None:
        """Add rows as one part.

        Args:
            table: its name.
            columns: the types of the rows' columns, by name.
            rows: at least one.
            token: with one that was used before, alive or dead, nothing is done. None for one that was not.
        """
        with self._naming_errors():
            self._client.insert(
                f"{self.name}.{table}",
                rows,
                column_names=list(columns),
                column_type_names=list(columns.values()),
                settings={"insert_deduplication_token": token or secrets.token_hex()},
            )

    def is_ending(self, tokens: str) -> bool:
        """End inserts that are under way and whose token begins with `tokens`; whether there were any.

        While it says so one of them may still come to its end.
        """
        cluster = self._url.cluster
        processes = f"clusterAllReplicas({cluster}, system.processes)" if cluster else "system.processes"
        condition = "startsWith(Settings['insert_deduplication_token'], {tokens:String})"
        parameters = {"tokens": tokens}
        [(running,)] = self.query(f"SELECT count() FROM {processes} WHERE {condition}", parameters)
        if running:
            everywhere = f" ON CLUSTER {cluster}" if cluster else ""
            self.run(f"KILL QUERY{everywhere} WHERE {condition}", parameters)
        return bool(running)

    def close(self) -> None:
        self._client.close()

    def _check_version(self) -> None:
        version = tuple(int(number) for number in re.findall(r"\d+", self._client.server_version or "")[:2])
        if version < OLDEST_VERSION:
            raise FootfallError(
                f"database.url: {self._place()} has version {self._client.server_version}; "
                f"Footfall needs ClickHouse {OLDEST_VERSION[0]}.{OLDEST_VERSION[1]} or later."
            )

    def _make_tables(self) -> set[str]:
        """Make what is missing, and give the engines of all; a user who may only read finds it made."""
        engines = self._engines()
        wanted = {"format", "events", "positions", "salts", "doubles"}
        if "format" not in engines and engines.keys() & wanted:
            raise DamagedFileError(
                f"The database {self.name} on {self._place()} was not made by Footfall. Name another (database.url)."
            )
        if not wanted <= engines.keys():
            for statement in tables(self.name, self._url.cluster):
                self.run(statement)
            engines = self._engines()
        versions = self._versions()
        if not versions:
            self.insert("format", {"version": "UInt32"}, [(_FORMAT,)])
            versions = self._versions()
        if versions != [(_FORMAT,)]:
            raise DamagedFileError(
                f"The database {self.name} on {self._place()} has format {versions[0][0]}; this Footfall reads format "
                f"{_FORMAT}. Name another (database.url)."
            )
        return {engine for name, engine in engines.items() if name in wanted}

    def _engines(self) -> dict[str, str]:
        """By table."""
        return dict(self.query("SELECT name, engine FROM system.tables WHERE database = {name:String}", self._named()))

    def _versions(self) -> list[tuple[Any, ...]]:
        return self.query(f"SELECT DISTINCT version FROM {self.name}.format")

    def _named(self) -> dict[str, str]:
        return {"name": self.name}

    def _place(self) -> str:
        return f"{self._url.host}:{self._url.port}"

    @contextmanager
    def _naming_errors(self) -> Iterator[None]:
        try:
            yield
        except ClickHouseError as error:
            code = getattr(error, "code", None)
            if reason := _WRONG_SET_UP.get(code or 0):
                raise FootfallError(
                    f"database.url: {reason} (user {self._url.user}, database {self._url.database} on "
                    f"{self._place()}): {_text(error)}"
                ) from None
            if code in _TOO_MUCH:
                raise TimeoutError(f"ClickHouse on {self._place()} gave up: {_text(error)}") from error
            if code is None and error.__cause__ is not None:
                raise OSError(f"ClickHouse on {self._place()} can't be reached: {_reason(error.__cause__)}") from error
            raise OSError(f"ClickHouse on {self._place()} can't do it now: {_text(error)}") from error


def open_clickhouse(url: str) -> ClickhouseDatabase:
    """Connect to the database, whose tables are made when they are not there; whoever opens it closes it.

    Args:
        url: `database.url`.

    Raises:
        OSError: the server is away; try again later.
        BadSettingError: the address is wrong.
        DamagedFileError: it is not a database of this format.
        FootfallError: the server does not let us in, or is too old.
    """
    return ClickhouseDatabase(parse_url(url))


def _bad_url(reason: str) -> BadSettingError:
    return BadSettingError(f"database.url: {reason}")


def _text(error: Exception) -> str:
    """What the server said, in one line and without what the driver says about it."""
    return str(error).partition("\n")[0].rpartition("DB::Exception: ")[2][:500]


def _reason(error: BaseException) -> str:
    """Why a connection failed: the system's words, which are at the end of a chain of causes."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return str(error) or type(error).__name__
