"""Connections: one engine per database, transactions that are tried again, migrations on demand.

SQLite runs in WAL with foreign keys on, waits for a busy writer, and takes the write lock when
a transaction begins: a read that turns into a write half-way cannot be made to wait.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from ssl import SSLError
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa
import tenacity

from sync.db.dialects import is_transient, make_schema, own_schema, schema_lock
from sync.errors import DatabaseUnavailable, Interrupted, SchemaTooNew, SettingsError
from sync.redaction import foreign

if TYPE_CHECKING:
    from alembic.config import Config

T = TypeVar("T")
BUSY_TIMEOUT_S = 30
ABANDONED_S = 20  # between two statements of a page's transaction; mapping 64 MB of products takes a few
# libpq's own: it would wait for a connection as long as TCP does, minutes (PyMySQL: 10 s), and notice that a
# server's machine is gone when the kernel gives up.
LIBPQ = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}
RETRY_TIME_S = 90  # a PostgreSQL restart takes seconds, a failover about a minute
# A session of our own, whatever the server's defaults: without STRICT a text that is too long would be cut in
# silence, without NO_BACKSLASH_ESCAPES every quote of a JSON document would be sent as two bytes.
_PREPARE_MARIADB = (
    "SET time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES,NO_ENGINE_SUBSTITUTION'"
)
_SQLITE_OPTIONS = {"timeout", "isolation_level", "detect_types", "check_same_thread", "cached_statements"}
_WRITE: dict[str, Any] = {"sync_write": True}


def connect(url: str, *, writes: bool = False, keeps: bool = True) -> sa.Engine:
    """An engine for `url`; nothing is opened yet.

    writes    no transaction is idle for long: PostgreSQL then ends one whose machine is gone, for it would
              keep its locks, and everybody who is to take over, for as long as the network takes to notice.
              And it compresses documents by lz4, where it can
    keeps     connections for the next use; else each is closed behind its own

    Statement parameters are hidden from errors and logs: they hold product texts.
    Raises DatabaseUnavailable for a URL that no driver understands, SettingsError for an option in it that
    none can use; of some options the driver says so only when it connects.
    """
    try:
        parsed = sa.make_url(url)
        engine = _connect(parsed, writes, None if keeps else sa.NullPool)
    except sa.exc.ArgumentError as error:
        raise unavailable(error) from None
    except (TypeError, ValueError) as error:
        raise _unusable_option(error) from None
    sa.event.listen(engine, "do_connect", _open)
    return engine


def _open(dialect: sa.Dialect, _record: Any, arguments: Any, options: Any) -> Any:
    """Connect as SQLAlchemy would; what a driver cannot do with an option of the URL is said by its name."""
    try:
        return dialect.connect(*arguments, **options)
    except (TypeError, ValueError, AssertionError, FileNotFoundError, PermissionError, SSLError) as error:
        raise _unusable_option(error) from None


def _unusable_option(error: Exception) -> SettingsError:
    return SettingsError(f"DATABASE_URL: has an option that cannot be used: {foreign(error)}")


def _connect(parsed: sa.URL, writes: bool, pool: type[sa.Pool] | None) -> sa.Engine:
    options: dict[str, Any] = {"hide_parameters": True, "poolclass": pool}
    if parsed.get_backend_name() == "sqlite":
        unknown = parsed.query.keys() - _SQLITE_OPTIONS
        if unknown and "uri" not in parsed.query:
            raise ValueError(f"SQLite knows no {', '.join(sorted(unknown))}")
        engine = sa.create_engine(parsed, **options, connect_args={"timeout": BUSY_TIMEOUT_S})
        sa.event.listen(engine, "do_connect", _create_for_us_alone)
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    if parsed.get_backend_name() in ("mysql", "mariadb"):
        options["connect_args"] = {"charset": "utf8mb4", "init_command": _PREPARE_MARIADB}
        options["isolation_level"] = "READ COMMITTED"
        return sa.create_engine(parsed, **options)
    options["connect_args"] = {name: value for name, value in LIBPQ.items() if name not in parsed.query}
    engine = sa.create_engine(parsed, **options)
    sa.event.listen(engine, "connect", _prepare_postgresql)
    if writes:
        sa.event.listen(engine, "connect", _prepare_postgresql_writer)
    return engine


def in_memory() -> sa.Engine:
    """An empty database that is gone with the process: what a dry run compares with before the first load."""
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False})
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    upgrade(engine)
    return engine


def _create_for_us_alone(_dialect: Any, _record: Any, arguments: Any, options: Any) -> None:
    """Make a new file readable for its owner alone; SQLite gives the files next to it the same mode."""
    path = arguments[0] if arguments else options.get("database", "")
    if not str(path).startswith(("file:", ":")):
        with suppress(OSError):  # it is there, or SQLite will say why it cannot be made
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))


PAGE_BYTES: Final = 8192  # three documents; into SQLite's own 4096 goes one, and the rest is empty
_PRAGMAS: Final = (
    "synchronous=NORMAL",
    "foreign_keys=ON",
    "cache_size=-8000",
    "wal_autocheckpoint=8000",  # 64 MB: what several pages of products change is written to the file once
)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the "begin" listener below begins, not the driver
    connection.create_function("lower", 1, _lower, deterministic=True)
    connection.execute(f"PRAGMA page_size={PAGE_BYTES}")  # of a file that is new: before it has anything
    _enter_wal(connection)
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


@tenacity.retry(
    retry=tenacity.retry_if_exception_message(match=".*locked"),
    wait=tenacity.wait_random(0, 0.1),
    stop=tenacity.stop_after_delay(BUSY_TIMEOUT_S),
    reraise=True,
)
def _enter_wal(connection: Any) -> None:
    """Switch a new file to WAL; where two processes do so at once, SQLite's own time-out does not wait."""
    connection.execute("PRAGMA journal_mode=WAL")


