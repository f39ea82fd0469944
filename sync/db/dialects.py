"""The differences between SQLite, PostgreSQL and MariaDB. No other file depends on the server.

Three parts: column types that store the same value on every server, bulk statements in each server's
fastest form, and the driver errors that are transient.

    table                    sqlite              postgresql             mariadb
    bulk insert              multi-row INSERT    COPY                   multi-row INSERT
    bulk upsert              ON CONFLICT         COPY + merge           ON DUPLICATE KEY
    money numeric(20,6)      REAL                numeric(20,6)          decimal(20,6)
    time                     ISO text, UTC       timestamptz            datetime(6), UTC
    JSON                     text                json                   longtext
    one row's size           1 GB                1 GB                   max_allowed_packet

SQLite stores a number as an 8-byte float: exact to 15 digits, which is a price of 999 million
to the sixth decimal. The `document` column keeps every digit. `capacity` returns such limits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache, lru_cache
from hashlib import sha256
from itertools import chain
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from sync.errors import DatabaseUnavailable, SettingsError
from sync.model import Capacity, Interval

Row = tuple[Any, ...]
MAX_ID = 2**63 - 1
SQLITE_VALUES = 4000  # per statement, if its version allows so many; more made no load faster
MICRO = Decimal("0.000001")


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """An aware UTC datetime; see the table above for its type on each server."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(sa.DateTime(timezone=True))
        if dialect.name in ("mysql", "mariadb"):
            from sqlalchemy.dialects import mysql  # all its drivers: only where one is needed

            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(sa.DateTime())

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None or dialect.name == "postgresql":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class Money(sa.types.TypeDecorator[Decimal]):
    """An exact decimal with 6 places."""

    impl = sa.Numeric(20, 6)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.REAL())
        return dialect.type_descriptor(sa.Numeric(20, 6))

    def process_bind_param(self, value: Decimal | None, dialect: sa.Dialect) -> Any:
        return str(value) if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Decimal | None:
        return None if value is None else Decimal(str(value)).quantize(MICRO)


class Json(sa.JSON):
    """JSON; LONGTEXT in MariaDB, whose JSON check refuses 32 levels and more."""


class LongText(sa.Text):
    """Text of any length."""


@compiles(Json, "mysql", "mariadb")
@compiles(LongText, "mysql", "mariadb")
def _long_text(_type: sa.types.TypeEngine[Any], _compiler: sa.Compiled, **_options: Any) -> str:
    return "LONGTEXT"


BigKey = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # INTEGER PRIMARY KEY is SQLite's rowid


# --- values in the drivers' form -------------------------------------------------------------


@lru_cache(1024)  # a page's rows share a few times: its own, and those of imports
def _sqlite_time(value: datetime) -> str:
    return value.isoformat(" ", "microseconds")[:26]  # mapped times are UTC; strftime takes 5 x as long


def _mariadb_time(value: datetime) -> datetime:
    return value.astimezone(UTC).replace(tzinfo=None)


# Column types whose values must be converted for the driver.
_DRIVER_FORM: dict[str, dict[type[sa.types.TypeEngine[Any]], Callable[[Any], Any]]] = {
    "sqlite": {UtcDateTime: _sqlite_time, Money: str},
    "mysql": {UtcDateTime: _mariadb_time},
    "mariadb": {UtcDateTime: _mariadb_time},
}


def driver_rows(
    connection: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Iterable[Row]
) -> list[Row]:
    """`rows` with times and money in the driver's form, for a raw statement."""
    forms = _DRIVER_FORM.get(connection.dialect.name, {})
    kinds = (type(table.c[name].type) for name in columns)
    places = [(i, forms[kind]) for i, kind in enumerate(kinds) if kind in forms]
    if not places:
        return rows if isinstance(rows, list) else list(rows)
    converted = []
    for row in rows:
        values = list(row)
        for i, convert in places:
            if values[i] is not None:
                values[i] = convert(values[i])
        converted.append(tuple(values))
    return converted


