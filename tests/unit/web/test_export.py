"""`GET /export`: its formats, its headers, and what is refused."""

import csv
import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from footfall.database.contents import BusyError
from footfall.database.duckdb.contents import DuckdbContents
from footfall.database.schema import NAMES
from footfall.web import export
from web_api import TOKEN, faults, serving

NOON = "2025-11-12 12:00:00"


@pytest.fixture
def client(database: duckdb.DuckDBPyConnection) -> Iterator[httpx.Client]:
    """With one event of a site, one of another day, and one of another site."""
    columns = "(time, site_id, event_type, path, visitor, user_id)"
    for time, site_id, user_id in [(NOON, "shop", "=1+1"), ("2025-11-13 00:00:00", "shop", "b"), (NOON, "other", "c")]:
        database.execute(
            f"INSERT INTO events {columns} VALUES (?, ?, 'page_view', '/', -1, ?)", [time, site_id, user_id]
        )
    with serving(database) as client:
        yield client


def get(client: httpx.Client, **parameters: str) -> httpx.Response:
    return client.get("/export", params=parameters)


def test_each_format_has_the_events_of_the_site(client: httpx.Client, tmp_path: Path) -> None:
    """With a name for the file, and the type of its content."""
    answer = get(client, site_id="shop", to="2025-11-12")
    assert (200, "text/csv; charset=utf-8; header=present") == (answer.status_code, answer.headers["content-type"])
    assert "shop_2025-11-12.csv" in answer.headers["content-disposition"]
    [row] = csv.DictReader(io.StringIO(answer.text))
    assert ("'=1+1", "f" * 32, list(NAMES)) == (row["user_id"], row["visitor"], list(row))

    lines = get(client, site_id="shop", format="ndjson").text.splitlines()
    assert ["=1+1", "b"] == sorted(json.loads(line)["user_id"] for line in lines)

    answer = get(client, **{"site_id": "shop", "from": "2025-11-13", "format": "parquet"})
    assert "application/vnd.apache.parquet" == answer.headers["content-type"]
    (tmp_path / "a.parquet").write_bytes(answer.content)
    assert [("b",)] == duckdb.read_parquet(str(tmp_path / "a.parquet")).project("user_id").fetchall()


def test_a_site_without_events_has_none(client: httpx.Client) -> None:
    """A header line of CSV is still there."""
    assert ",".join(NAMES) == get(client, site_id="nobody").text.strip()


def test_head_gives_the_headers(client: httpx.Client) -> None:
    """And makes no export."""
    answer = client.head("/export", params={"site_id": "shop", "format": "ndjson"})
    assert (200, b"", "application/x-ndjson") == (answer.status_code, answer.content, answer.headers["content-type"])
    assert "content-length" not in answer.headers


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({}, "site_id"),
        ({"site_id": "a", "form": "csv"}, "form"),
        ({"site_id": "a", "format": "xlsx"}, "format"),
        ({"site_id": "a", "from": "yesterday"}, "from"),
        ({"site_id": "a", "from": "2025-11-13", "to": "2025-11-12"}, "from"),
    ],
)
def test_a_wrong_parameter_is_named(client: httpx.Client, parameters: dict[str, str], field: str) -> None:
    """An unknown one with the nearest that is known."""
    found = faults(get(client, **parameters))
    assert [field] == list(found)
    assert field != "form" or "format" in found[field]


def test_the_token_is_needed(database: duckdb.DuckDBPyConnection) -> None:
    """As for any report."""
    with serving(database, token=TOKEN) as client:
        assert 401 == client.get("/export?site_id=a").status_code
        assert 200 == client.get("/export?site_id=a", headers={"Authorization": f"Bearer {TOKEN}"}).status_code


def test_http_1_0_is_refused(database: duckdb.DuckDBPyConnection) -> None:
    """Its clients take what broke off for whole."""
    with (
        serving(database, token=TOKEN) as client,
        socket.create_connection(("127.0.0.1", client.base_url.port or 0)) as raw,
    ):
        raw.sendall(b"GET /export?site_id=a HTTP/1.0\r\nAuthorization: Bearer %b\r\n\r\n" % TOKEN.encode())
        assert b"HTTP/1.1 505 " == raw.recv(13, socket.MSG_WAITALL)


def test_an_export_that_breaks_off_does_not_look_whole(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last chunk is missing."""
    begin = export._begin  # noqa: SLF001 - the database does not fail in the middle when asked to

    def failing(*arguments: Any) -> tuple[bytes, Iterator[bytes]]:
        first, _ = begin(*arguments)

        def rest() -> Iterator[bytes]:
            yield b"more"
            raise OSError("the disk is gone")

        return first, rest()

    monkeypatch.setattr(export, "_begin", failing)
    with pytest.raises(httpx.RemoteProtocolError):
        get(client, site_id="shop")


def test_too_many_exports_are_put_off(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 503, and when to come again."""
    monkeypatch.setattr(DuckdbContents, "_cursor", _busy)
    answer = get(client, site_id="shop")
    assert (503, "10") == (answer.status_code, answer.headers["retry-after"])


def _busy(*_: object) -> Any:
    raise BusyError("busy")