def _lower(text: str | None) -> str | None:
    """SQLite's own `lower` knows the letters of ASCII only."""
    return None if text is None else text.lower()


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    """Read times back in UTC: in another zone, the first and the last year have hours that Python lacks."""
    connection.execute("SET TIME ZONE 'UTC'")
    connection.commit()


def _prepare_postgresql_writer(connection: Any, _record: Any) -> None:
    """Let the server end a transaction whose client is idle, or is gone in the middle of a COPY; and lz4."""
    kept = {
        "idle_in_transaction_session_timeout": f"{ABANDONED_S}s",
        "tcp_keepalives_idle": f"{ABANDONED_S // 2}s",
        "tcp_keepalives_interval": f"{ABANDONED_S // 4}s",
        "tcp_keepalives_count": "2",
        "tcp_user_timeout": f"{ABANDONED_S}s",
    }
    connection.execute("SELECT " + ", ".join(f"set_config('{it}', '{kept[it]}', false)" for it in kept))
    connection.execute(_COMPRESS_FAST)
    connection.commit()


# Documents: pglz, which PostgreSQL up to 18 takes unless it is told otherwise, is half of what it takes to
# insert a row of `products`.
_COMPRESS_FAST: Final = """
    SELECT set_config('default_toast_compression', 'lz4', false) FROM pg_settings
    WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)
"""


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("sync_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def in_transaction(
    engine: sa.Engine, work: Callable[[sa.Connection], T], *, stop: Event | None = None, keep: bool = True
) -> T:
    """Run `work` in one write transaction, again while the database is locked or restarting.

    work    may run more than once, each time on a clean transaction, so it must not keep state
    stop    ends the waiting between two attempts
    keep    False rolls back at the end: what a dry run does

    Raises DatabaseUnavailable once RETRY_TIME_S is spent or the error will not pass by itself
    (disk full, no permission); Interrupted when `stop` is set while waiting.
    """
    return _patiently(lambda: _transact(engine, work, keep), stop or Event())


def _patiently(once: Callable[[], T], stop: Event) -> T:
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda e: isinstance(e, sa.exc.DBAPIError) and is_transient(e)),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=5),
        stop=tenacity.stop_after_delay(RETRY_TIME_S) | tenacity.stop_when_event_set(stop),
        sleep=tenacity.sleep_using_event(stop),
        reraise=True,
    )
    try:
        return attempts(once)
    except sa.exc.SQLAlchemyError as error:
        if stop.is_set():
            raise Interrupted("stopped while waiting for the database") from error
        raise unavailable(error) from error


