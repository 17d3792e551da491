"""Rows of a database: sql://CONNECTION/path/to/query.sql, one SELECT that is only ever read with."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote

from mlops.data.rows import Record, note_columns, plain_number, showable
from mlops.errors import SourceError

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection

CONNECT_S = 10
_BATCH = 5000  # rows in memory
_FORM = "sql://CONNECTION/path/to/query.sql, where CONNECTION has letters, digits, '_' and '-' only"
_EXAMPLE = "postgresql+psycopg://reader:PASSWORD@db.example.org/warehouse"

# What may hold a ";" that ends no statement: comments (first group), texts and quoted names.
_TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?\*/)
    |(?<!\w)[eE]'(?:[^'\\]|\\.|'')*'
    |'[^']*'|"[^"]*"|`[^`]*`
    |(?<!\w)(?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?P=tag)
    |;""",
    re.VERBOSE | re.DOTALL,
)


class _Database(NamedTuple):
    """variable: where the URL stands in the environment; shown: the URL without its secrets."""

    variable: str
    url: URL
    shown: str

    def cause(self, error: Exception) -> str:
        """The database's own message in one line, without the password."""
        text = " ".join(str(getattr(error, "orig", None) or error).split())
        # Short ones too: a message that lost a word is better than one that gained a password.
        secrets = [str(self.url.password or "")] + [
            str(value) for name, value in self.url.query.items() if "pass" in name.lower() or "odbc" in name.lower()
        ]
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            text = text.replace(secret, "***").replace(quote(secret, safe=""), "***")
        return showable(text, 500)


def read_sql(uri: str, root: Path, wanted: Collection[str], seen: dict[str, None]) -> Iterator[Record]:
    """The rows of a query as a database gives them, only the columns that matter; `seen` gets all their names.

    root: the folder that the query's path is relative to; sql://CONNECTION//absolute/path.sql is taken as it is.
    Only reads, in one transaction that is never committed, and holds a few thousand rows at a time.
    Raises SourceError when the URI, the connection or the query is not what it must be, or the database refuses.
    """
    from sqlalchemy.exc import SQLAlchemyError

    name, path = _parse(uri, root)
    query = _query(uri, path)
    database = _database(uri, name)
    with _connected(uri, database) as connection:
        try:
            yield from _rows(connection, query, path, wanted, seen, uri)
        except (SQLAlchemyError, ValueError, ArithmeticError) as error:  # the last two: a value that Python cannot hold
            # `from None`: the chain would show the message with all that is hidden here.
            raise SourceError(
                f"{uri}: {path} failed on {database.shown}: {database.cause(error)}; check that its tables and columns "
                "exist, that the user may read them, and cast what Python cannot hold to text"
            ) from None


def _parse(uri: str, root: Path) -> tuple[str, Path]:
    match = re.fullmatch(r"sql://([A-Za-z0-9_-]+)/(.+)", uri, re.DOTALL)
    if not match:
        # Somebody may have written the database's URL here: what stands before an "@" is not repeated.
        raise SourceError(f"{re.sub('//.*@', '//***@', uri, flags=re.DOTALL)}: allowed: {_FORM}")
    return match[1], root / unquote(match[2])