# --- rows in comparable form -----------------------------------------------------------------


def comparable_rows(
    connection: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Iterable[Row]
) -> list[Row]:
    """`rows` in the form that `stored_rows` returns, so that sets of both can be compared."""
    if connection.dialect.name != "sqlite":
        return driver_rows(connection, table, columns, rows)
    money = [i for i, name in enumerate(columns) if isinstance(table.c[name].type, Money)]
    ready = driver_rows(connection, table, columns, rows)
    if not money:
        return ready
    return [
        tuple(float(v) if i in money and v is not None else v for i, v in enumerate(row)) for row in ready
    ]


def stored_rows(
    connection: sa.Connection, table: sa.Table, columns: Sequence[str], store_view: str, interval: Interval
) -> list[Row]:
    """A table's rows in an id interval, as the driver returns them, without type conversion."""
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    quote = connection.dialect.identifier_preparer.quote
    names = ", ".join(
        f"{name}::text"
        if connection.dialect.name == "postgresql" and isinstance(table.c[name].type, sa.JSON)
        else quote(name)
        for name in columns
    )
    where = f"store_view = {mark} AND product_id > {mark} AND product_id <= {mark}"
    last = MAX_ID if interval.last is None else interval.last
    sql = f"SELECT {names} FROM {table.name} WHERE {where}"
    return [tuple(row) for row in connection.exec_driver_sql(sql, (store_view, interval.after, last))]


def rows_hash(
    connection: sa.Connection,
    tables: Sequence[sa.Table],
    store_view: str,
    interval: Interval,
    *,
    is_heavy: bool = False,
) -> str:
    """A hash of all rows of these tables in an id interval, which any edit changes.

    is_heavy    the rows have megabytes: SQLite returns value by value, since a text made of them takes ten
                times their memory. The hash is the same

    sqlite        over every value; without a hash function, it returns each column as one text
    postgresql    over the number of row versions and the transactions that wrote them
    mariadb       over every value, computed by the server
    """
    where = {"view": store_view, "after": interval.after, "last": interval.last}
    if is_heavy and connection.dialect.name == "sqlite":
        return _digest(_value_by_value(connection, tables, where))
    found = connection.exec_driver_sql(_hashed_rows(connection.dialect.name, tuple(tables)), where).one()
    return _digest(found)


def _value_by_value(
    connection: sa.Connection, tables: Sequence[sa.Table], where: Mapping[str, object]
) -> Iterator[Iterator[bytes]]:
    """The texts of `_sqlite_texts`, in pieces."""
    for table in tables:
        for column in _hashed_columns(table):
            value = f"CAST(CAST({_not_null(column)} AS TEXT) AS BLOB)"
            interval = "store_view = :view AND product_id > :after AND product_id <= :last"
            sql = f"SELECT {value} FROM {table.name} WHERE {interval}"
            yield _joined_values(connection.exec_driver_sql(sql, where).cursor)


def _joined_values(cursor: Any) -> Iterator[bytes]:
    """The values of a column, and what stands between them, one in memory at a time."""
    between = b""
    while (row := cursor.fetchone()) is not None:
        yield between
        yield row[0]
        between = _SEPARATOR.encode()


def new_rows_hash(connection: sa.Connection, rows: Iterable[int]) -> str | None:
    """`rows_hash` of an interval whose rows were all written by this transaction, without reading them.

    rows    their number, by table, in the order of `rows_hash`

    None where the rows have to be read.
    """
    if connection.dialect.name != "postgresql":
        return None
    sql = "SELECT pg_current_xact_id()::xid::text::bigint"
    transaction: int = connection.exec_driver_sql(sql).scalar_one()
    return _digest(chain.from_iterable((n, n * transaction if n else None) for n in rows))


def _digest(parts: Iterable[object]) -> str:
    """A hash of numbers, of texts, where None is an empty one, and of texts that come in pieces."""
    digest = sha256()
    for part in parts:
        one = sha256()
        for piece in part if isinstance(part, Iterator) else (b"" if part is None else part,):
            one.update(piece if isinstance(piece, bytes) else str(piece).encode())
        digest.update(one.digest())
    return digest.hexdigest()[:32]