def _transact(engine: sa.Engine, work: Callable[[sa.Connection], T], keep: bool) -> T:
    with engine.execution_options(**_WRITE).connect() as connection:
        result = work(connection)
        if keep:
            _commit(connection)
        return result  # closing the connection rolls back what was not committed


def _commit(connection: sa.Connection) -> None:
    """Commit; a connection that cannot is thrown away.

    SQLite may keep a transaction open whose COMMIT failed, and SQLAlchemy 2 takes it for ended: back in
    the pool, that connection would hold the write lock for good.
    """
    try:
        connection.commit()
    except BaseException:
        connection.invalidate()
        raise


def reading(engine: sa.Engine, work: Callable[[sa.Connection], T], *, stop: Event | None = None) -> T:
    """Run `work` in one read transaction.

    stop    wait for a database that is restarting, as `in_transaction` does; None: do not wait

    Raises DatabaseUnavailable, and Interrupted when `stop` is set while waiting.
    """

    def once() -> T:
        with engine.connect() as connection:
            return work(connection)

    if stop is not None:
        return _patiently(once, stop)
    try:
        return _WITH_A_FRESH_CONNECTION(once)
    except sa.exc.SQLAlchemyError as error:
        raise unavailable(error) from error


def _is_stale(error: BaseException) -> bool:
    """Whether a connection kept from earlier had ended; SQLAlchemy then drops all opened before."""
    return isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated


# Cheaper than to ask each connection whether it still lives before it is used: a round trip per transaction.
_WITH_A_FRESH_CONNECTION = tenacity.Retrying(
    retry=tenacity.retry_if_exception(_is_stale), stop=tenacity.stop_after_attempt(2), reraise=True
)


def unavailable(error: sa.exc.SQLAlchemyError) -> DatabaseUnavailable:
    """The driver's own words, without the statement and its values."""
    cause = getattr(error, "orig", None) or error
    return DatabaseUnavailable(f"the database cannot do this: {foreign(cause)}")


# --- migrations ------------------------------------------------------------------------------


def migrations_path() -> Path:
    """`migrations/` of the checkout, or the copy that an installed wheel carries."""
    package = Path(__file__).resolve().parent.parent
    shipped = package / "_migrations"
    return shipped if shipped.is_dir() else package.parent / "migrations"


def alembic_config(connection: sa.Connection | None = None) -> Config:
    from alembic.config import Config  # a fifth of a second, and needed once in a database's life

    config = Config()
    config.set_main_option("script_location", str(migrations_path()))
    config.attributes["connection"] = connection
    return config


def revisions() -> list[str]:
    """Every revision this program knows, oldest first: what the files of `migrations/versions` begin with."""
    return sorted(path.name.partition("_")[0] for path in migrations_path().glob("versions/[0-9]*.py"))


def newest_revision() -> str:
    return revisions()[-1]


def current_revision(engine: sa.Engine) -> str | None:
    """The revision the database is at; None for an empty one."""
    return reading(engine, _revision)


def _revision(connection: sa.Connection) -> str | None:
    schema = own_schema(connection)
    if not sa.inspect(connection).has_table("alembic_version", schema=schema):
        return None
    version = sa.table("alembic_version", sa.column("version_num", sa.String), schema=schema)
    return connection.execute(sa.select(version.c.version_num)).scalar_one_or_none()


def upgrade(engine: sa.Engine) -> None:
    """Bring an empty or older database to the newest schema. Raises SchemaTooNew, DatabaseUnavailable."""
    revision = current_revision(engine)
    if revision == newest_revision():
        return
    if revision is not None and revision not in revisions():
        raise SchemaTooNew(f"the database is at revision {revision}, which this product-sync does not know.")
    in_transaction(engine, _upgrade)


def _upgrade(connection: sa.Connection) -> None:
    from alembic import command

    with schema_lock(connection):
        make_schema(connection)
        with _ALEMBIC:
            command.upgrade(alembic_config(connection), "head")


_ALEMBIC = Lock()  # its migrations speak to whatever connection was made known last, in this process