def _query(uri: str, path: Path) -> str:
    """The one statement of a file, without the ";" at its end."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SourceError(f"{uri}: there is no query file {path.absolute()}; allowed: {_FORM}") from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise SourceError(f"{uri}: {path} cannot be read as UTF-8 text: {error}") from error
    found = _statements(text)
    if len(found) != 1:
        what = f"{len(found)} statements" if found else "no statement"
        raise SourceError(f"{uri}: found {what} in {path}; allowed: exactly one, that starts with SELECT or WITH")
    statement, bare = found[0]
    if not re.match(r"\(*\s*(select|with)\b", bare, re.IGNORECASE):
        word = showable(bare.split()[0], 40)
        raise SourceError(f"{uri}: found a statement that starts with {word!r} in {path}; allowed: SELECT or WITH")
    return statement


def _statements(text: str) -> list[tuple[str, str]]:
    """The statements that are not empty: (as written, without comments and quoted things)."""
    found: list[tuple[str, str]] = []
    bare, start, last = "", 0, 0
    for token in _TOKEN.finditer(text + "\n;"):
        bare += text[last : token.start()]
        last = token.end()
        if token[0] != ";":
            bare += " " if token["comment"] else "''"
            continue
        if bare.strip():
            found.append((text[start : token.start()].strip(), bare.strip()))
        bare, start = "", last
    return found


def _database(uri: str, name: str) -> _Database:
    """The connection of that name, from the environment."""
    plain = name.upper().replace("-", "_")
    own, airflow = f"EVERGREEN_SQL_{plain}", f"AIRFLOW_CONN_{plain}"
    variable = own if os.environ.get(own) else airflow
    value = os.environ.get(variable, "").strip()
    if not value:
        raise SourceError(f"{uri}: there is no connection {name!r}; set {own} (or {airflow}), as in {own}={_EXAMPLE}")
    try:
        url = _adapted(_from_json(value) if value.startswith("{") else _from_text(value))
        shown = url.set(query={}).render_as_string(hide_password=True)
    except Exception:  # whatever is wrong with it, its message may hold the password
        raise SourceError(
            f"{uri}: {variable} is not a database's URL; allowed: one as in {_EXAMPLE}, with special characters of the "
            "password as %XX, or Airflow's JSON with conn_type, host, login, password, schema and port"
        ) from None
    return _Database(variable, url, shown)


def _from_text(value: str) -> URL:
    from sqlalchemy import make_url

    url = make_url(value)
    if not url.drivername.startswith("sqlite") and "@" in f"{url.host}{url.database}":
        raise ValueError("a password with an '@' or '/' of its own: its rest would be shown as the host")
    return url.difference_update_query(["__extra__"])


def _from_json(value: str) -> URL:
    """Airflow's other form; of "extra" only what PostgreSQL's own client knows, such as sslmode."""
    from sqlalchemy import URL

    fields: dict[str, Any] = json.loads(value)
    extra = fields.get("extra") or {}
    if isinstance(extra, str):
        extra = json.loads(extra)
    return URL.create(
        fields["conn_type"],
        username=fields.get("login") or None,
        password=fields.get("password") or None,
        host=fields.get("host") or None,
        port=int(fields["port"]) if fields.get("port") else None,
        database=fields.get("schema") or None,
        query={key: str(item) for key, item in extra.items() if key.startswith("ssl")},
    )


def _adapted(url: URL) -> URL:
    """A URL with a driver that is installed; Airflow writes SQLite's file as the host."""
    if url.drivername in ("postgres", "postgresql"):
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite" and url.host and not url.database:
        return url.set(host="", database=unquote(url.host))
    return url


@contextmanager
def _connected(uri: str, database: _Database) -> Iterator[Connection]:
    """A connection that cannot write where the database has such a mode, and is rolled back at the end."""
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.exc import SQLAlchemyError

    url = database.url
    backend = url.get_backend_name()
    try:
        if backend == "sqlite":
            _sqlite_exists(url.database)
        engine = create_engine(url, poolclass=NullPool, connect_args=_arguments(url))
        connection = engine.connect()
    except (SQLAlchemyError, ImportError, OSError, TypeError, ValueError) as error:
        raise SourceError(
            f"{uri}: cannot connect to {database.shown}: {database.cause(error)}; check {database.variable}, that the "
            "database runs and can be reached from here, the user and the password, and that its driver is installed"
        ) from None
    try:
        if backend == "postgresql":
            connection = connection.execution_options(postgresql_readonly=True)
        elif backend == "sqlite":
            raw: Any = connection.connection.driver_connection
            raw.execute("PRAGMA query_only=ON").close()
            raw.text_factory = _text  # one text that is not UTF-8 must not end the reading
        yield connection
    finally:
        connection.close()
        engine.dispose()


def _sqlite_exists(database: str | None) -> None:
    if database and database != ":memory:" and not database.startswith("file:") and not Path(database).is_file():
        # SQLite would make an empty one.
        raise FileNotFoundError(f"there is no file {Path(database).absolute()}")


def _arguments(url: URL) -> dict[str, Any]:
    if url.drivername in ("postgresql+psycopg", "postgresql+psycopg2") and "connect_timeout" not in url.query:
        return {"connect_timeout": CONNECT_S}
    return {}


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data


def _rows(
    connection: Connection, query: str, path: Path, wanted: Collection[str], seen: dict[str, None], uri: str
) -> Iterator[Record]:
    # Without parameters a driver leaves "%" and ":" alone. Raw names: else SQLite's "a.b" becomes "b".
    options = {"no_parameters": True, "stream_results": True, "yield_per": _BATCH, "sqlite_raw_colnames": True}
    result = connection.exec_driver_sql(query, execution_options=options)
    names = list(result.keys())
    note_columns(seen, names, wanted)
    columns = {name: names.index(name) for name in dict.fromkeys(wanted) if name in names}
    for name in columns:
        if names.count(name) > 1:
            raise SourceError(f"{uri}: {path} gives {names.count(name)} columns {name!r}; name each its own with AS")
    for number, row in enumerate(result, start=1):
        cells = {name: _cell(row[position]) for name, position in columns.items()}
        yield Record(f"{path.name}:{number}", cells)


def _cell(value: Any) -> Any:
    """A value as the other formats give it: a database's exact numbers are plain ones there."""
    if isinstance(value, Decimal):
        return plain_number(value)
    return bytes(value) if isinstance(value, memoryview | bytearray) else value
