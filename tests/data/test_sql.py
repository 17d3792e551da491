from __future__ import annotations

import json
import socket
import sqlite3
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url

from mlops.data import sql
from mlops.data.rows import Record
from mlops.data.sql import read_sql
from mlops.errors import SourceError

WANTED = ("text", "label", "at")
# 100 million rows, of which a reader that streams needs the first few thousand.
ENDLESS = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000000) SELECT i FROM n",
    "postgres": "SELECT a.i FROM generate_series(1, 10000) a(i), generate_series(1, 10000) b(j)",
}


@pytest.fixture(scope="module")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from servers import postgres

    with postgres(tmp_path_factory.mktemp("postgres")) as url:
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE notes (text text, label text, at timestamp)")
            connection.exec_driver_sql(
                "INSERT INTO notes VALUES ('warm ☀', 'sun', '2024-05-01 12:30:00'), (NULL, 'rain', NULL)"
            )
        engine.dispose()
        yield url


@pytest.fixture
def sqlite_path(tmp_path: Path) -> Path:
    path = tmp_path / "notes.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE notes (text TEXT, label TEXT, at TEXT)")
        rows = [("warm ☀", "sun", "2024-05-01 12:30:00"), (None, "rain", None)]
        connection.executemany("INSERT INTO notes VALUES (?, ?, ?)", rows)
    return path


