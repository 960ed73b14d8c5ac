"""A connection to a ClickHouse database: queries, inserts that take place once, and what errors mean.

An insert is one part: its rows are stored together or not at all, whatever the server has been told to gather. When it
is answered, the rows are synced to the disk, which MergeTree leaves to a setting of the table.

An insert has a token. A table remembers its last 10,000 tokens, and an insert with one of them does nothing. A server
without replicas notes the token first and then stores the rows. If it is killed in between, it knows a token without
rows, and drops whatever comes with it, for good. `insert_once` finds such a *dead* token and uses the next.
"""

import logging
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from io import RawIOBase
from typing import Any, Final, TypeVar, cast

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError
from clickhouse_connect.driver.external import ExternalData
from urllib3.exceptions import HTTPError

from footfall.database.clickhouse.ddl import TABLES, Ddl
from footfall.database.clickhouse.url import ClickhouseUrl
from footfall.database.contents import SqlError
from footfall.errors import FootfallError

_PLAIN: Final = {"MergeTree", "ReplacingMergeTree"}
"""Engines of tables that one server has."""
_MAX_DEAD: Final = 100
"""More dead tokens there will not be in one place: each takes a failure within a tenth of a millisecond. And rows that
something hides would else be added without end."""
_PART_BYTES: Final = 256 * 1024
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


class ClickhouseDatabase:
    """A connection to the database; any thread may use it.

    Attributes:
        name: the database's.
        ddl: statements for its tables.
        place: host and port, for messages.
        version: the server's, as it says.

    Methods raise:
        TimeoutError: a limit was reached.
        OSError: the server is away, or can't do it now; try again. What was to be written may be written.
        FootfallError: trying again will not help; the text names the setting.
    """

    def __init__(self, url: ClickhouseUrl) -> None:
        self._url = url
        self.name: Final = url.database
        self.ddl: Final = Ddl(url.database, url.cluster)
        self.place: Final = f"{url.host}:{url.port}"
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

    @property
    def version(self) -> str:
        return self._client.server_version or ""

    @cached_property
    def is_replicated(self) -> bool:
        """Whether some tables are on several servers, and the one that is asked may be behind.

        That is so in a cluster, but also where a server makes such tables of all (a Replicated database, ClickHouse
        Cloud).
        """
        return not {engine for name, engine in self.engines().items() if name in TABLES} <= _PLAIN

    def engines(self) -> dict[str, str]:
        """The engine of each table, by the table's name."""
        return dict(
            self.query("SELECT name, engine FROM system.tables WHERE database = {name:String}", {"name": self.name})
        )

    def columns(self, table: str) -> set[str]:
        """The names of a table's columns; none where there is no such table."""
        found = self.query(
            "SELECT name FROM system.columns WHERE database = {name:String} AND table = {table:String}",
            {"name": self.name, "table": table},
        )
        return {column for (column,) in found}

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

    def stream(self, query: str, parameters: Mapping[str, Any] | None = None) -> Iterator[tuple[Any, ...]]:
        """As `query`, a block at a time, for more rows than fit into memory."""
        with (
            self._naming_errors(),
            self._client.query_row_block_stream(query, parameters=dict(parameters or {})) as blocks,
        ):
            for block in blocks:
                yield from block

    @contextmanager
    def streamed(
        self,
        query: str,
        parameters: Mapping[str, Any],
        settings: Mapping[str, Any],
        form: str,
        *,
        is_typed: bool = False,
    ) -> Iterator[Iterator[bytes]]:
        """What a query gives, in one of ClickHouse's formats, as it arrives.

        Args:
            query: as in `query`, like `parameters` and `settings`.
            parameters: see there.
            settings: see there.
            form: the format's name.
            is_typed: a person has typed the query, so what is wrong with it is theirs to mend. Tables that it names
                without a database are those of this one.

        Raises:
            SqlError: such a query is wrong, or may not be run.
        """
        with self._naming_errors(is_typed=is_typed):
            self._client.database = self.name if is_typed else None
            stream = cast(
                RawIOBase,
                self._client.raw_stream(query, dict(parameters), dict(settings), form, use_database=is_typed),
            )
            with closing(stream):
                yield iter(lambda: stream.read(_PART_BYTES) or b"", b"")

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
            look: gives what is there of them; something false for nothing. After a dead token nothing ever is, so the
                next one is used, which is the same for all again. Replicas have no dead tokens, but the one that is
                asked may not have the rows yet.
        """
        for number in range(_MAX_DEAD + 1):
            self.insert(table, columns, rows, f"{token}:{number}" if number else token)
            found = look()
            if found or self.is_replicated:
                return found
        raise OSError(f"ClickHouse on {self.place} confirms what is added to {table}, and does not keep it")

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

    @contextmanager
    def _naming_errors(self, *, is_typed: bool = False) -> Iterator[None]:
        try:
            yield
        except HTTPError as error:
            raise OSError(f"the connection to ClickHouse on {self.place} broke: {error}") from error
        except ClickHouseError as error:
            code = getattr(error, "code", None)
            if is_typed and code is not None and code not in _TOO_MUCH | {_AUTHENTICATION_FAILED}:
                raise SqlError(_text(error)) from None
            if reason := _WRONG_SET_UP.get(code or 0):
                raise FootfallError(
                    f"database.url: {reason} (user {self._url.user}, database {self._url.database} on "
                    f"{self.place}): {_text(error)}"
                ) from None
            if code in _TOO_MUCH:
                raise TimeoutError(f"ClickHouse on {self.place} gave up: {_text(error)}") from error
            if code is None and error.__cause__ is not None:
                raise OSError(f"ClickHouse on {self.place} can't be reached: {_reason(error.__cause__)}") from error
            raise OSError(f"ClickHouse on {self.place} can't do it now: {_text(error)}") from error


def _text(error: Exception) -> str:
    """What the server said, in one line and without what the driver says about it."""
    return str(error).partition("\n")[0].rpartition("DB::Exception: ")[2][:500]


def _reason(error: BaseException) -> str:
    """Why a connection failed: the system's words, which are at the end of a chain of causes."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return str(error) or type(error).__name__
