"""Which SQL people may run: one statement that reads events, and does nothing else.

DuckDB itself parses it, says of what type it is, and gives its syntax tree, in which every table and function is looked
at. So no way of writing a name (quotes, schemas, subqueries) gets around the rules. Besides, the statement runs in a
transaction that can only read, in a database that can reach no file.

What is not read:

- `salts`, `event_ids` and `erasures`: with the salts of the last two days, whoever knows an address could find its
  visitor, and erasures name whom nothing is to be known of.
- table functions but those listed: others read memory by its address, look into the storage of tables, run SQL that
  stands in a text, or change the database's state (`force_checkpoint`).
- functions that hold a thread of the database, or write its log.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import duckdb
import msgspec

from footfall.database.contents import SqlError

PRIVATE_TABLES: Final = frozenset({"salts", "event_ids", "erasures"})

_TABLE_FUNCTIONS: Final = frozenset(
    {
        "duckdb_columns",
        "duckdb_functions",
        "duckdb_tables",
        "duckdb_types",
        "generate_series",
        "json_each",
        "json_tree",
        "pg_timezone_names",
        "pragma_table_info",
        "range",
        "unnest",
    }
)
_REFUSED_FUNCTIONS: Final = frozenset({"sleep_ms", "write_log"})
_QUERIES: Final = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_EXPLAIN: Final = re.compile(r"\s*EXPLAIN\b(\s+ANALYZE\b)?(\s*\([^)]*\))?", re.IGNORECASE)
_ALLOWED: Final = "SELECT, WITH, FROM, VALUES, DESCRIBE, SHOW, SUMMARIZE and EXPLAIN"


class Statement(msgspec.Struct, frozen=True):
    """A statement that may be run.

    Attributes:
        sql: without the semicolon at its end.
        is_select: its result can stand in another SELECT.
    """

    sql: str
    is_select: bool


def statement_of(cursor: duckdb.DuckDBPyConnection, sql: str) -> Statement:
    """The statement in a text.

    Raises:
        SqlError: there is none or more than one, it can't be parsed, or it may not be run; the text says which.
    """
    statements = _parsed(cursor, sql)
    if len(statements) != 1:
        raise SqlError("There is no statement." if not statements else "One statement at a time, please.")
    [statement] = statements
    text = statement.query.rstrip().removesuffix(";").rstrip()
    match statement.type:
        case duckdb.StatementType.SELECT:
            _check(cursor, text)
            return Statement(text, is_select=True)
        case duckdb.StatementType.EXPLAIN:
            start = _EXPLAIN.match(text)
            rest = text[start.end() :] if start else ""
            if [one.type for one in _parsed(cursor, rest)] != [duckdb.StatementType.SELECT]:
                raise SqlError("EXPLAIN explains a SELECT here.")
            _check(cursor, rest)
            return Statement(text, is_select=False)
        case other:
            raise SqlError(f"{_name_of(other, text)} is not for reading. Allowed are {_ALLOWED}.")


def _parsed(cursor: duckdb.DuckDBPyConnection, sql: str) -> list[Any]:
    try:
        return list(cursor.extract_statements(sql))
    except duckdb.Error as error:
        raise SqlError(str(error)) from None


def _name_of(kind: duckdb.StatementType, text: str) -> str:
    """What a person calls the statement; DuckDB's own types lump some together."""
    word = re.match(r"\w+", text)
    return word[0].upper() if word else kind.name


def _check(cursor: duckdb.DuckDBPyConnection, sql: str) -> None:
    [(tree,)] = cursor.execute("SELECT json_serialize_sql($sql)", {"sql": sql}).fetchall()
    parsed = msgspec.json.decode(tree)
    if parsed["error"]:
        raise SqlError(str(parsed["error_message"]))
    for node in _nodes(parsed):
        kind = str(node.get("type", ""))
        if kind.endswith("_NODE") and kind not in _QUERIES:
            raise SqlError(f"A statement that writes is not for reading. Allowed are {_ALLOWED}.")
        if kind in {"BASE_TABLE", "SHOW_REF"} and (name := str(node["table_name"])).lower() in PRIVATE_TABLES:
            raise SqlError(f"The table {name} is private: it could tell who somebody is.")
        if kind == "TABLE_FUNCTION":
            function = str(node["function"]["function_name"])
            if function.lower() not in _TABLE_FUNCTIONS:
                raise SqlError(
                    f"The table function {function} is not for reading events. There are: "
                    f"{', '.join(sorted(_TABLE_FUNCTIONS))}."
                )
        if str(node.get("function_name", "")).lower() in _REFUSED_FUNCTIONS:
            raise SqlError(f"The function {node['function_name']} is not for reading.")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - any JSON
    rest = [tree]
    while rest:
        one = rest.pop()
        if isinstance(one, dict):
            yield one
            rest += one.values()
        elif isinstance(one, list):
            rest += one
