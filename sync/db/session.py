"""Our own session on each server, whatever a role, a database, a server or the environment sets for others.

Before PostgreSQL there may be a pooler that gives the same session to another client with the next
transaction (PgBouncer, pool_mode = transaction). So nothing is set for longer than a transaction, no
statement is prepared on the server, and temporary tables go with the commit. BEGIN and the settings are
one round trip.

SQLite runs in WAL with foreign keys on, waits for a busy writer, and takes the write lock when
a transaction begins: a read that turns into a write half-way cannot be made to wait.

Execution options: `sync_write` of a transaction that writes, `sync_snapshot` of one that sees one moment,
`sync_first` the statement that it begins with.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa
import tenacity

from sync.db.refusals import ensure_folder, is_there
from sync.errors import DatabaseUnavailable, SettingsError
from sync.settings.parsers import split_search_path

ABANDONED_S = 20  # between two statements of a page's transaction; mapping 64 MB of products takes a few
BUSY_TIMEOUT_S = 30
_SQLITE_OPTIONS = {"timeout", "isolation_level", "detect_types", "check_same_thread", "cached_statements"}


def engine(url: sa.URL, pool: type[sa.Pool] | None) -> sa.Engine:
    """An engine whose transactions run in a session of our own.

    Raises ArgumentError, TypeError or ValueError for a URL or an option that cannot be used; when it
    connects SettingsError for a database that cannot hold the texts.
    """
    options: dict[str, Any] = {"hide_parameters": True, "poolclass": pool}
    backend = url.get_backend_name()
    if backend == "sqlite":
        return _sqlite(url, options)
    return _mariadb(url, options) if backend in ("mysql", "mariadb") else _postgresql(url, options)


# --- PostgreSQL ------------------------------------------------------------------------------

# libpq's own time-outs: it would wait for a connection as long as TCP does, minutes (PyMySQL: 10 s), and
# notice that a server's machine is gone when the kernel gives up.
LIBPQ: Final = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}
# What the text form of a value depends on; that the server notices when our machine is gone, also in the
# middle of a COPY; and that nobody else's time limit ends our work.
_POSTGRESQL: Final = {
    "TimeZone": "UTC",  # in another zone, the first and the last year have hours that Python lacks
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "tcp_keepalives_idle": f"{ABANDONED_S // 2}s",
    "tcp_keepalives_interval": f"{ABANDONED_S // 4}s",
    "tcp_keepalives_count": "2",
    "tcp_user_timeout": f"{ABANDONED_S}s",
}
# No transaction that writes is idle for long: the server ends one whose machine is gone, for it would keep
# its locks, and everybody who is to take over, for as long as the network takes to notice.
_POSTGRESQL_WRITE: Final = {"idle_in_transaction_session_timeout": f"{ABANDONED_S}s"}
# Documents: pglz, which PostgreSQL up to 18 takes unless it is told otherwise, is half of what it takes to
# insert a row of `products`.
_LZ4: Final = """
    SELECT count(*) FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)
"""


def _postgresql(url: sa.URL, options: dict[str, Any]) -> sa.Engine:
    given = url.query.get("options", "")
    path, rest = split_search_path(given if isinstance(given, str) else " ".join(given))
    url = url.difference_update_query(["options"])
    if rest:
        url = url.update_query_dict({"options": rest})
    # Another client's table of the same name is temporary in a session that is shared: looked for last.
    ours = _POSTGRESQL | {"search_path": f"{path or 'public'}, pg_temp"}
    options["connect_args"] = {name: value for name, value in LIBPQ.items() if name not in url.query} | {
        "autocommit": True,  # `begin` below begins, not the driver
        "client_encoding": "utf8",
        "prepare_threshold": None,
    }
    made = sa.create_engine(url, **options, use_native_hstore=False)  # nor does it look for one

    def prepare(connection: Any, record: Any) -> None:
        _refuse_other_encodings(connection)
        known = dict(ours)
        if connection.info.server_version >= 170_000:
            known["transaction_timeout"] = "0"
        writes = known | _POSTGRESQL_WRITE
        if connection.execute(_LZ4).fetchone()[0]:
            writes["default_toast_compression"] = "lz4"
        record.info["read"], record.info["write"] = _set_local(known), _set_local(writes)

    def begin(connection: sa.Connection) -> None:
        asked = connection.get_execution_options()
        writes = asked.get("sync_write", False)
        level = "REPEATABLE READ" if asked.get("sync_snapshot") else "READ COMMITTED"
        mode = ", READ WRITE" if writes else ""  # a reader may be a standby's
        settings = connection.info["write" if writes else "read"]
        first = asked.get("sync_first", "")
        statement = f"BEGIN ISOLATION LEVEL {level}{mode}; {settings}; {first}"
        connection.exec_driver_sql(statement, execution_options=_NO_SERVER_CURSOR)

    sa.event.listen(made, "connect", prepare)
    sa.event.listen(made, "begin", begin)
    return made


# Not for the statement that follows, which may read its rows through one.
_NO_SERVER_CURSOR: Final = {"stream_results": False, "yield_per": None}


def _set_local(settings: Mapping[str, str]) -> str:
    """A statement that sets them until the transaction ends."""
    pairs = ((name, value.replace("'", "''").replace("%", "%%")) for name, value in settings.items())
    return "SELECT " + ", ".join(f"set_config('{name}', '{value}', true)" for name, value in pairs)


def _refuse_other_encodings(connection: Any) -> None:
    """The server tells its encoding with each connection."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding == "UTF8":
        return
    name = connection.info.dbname
    connection.close()
    raise SettingsError(
        f"DATABASE_URL: the database {name} has the encoding {encoding}, which cannot hold every text.",
        f"make another one: CREATE DATABASE {name}_utf8 ENCODING 'UTF8' TEMPLATE template0;",
    )


