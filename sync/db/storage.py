"""The database that holds the copy: its kind, its place without user or password, its size."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from sync.db.dialects import own_schema

_SIZES = {
    "sqlite": "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
    "postgresql": "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class AS c"
    " JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND n.nspname = :schema",
    "mysql": "SELECT sum(data_length + index_length) FROM information_schema.tables"
    " WHERE table_schema = database()",
}


class Storage(NamedTuple):
    """A database.

    place    a file, or host:port/database; in PostgreSQL with the schema
    size     bytes of tables and indexes, as far as the server has counted them
    """

    kind: str
    place: str
    size: int


def storage(connection: sa.Connection) -> Storage:
    """The database of this connection. Its cost grows with the number of tables, not of products."""
    schema = own_schema(connection)
    statement = sa.text(_SIZES[connection.dialect.name])
    size = connection.execute(statement, {"schema": schema} if schema else {}).scalar_one()
    return Storage(_kind(connection.dialect), _place(connection.engine.url, schema), int(size or 0))


def _kind(dialect: sa.Dialect) -> str:
    if dialect.name == "mysql":
        return "MariaDB" if getattr(dialect, "is_mariadb", False) else "MySQL"
    return {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[dialect.name]


def _place(url: sa.URL, schema: str | None) -> str:
    if url.get_backend_name() == "sqlite":
        return url.database or "memory"
    host = "local socket" if url.host is None else url.host if url.port is None else f"{url.host}:{url.port}"
    return f"{host}/{url.database or ''}" + (f", schema {schema}" if schema else "")