@cache
def _hashed_rows(dialect: str, tables: tuple[sa.Table, ...]) -> str:
    """One statement for all tables; it returns hashes, or texts to hash."""
    hashes = {"sqlite": _sqlite_texts, "postgresql": _postgresql_versions}.get(dialect, _mariadb_hash)
    names = ("view", "after", "last")
    view, after, last = (f":{name}" if dialect == "sqlite" else f"%({name})s" for name in names)
    where = f"store_view = {view} AND product_id > {after} AND product_id <= {last}"
    parts = (
        f"(SELECT {hashes(table)} FROM {table.name} WHERE {where}) AS {table.name}_hashed" for table in tables
    )
    return f"SELECT * FROM {', '.join(parts)}"


# NULL, and the separator of values. As literals: `char(30)` would be evaluated for each value.
_SEPARATOR = "\x1f"
_NULL, _BETWEEN = "'\x1e'", f"'{_SEPARATOR}'"


def _sqlite_texts(table: sa.Table) -> str:
    """One text per column: joining the values of each row first takes five times as long.

    Rows come in the order of the key used to find the range.
    """
    return ", ".join(
        f"CAST(group_concat({_not_null(column)}, {_BETWEEN}) AS BLOB)" for column in _hashed_columns(table)
    )


def _hashed_columns(table: sa.Table) -> list[sa.Column[Any]]:
    return [column for column in table.columns if column.name != "store_view"]  # the same in all rows


def _postgresql_versions(_table: sa.Table) -> str:
    """`xmin`, the transaction that wrote a row version, needs no reading of the row's values.

    PostgreSQL, "System Columns" (ddl-system-columns): freezing a row does not change it.
    """
    return "count(*), sum(xmin::text::bigint)"


def _mariadb_hash(table: sa.Table) -> str:
    row = ", ".join(_not_null(column) for column in table.columns)
    return f"BIT_XOR(CONV(LEFT(MD5(CONCAT_WS({_BETWEEN}, {row})), 16), 16, 10))"


def _not_null(column: sa.Column[Any]) -> str:
    return f"IFNULL(`{column.name}`, {_NULL})" if column.nullable else f"`{column.name}`"


def as_mapped(table: sa.Table, columns: Sequence[str], row: Row) -> Row:
    """A row of `stored_rows` with times and amounts converted as mapping does, on every server."""
    return tuple(as_mapped_value(table.c[name].type, value) for name, value in zip(columns, row, strict=True))


def as_mapped_value(kind: sa.types.TypeEngine[Any], value: Any) -> Any:
    """Convert a value; one of another type, which SQLite accepts from manual edits, stays unchanged."""
    try:
        if isinstance(kind, Money) and value is not None:
            return Decimal(str(value)).quantize(MICRO)
        if isinstance(kind, UtcDateTime) and value is not None:
            time = datetime.fromisoformat(value) if isinstance(value, str) else value
            return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
        if isinstance(kind, sa.Boolean) and value in (0, 1):
            return bool(value)
    except (ValueError, ArithmeticError):
        pass
    return value