@pytest.fixture(params=["sqlite", "postgres"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of database that the connection "notes" leads to."""
    if request.param == "sqlite":
        monkeypatch.setenv("EVERGREEN_SQL_NOTES", f"sqlite:///{request.getfixturevalue('sqlite_path')}")
    else:
        monkeypatch.setenv("EVERGREEN_SQL_NOTES", request.getfixturevalue("postgres_url"))
    return str(request.param)


def read(folder: Path, query: str, wanted: tuple[str, ...] = WANTED, name: str = "notes") -> list[Record]:
    (folder / "query.sql").write_text(query, encoding="utf-8")
    return list(read_sql(f"sql://{name}/query.sql", folder, wanted, {}))


def refused(folder: Path, query: str, name: str = "notes") -> str:
    with pytest.raises(SourceError) as caught:
        read(folder, query, name=name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_rows_are_read(kind: str, tmp_path: Path) -> None:
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql" / "notes.sql").write_text("SELECT text, label, at, 1 AS more FROM notes ORDER BY label DESC;\n")
    seen: dict[str, None] = {}
    rows = list(read_sql("sql://notes/sql/notes.sql", tmp_path, (*WANTED, "no such"), seen))
    at: Any = datetime(2024, 5, 1, 12, 30) if kind == "postgres" else "2024-05-01 12:30:00"
    assert rows == [
        Record("notes.sql:1", {"text": "warm ☀", "label": "sun", "at": at}),
        Record("notes.sql:2", {"text": None, "label": "rain", "at": None}),
    ]
    assert list(seen) == ["text", "label", "at", "more"]


def test_the_path_is_the_roots_or_absolute(kind: str, tmp_path: Path) -> None:
    query = tmp_path / "a query.sql"
    query.write_text("SELECT * FROM notes")
    assert len(list(read_sql("sql://notes/a%20query.sql", tmp_path, WANTED, {}))) == 2
    assert len(list(read_sql(f"sql://notes/{query}", Path("/nowhere"), WANTED, {}))) == 2
    with pytest.raises(SourceError, match=r"no query file /nowhere/a query\.sql"):
        list(read_sql("sql://notes/a query.sql", Path("/nowhere"), WANTED, {}))


def test_twenty_thousand_rows(kind: str, tmp_path: Path) -> None:
    rows = read(tmp_path, ENDLESS[kind].replace("100000000", "20000") + " LIMIT 20000", ("i",))
    assert len(rows) == 20_000
    assert rows[0].place == "query.sql:1"
    assert rows[-1].place == "query.sql:20000"


def test_rows_are_streamed(kind: str, tmp_path: Path) -> None:
    (tmp_path / "query.sql").write_text(ENDLESS[kind])
    tracemalloc.start()
    started = time.monotonic()
    rows = read_sql("sql://notes/query.sql", tmp_path, ("i",), {})
    for _ in range(12_000):
        next(rows)
    rows.close()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.monotonic() - started < 30
    assert peak < 50 << 20


@pytest.mark.parametrize(
    "query",
    [
        "SELECT '10:30 100% :name %s %(x)s; -- /* ' AS text",
        "-- first; a comment\n/* and; another */ SELECT '10:30 100% :name %s %(x)s; -- /* ' AS text ; -- the end;\n;",
        "with t as (select '10:30 100% :name %s %(x)s; -- /* ' as text) select \"text\" from t",
        "\ufeffSELECT '10:30 100% :name %s %(x)s; -- /* ' AS text",
    ],
)
def test_signs_in_a_query_mean_themselves(kind: str, tmp_path: Path, query: str) -> None:
    assert [row.cells for row in read(tmp_path, query)] == [{"text": "10:30 100% :name %s %(x)s; -- /* "}]


def test_an_operator_with_percent(kind: str, tmp_path: Path) -> None:
    assert read(tmp_path, "SELECT 7 % 4 AS text FROM notes WHERE text LIKE '%m%'")[0].cells == {"text": 3}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT 1; DELETE FROM notes", "found 2 statements"),
        ("SELECT 1; -- ;\n SELECT 2;", "found 2 statements"),
        ("", "found no statement"),
        (";;\n-- SELECT 1\n/* SELECT 2 */", "found no statement"),
        ("/* SELECT */ DELETE FROM notes", "starts with 'DELETE'"),
        ("INSERT INTO notes SELECT * FROM notes", "starts with 'INSERT'"),
        ("SELECT 1 /* ; DELETE FROM notes", "found 2 statements"),
        ("SELECT 'open ; DELETE FROM notes", "found 2 statements"),
        ("\x00SELECT 1;", "starts with"),
        ("selected", "starts with 'selected'"),
        ("PRAGMA query_only=OFF", "starts with 'PRAGMA'"),
    ],
)
def test_only_one_reading_statement_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: str, said: str
) -> None:
    monkeypatch.delenv("EVERGREEN_SQL_NOTES", raising=False)
    message = refused(tmp_path, query)  # before any connection is asked for
    assert said in message
    assert "SELECT or WITH" in message


def test_dollar_quotes_and_escapes_of_postgres(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_SQL_NOTES", postgres_url)
    row = read(tmp_path, "SELECT $a$;$b$;$a$ AS text, E'\\';' AS label, $$'$$ AS at;")[0]
    assert row.cells == {"text": ";$b$;", "label": "';", "at": "'"}


WRITES = {
    "sqlite": ["WITH x AS (SELECT 1) DELETE FROM notes", "WITH x AS (SELECT 1) INSERT INTO notes SELECT 1, 2, 3"],
    "postgres": [
        "WITH x AS (DELETE FROM notes RETURNING *) SELECT * FROM x",
        "WITH x AS (SELECT 1) DELETE FROM notes",
        "SELECT * INTO copied FROM notes",
        "SELECT nextval('numbers')",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "SELECT set_config('default_transaction_read_only', 'off', false), clear()",
    ],
}


def test_a_statement_that_writes_is_refused(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if kind == "postgres":
        engine = create_engine(request.getfixturevalue("postgres_url"))
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE SEQUENCE IF NOT EXISTS numbers")
            body = "BEGIN DELETE FROM notes; RETURN 1; END"
            connection.exec_driver_sql(f"CREATE OR REPLACE FUNCTION clear() RETURNS int LANGUAGE plpgsql AS $${body}$$")
        engine.dispose()
    for query in WRITES[kind]:
        assert " failed on " in refused(tmp_path, query)
    assert len(read(tmp_path, "SELECT * FROM notes")) == 2


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT * FROM missing", "missing"),
        ("SELECT nope FROM notes", "nope"),
        ("SELECT FROM WHERE", "syntax error"),
        ("SELECT text, label AS text FROM notes", "2 columns 'text'"),
    ],
)
def test_what_a_database_refuses_is_said_in_its_words(kind: str, tmp_path: Path, query: str, said: str) -> None:
    message = refused(tmp_path, query)
    assert said in message
    assert "query.sql" in message
    assert "p@ss" not in message
    assert "p%40ss" not in message


def test_an_error_among_the_rows_is_said(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_SQL_NOTES", postgres_url)
    assert "division by zero" in refused(tmp_path, "SELECT 1 / (9000 - i) FROM generate_series(1, 20000) i")
    assert "cast what Python cannot hold to text" in refused(tmp_path, "SELECT 'infinity'::timestamp AS at")


def test_exact_numbers_and_bytes(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_SQL_NOTES", postgres_url)
    row = read(tmp_path, "SELECT 3.00::numeric AS text, 2.5::numeric AS label, '\\xff'::bytea AS at")[0]
    assert row.cells == {"text": 3, "label": 2.5, "at": b"\xff"}
    assert isinstance(row.cells["text"], int)


def test_one_text_that_is_not_utf8_ends_nothing(
    sqlite_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_SQL_NOTES", f"sqlite:///{sqlite_path}")
    rows = read(tmp_path, "SELECT CAST(x'ff' AS TEXT) AS text UNION ALL SELECT 'good'")
    assert [row.cells for row in rows] == [{"text": b"\xff"}, {"text": "good"}]


def test_the_names_of_a_connection(sqlite_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = refused(tmp_path, "SELECT 1", name="my-notes")
    for part in ("EVERGREEN_SQL_MY_NOTES", "AIRFLOW_CONN_MY_NOTES", "postgresql+psycopg://", "'my-notes'"):
        assert part in message
    monkeypatch.setenv("AIRFLOW_CONN_MY_NOTES", json.dumps({"conn_type": "sqlite", "host": str(sqlite_path)}))
    assert len(read(tmp_path, "SELECT * FROM notes", name="my-notes")) == 2
    monkeypatch.setenv("AIRFLOW_CONN_MY_NOTES", f"sqlite://{str(sqlite_path).replace('/', '%2F')}")
    assert len(read(tmp_path, "SELECT * FROM notes", name="my-notes")) == 2
    monkeypatch.setenv("EVERGREEN_SQL_MY_NOTES", f"sqlite:///{tmp_path}/other.db")
    message = refused(tmp_path, "SELECT * FROM notes", name="my-notes")
    assert f"there is no file {tmp_path}/other.db" in message
    assert not (tmp_path / "other.db").exists()


def test_airflows_connections_to_postgres(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = make_url(postgres_url)
    fields = {
        "conn_type": "postgres", "host": url.host, "login": url.username, "password": url.password,
        "schema": url.database, "port": url.port, "extra": json.dumps({"sslmode": "prefer", "cursor": "dictcursor"}),
    }  # fmt: skip
    plain = postgres_url.replace("postgresql+psycopg", "postgres") + "?sslmode=prefer&__extra__=%7B%7D"
    for value in (json.dumps(fields), json.dumps(fields | {"extra": {}, "port": str(url.port)}), plain):
        monkeypatch.setenv("AIRFLOW_CONN_NOTES", value)
        assert len(read(tmp_path, "SELECT * FROM notes")) == 2


@pytest.mark.parametrize(
    "value",
    [
        "postgresql://me:sec@ret@db/x",
        "postgresql://me:sec/ret@db/x",
        "postgresql://me:123/secret@db/x",
        "postgresql://me:secret@db:port/x",
        "secret",
        "nosuchdatabase://me:secret@db/x",
        "mysql://me:secret@db/x",
        "postgresql://localhost:1/x?password=secret",
        '{"conn_type": "postgres", "password": "secret"',
        '{"password": "secret"}',
        '{"conn_type": "postgres", "host": "localhost", "port": 1, "password": "secret"}',
        '{"conn_type": "postgres", "host": "localhost", "port": "secret"}',
    ],
)
def test_no_message_has_the_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("EVERGREEN_SQL_NOTES", value)
    with pytest.raises(SourceError) as caught:
        read(tmp_path, "SELECT 1")
    assert "EVERGREEN_SQL_NOTES" in str(caught.value)
    for part in ("secret", "sec@ret", "ret@db", "sec/"):
        assert part not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_wrong_password_is_said_without_it(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_SQL_NOTES", postgres_url.replace("p%40ss", "wr%40ng"))
    message = refused(tmp_path, "SELECT 1")
    assert "password authentication failed" in message
    assert "evergreen:***@127.0.0.1" in message
    assert "wr@ng" not in message
    assert "wr%40ng" not in message


def test_a_host_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "CONNECT_S", 2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        address = f"postgresql://me:secret@127.0.0.1:{port}/x"
        monkeypatch.setenv("EVERGREEN_SQL_NOTES", address)
        assert "refused" in refused(tmp_path, "SELECT 1")
        silent.listen()
        started = time.monotonic()
        message = refused(tmp_path, "SELECT 1")
    assert time.monotonic() - started < 10
    assert "timeout" in message
    assert "cannot connect to postgresql+psycopg://me:***@127.0.0.1" in message
    assert "secret" not in message


@pytest.mark.parametrize(
    "uri",
    ["sql://notes", "sql://notes/", "sql:///query.sql", "sql://no.tes/q.sql", "sql://me:secret@db/x", "sql://a b/q"],
)
def test_uris_are_checked(tmp_path: Path, uri: str) -> None:
    with pytest.raises(SourceError, match="allowed: sql://CONNECTION") as caught:
        list(read_sql(uri, tmp_path, WANTED, {}))
    assert "secret" not in str(caught.value)


def test_a_query_file_must_be_text(tmp_path: Path) -> None:
    (tmp_path / "query.sql").write_bytes(b"SELECT '\xff'")
    with pytest.raises(SourceError, match="cannot be read as UTF-8"):
        list(read_sql("sql://notes/query.sql", tmp_path, WANTED, {}))
    with pytest.raises(SourceError, match="cannot be read"):
        list(read_sql("sql://notes/.", tmp_path, WANTED, {}))