# --- MariaDB ---------------------------------------------------------------------------------

# Without STRICT a text that is too long would be cut in silence, without NO_BACKSLASH_ESCAPES every quote of
# a JSON document would be sent as two bytes. A comment that begins with /*M! is read by MariaDB alone, one
# that begins with /*!80000 by MySQL alone.
_MARIADB: Final = """
    SET time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES,NO_ENGINE_SUBSTITUTION',
        character_set_results = utf8mb4, sql_safe_updates = 0, sql_select_limit = DEFAULT,
        foreign_key_checks = 1, unique_checks = 1, sql_auto_is_null = 0, group_concat_max_len = 1073741824
        /*M! , max_statement_time = 0 */ /*!80000 , max_execution_time = 0 */
"""


def _mariadb(url: sa.URL, options: dict[str, Any]) -> sa.Engine:
    """An engine; the session is the connection's, for MariaDB has no pooler that shares one."""
    options["connect_args"] = {
        "charset": "utf8mb4",
        "collation": "utf8mb4_general_ci",  # of literals; a column's own goes first
        "init_command": " ".join(_MARIADB.split()),
        "autocommit": False,
        "sql_mode": None,
    }
    made = sa.create_engine(url, **options)

    def prepare(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE")

    def begin(connection: sa.Connection) -> None:
        asked = connection.get_execution_options()
        if asked.get("sync_snapshot"):
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        if "sync_first" in asked:
            connection.exec_driver_sql(asked["sync_first"])

    sa.event.listen(made, "connect", prepare)
    sa.event.listen(made, "begin", begin)
    return made


# --- SQLite ----------------------------------------------------------------------------------


def _sqlite(url: sa.URL, options: dict[str, Any]) -> sa.Engine:
    unknown = url.query.keys() - _SQLITE_OPTIONS
    if unknown and "uri" not in url.query:
        raise ValueError(f"SQLite knows no {', '.join(sorted(unknown))}")
    made = sa.create_engine(url, **options, connect_args={"timeout": BUSY_TIMEOUT_S})
    sa.event.listen(made, "do_connect", _open_sqlite)
    sa.event.listen(made, "connect", _prepare_sqlite)
    sa.event.listen(made, "begin", _begin_sqlite)
    return made


def in_memory() -> sa.Engine:
    """An engine on an empty SQLite database that is gone with the process."""
    made = sa.create_engine("sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False})
    sa.event.listen(made, "connect", _prepare_sqlite)
    sa.event.listen(made, "begin", _begin_sqlite)
    return made


def _open_sqlite(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
    """Open a file for reading that we may not write, it or its folder; leave all others to the caller.

    A new one is made readable for its owner alone; SQLite gives the files next to it the same mode.
    """
    path = str(arguments[0] if arguments else options.get("database", ""))
    if path.startswith(("file:", ":")):
        return None
    with suppress(OSError):  # it is there, or SQLite will say why it cannot be made
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    file = Path(path)
    if not is_there(file):
        ensure_folder(file)
    if is_writable(file) or not is_there(file):
        return None
    record.info["read_only"] = True
    if not is_there(Path(f"{path}-shm")):
        _refuse_unmerged(file)
        record.info["unlocked"] = (file, _version(file))
    mode = "immutable=1" if "unlocked" in record.info else "mode=ro"
    return dialect.connect(f"file:{quote(path)}?{mode}", **options, uri=True)


def is_writable(file: Path) -> bool:
    """Whether we may write this SQLite file: it, and the files that SQLite makes next to it."""
    return os.access(file, os.W_OK) and os.access(file.absolute().parent, os.W_OK)


def _refuse_unmerged(file: Path) -> None:
    """Without its -shm, which we may not make, the changes in a -wal cannot be read."""
    wal = Path(f"{file}-wal")
    if is_there(wal) and wal.stat().st_size:
        raise DatabaseUnavailable(
            f"the newest changes of {file} are in {wal.name}; to read them, SQLite must write in that folder,"
            " and this user may not.",
            "let the owner of the file run `product-sync status` once, or allow this user to write there.",
        )


def _version(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_mtime_ns, found.st_size


def ensure_unchanged(connection: sa.Connection) -> None:
    """Raise DatabaseUnavailable when a file that was read without a lock was written meanwhile."""
    file, version = connection.info.get("unlocked", (None, None))
    if file is not None and _version(file) != version:
        raise DatabaseUnavailable(f"{file} was written while it was read.", "run the command again.")


PAGE_BYTES: Final = 8192  # three documents; into SQLite's own 4096 goes one, and the rest is empty
_PRAGMAS: Final = (
    "synchronous=NORMAL",
    "foreign_keys=ON",
    "cache_size=-8000",
    "wal_autocheckpoint=8000",  # 64 MB: what several pages of products change is written to the file once
)


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # the "begin" listener below begins, not the driver
    connection.create_function("lower", 1, _lower, deterministic=True)
    if not record.info.get("read_only"):
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


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("sync_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