def joined(dialect: str, text: sa.ColumnElement[str], order: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    """The texts of all rows joined by spaces, in order; the rows must already come in that order.

    SQLite before 3.44 accepts no order there, and PostgreSQL would sort again; both keep the order of the
    input (PostgreSQL, "Aggregate Functions": a sorted subquery usually works). In another order, a page would
    only count as changed and be read in full.
    """
    every: sa.FunctionElement[str] = sa.func.aggregate_strings(text, " ")
    return every if dialect in ("sqlite", "postgresql") else sa.aggregate_order_by(every, order)


def text_size(dialect: str, text: sa.ColumnElement[str]) -> sa.ColumnElement[int]:
    """The size of a text: bytes; characters in SQLite. PostgreSQL knows it without decompressing the text."""
    return sa.func.octet_length(text) if dialect == "postgresql" else sa.func.length(text)


def is_ascii(dialect: str, text: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Whether a text is ASCII: it has as many bytes as characters."""
    if dialect == "sqlite":  # before 3.43 it has no octet_length
        return sa.func.length(text) == sa.func.length(sa.cast(text, sa.LargeBinary))
    return sa.func.char_length(text) == sa.func.octet_length(text)


# --- bulk statements -------------------------------------------------------------------------


def bulk_insert(
    connection: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Sequence[Row]
) -> None:
    """Insert new rows.

    columns    names, in the order of each row's values
    """
    if not rows:
        return
    ready = driver_rows(connection, table, columns, rows)
    if connection.dialect.name == "postgresql":
        _copy(connection, table, columns, ready)
    else:
        _insert_many(connection, table.name, columns, ready)


def bulk_upsert(
    connection: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Sequence[Row]
) -> None:
    """Insert rows, or update the given columns where the primary key exists."""
    if not rows:
        return
    ready = driver_rows(connection, table, columns, rows)
    key = [column.name for column in table.primary_key]
    rest = [name for name in columns if name not in key]
    if connection.dialect.name == "postgresql":
        staging = f"{table.name}_staging"
        connection.exec_driver_sql(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {staging} (LIKE {table.name}) ON COMMIT DROP"
        )
        _copy(connection, table, columns, ready, into=staging)
        names = ", ".join(columns)
        connection.exec_driver_sql(
            f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {staging} {_on_conflict(key, rest)}"
        )
        connection.exec_driver_sql(f"TRUNCATE {staging}")
        return
    clause = _on_conflict(key, rest) if connection.dialect.name == "sqlite" else _on_duplicate(rest)
    _insert_many(connection, table.name, columns, ready, clause)


def _insert_many(
    connection: sa.Connection, table: str, columns: Sequence[str], rows: Sequence[Row], clause: str = ""
) -> None:
    """Insert rows: PyMySQL joins them into large statements, for SQLite they are joined here.

    SQLite's driver releases the GIL at every statement, and may wait for another thread to get it back.
    """
    done = 0
    for size in _sqlite_sizes(connection, len(columns)):
        whole = len(rows) - (len(rows) - done) % size
        if whole == done:
            continue
        sql = f"{_insert_sql(connection, table, columns, size)} {clause}"
        for start in range(done, whole, size):
            connection.exec_driver_sql(sql, _flat(rows[start : start + size]))
        done = whole
    if done < len(rows):
        connection.exec_driver_sql(f"{_insert_sql(connection, table, columns)} {clause}", rows[done:])


def _flat(rows: Iterable[Row]) -> Row:
    """All values of all rows; `chain` takes twice as long."""
    values: list[Any] = []
    for row in rows:
        values.extend(row)
    return tuple(values)


def _sqlite_sizes(connection: sa.Connection, columns: int) -> list[int]:
    """Rows per SQLite statement, descending: a few sizes, so that each statement is prepared once."""
    if connection.dialect.name != "sqlite":
        return []
    driver: Any = connection.connection.driver_connection
    most = min(SQLITE_VALUES, driver.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)) // columns
    return [size for size in (most, most // 6, most // 36) if size > 1]


def _insert_sql(connection: sa.Connection, table: str, columns: Sequence[str], rows: int = 1) -> str:
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    quote = connection.dialect.identifier_preparer.quote
    marks = f"({', '.join([mark] * len(columns))})"
    return f"INSERT INTO {table} ({', '.join(map(quote, columns))}) VALUES {', '.join([marks] * rows)}"


def _on_conflict(key: Sequence[str], rest: Sequence[str]) -> str:
    return f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET " + ", ".join(f"{c} = excluded.{c}" for c in rest)


def _on_duplicate(rest: Sequence[str]) -> str:
    return "ON DUPLICATE KEY UPDATE " + ", ".join(f"{c} = VALUES({c})" for c in rest)


def _copy(
    connection: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Sequence[Row], into: str = ""
) -> None:
    """COPY rows in one binary stream: psycopg encodes it in C, and neither side parses text.

    into    another table with the columns of `table`
    """
    driver: Any = connection.connection.driver_connection
    sql = f"COPY {into or table.name} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
    with driver.cursor() as cursor, cursor.copy(sql.encode()) as copy:
        copy.set_types([_COPIED_AS[type(table.c[name].type)] for name in columns])
        for row in rows:
            copy.write_row(row)


# The type of each column for COPY. JSON is text in binary form, too (PostgreSQL, `json_recv`). An
# int4 only for our own counters: psycopg truncates larger values.
_COPIED_AS: dict[type[sa.types.TypeEngine[Any]], str] = {
    UtcDateTime: "timestamptz",
    Money: "numeric",
    sa.BigInteger: "int8",
    sa.Integer: "int4",
    sa.Float: "float8",
    sa.Boolean: "bool",
    sa.String: "text",
    LongText: "text",
    Json: "text",
}


# --- limits, clocks and errors -----------------------------------------------------------------------


_STATEMENT_OVERHEAD = 16_384  # upper bound of an INSERT's bytes besides its long texts


def capacity(connection: sa.Connection) -> Capacity:
    """The server's limits for one product. MariaDB's is constant for a session, so it is read once."""
    if connection.dialect.name == "sqlite":
        return Capacity(digits=15)
    if connection.dialect.name == "postgresql":
        return Capacity()
    if "max_allowed_packet" not in connection.info:
        packet = connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar_one()
        connection.info["max_allowed_packet"] = packet
    return Capacity(row_bytes=max(0, connection.info["max_allowed_packet"] - _STATEMENT_OVERHEAD))


def utc_now(connection: sa.Connection) -> datetime:
    """The database server's time: one clock for all machines that share the database."""
    sql = {"postgresql": "SELECT clock_timestamp()", "sqlite": None}.get(
        connection.dialect.name, "SELECT utc_timestamp(6)"
    )
    if sql is None:
        return datetime.now(UTC)
    value: datetime = connection.exec_driver_sql(sql).scalar_one()
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


@cache
def from_now(dialect: str, life: timedelta) -> sa.ColumnElement[datetime]:
    """`utc_now` plus `life` as an SQL expression, which saves a round trip."""
    if dialect == "postgresql":
        return sa.func.clock_timestamp() + sa.literal(life, sa.Interval())
    if dialect in ("mysql", "mariadb"):
        microseconds = round(life.total_seconds() * 1_000_000)
        return sa.literal_column(
            f"timestampadd(MICROSECOND, {microseconds}, utc_timestamp(6))", UtcDateTime()
        )
    return sa.bindparam(None, type_=UtcDateTime(), callable_=lambda: datetime.now(UTC) + life)


def own_schema(connection: sa.Connection) -> str | None:
    """The schema of our tables: in PostgreSQL the first of the search path, whether or not it exists yet.

    Schemas further down the path may hold another tenant's tables.
    """
    if connection.dialect.name != "postgresql":
        return None
    found: str | None = connection.exec_driver_sql(_FIRST_OF_SEARCH_PATH).scalar_one()
    return found


_FIRST_OF_SEARCH_PATH = """
    SELECT CASE WHEN first IN ('', '"$user"') THEN current_schema()
                WHEN left(first, 1) = '"' THEN replace(trim('"' FROM first), '""', '"')
                ELSE lower(first) END
    FROM (SELECT trim(split_part(current_setting('search_path'), ',', 1)) AS first) AS search_path
"""


def refuse_former_place(connection: sa.Connection) -> None:
    """Raise SettingsError when a copy is in a schema that only the role's search path names.

    Earlier versions used that path; now a second copy would be created in `public`.
    """
    if connection.dialect.name != "postgresql" or own_schema(connection) != "public":
        return
    found = connection.exec_driver_sql(_FORMER_PLACE).scalar_one_or_none()
    if found not in (None, "public"):
        raise SettingsError(
            f"DATABASE_URL names no schema, but a copy is in {found}, from the role's search path.",
            f"add ?options=-csearch_path={found} to it; or make public the first in the role's search path.",
        )


_FORMER_PLACE = """
    SELECT place.nspname FROM pg_settings
    CROSS JOIN unnest(string_to_array(replace(reset_val, '"$user"', session_user), ','))
        WITH ORDINALITY AS path (name, nth)
    JOIN pg_namespace place ON place.nspname = trim(' "' FROM path.name)
    WHERE pg_settings.name = 'search_path' AND EXISTS (
        SELECT 1 FROM pg_class WHERE relnamespace = place.oid AND relname = 'sync_leases')
    ORDER BY nth LIMIT 1
"""


def make_schema(connection: sa.Connection) -> None:
    """Create the first schema of the search path if it does not exist.

    Raises DatabaseUnavailable when this role may not, with the statement for an administrator.
    """
    schema = own_schema(connection)
    if schema is None or sa.inspect(connection).has_schema(schema):
        return
    role = connection.exec_driver_sql("SELECT current_user").scalar_one()
    try:
        connection.execute(sa.schema.CreateSchema(schema))
    except sa.exc.ProgrammingError as error:
        quote = connection.dialect.identifier_preparer.quote_identifier
        raise DatabaseUnavailable(
            f"the database has no schema {schema}, and the role {role} may not create it.",
            f"let an administrator run: CREATE SCHEMA {quote(schema)} AUTHORIZATION {quote(role)};",
        ) from error


@contextmanager
def schema_lock(connection: sa.Connection) -> Iterator[None]:
    """Lock the schema for one migrating process, in one transaction where DDL can be rolled back.

    Alembic commits step by step unless a transaction is open; SQLite's begins with the write lock.
    MariaDB commits at every DDL statement, so its lock belongs to the session and must be released.
    """
    if connection.dialect.name == "sqlite":
        connection.begin()
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('product-sync migrations'))")
    if connection.dialect.name not in ("mysql", "mariadb"):
        yield
        return
    if not connection.exec_driver_sql(f"SELECT GET_LOCK({_MARIADB_LOCK}, {LOCK_TIMEOUT_S})").scalar_one():
        raise DatabaseUnavailable(
            f"another process has been migrating this database for {LOCK_TIMEOUT_S} seconds.",
            "wait for it, or end its connection, then try again.",
        )
    try:
        yield
    finally:
        connection.exec_driver_sql(f"SELECT RELEASE_LOCK({_MARIADB_LOCK})")


LOCK_TIMEOUT_S = 60
_MARIADB_LOCK = "CONCAT('product-sync ', MD5(DATABASE()))"  # a lock's name has at most 64 characters


_POSTGRES_TRANSIENT = ("08", "40", "53300", "55P03", "57P")  # connection, rollback, too many, lock, shutdown
_MARIADB_TRANSIENT = {1040, 1053, 1205, 1213, 2002, 2003, 2006, 2013}


def is_transient(error: sa.exc.DBAPIError) -> bool:
    """Whether the transaction may succeed when retried: locked, restarting, deadlocked."""
    if error.connection_invalidated:
        return True
    original = error.orig
    if (number := mariadb_error(original)) is not None:
        return number in _MARIADB_TRANSIENT
    if original is not None and hasattr(original, "sqlstate"):  # psycopg, not loaded for other servers
        state = original.sqlstate
        return (
            isinstance(error, sa.exc.OperationalError)
            if state is None
            else state.startswith(_POSTGRES_TRANSIENT)
        )
    text = str(original)
    return "locked" in text or "busy" in text


def mariadb_error(original: BaseException | None) -> int | None:
    """The number of an error of MariaDB, None for one of another database.

    PyMySQL 1.2 has a `sqlstate` too, which says less: a lock that was waited for too long is HY000.
    """
    number = original.args[0] if original is not None and original.args else None
    return number if isinstance(number, int) else None
