"""Write the comments of `schema.py` into the database: PostgreSQL and MariaDB keep them with the tables.

It runs after the migrations, and writes what differs. No row is touched.
"""

from __future__ import annotations

import re

import sqlalchemy as sa
from sqlalchemy.schema import SetColumnComment, SetTableComment

from sync.db.dialects import own_schema
from sync.db.schema import metadata


def write(connection: sa.Connection) -> None:
    """Describe each table that is there; SQLite has no comments."""
    if connection.dialect.name == "sqlite":
        return
    inspector = sa.inspect(connection)
    schema = own_schema(connection)
    there = set(inspector.get_table_names(schema))
    for table in metadata.sorted_tables:
        if table.name not in there:
            continue
        found = {it["name"]: it.get("comment") for it in inspector.get_columns(table.name, schema)}
        columns = [it for it in table.columns if it.name in found and found[it.name] != it.comment]
        same = inspector.get_table_comment(table.name, schema)["text"] == table.comment
        if columns or not same:
            _describe(connection, table, columns)


def _describe(connection: sa.Connection, table: sa.Table, columns: list[sa.Column[object]]) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(SetTableComment(table))
        for column in columns:
            connection.execute(SetColumnComment(column))
        return
    lines = _definitions(connection, table)
    changes = [f"MODIFY COLUMN {lines[it.name]} COMMENT {_quoted(it.comment)}" for it in columns]
    statement = ", ".join([*changes, f"COMMENT = {_quoted(table.comment)}"])
    connection.exec_driver_sql(f"ALTER TABLE `{table.name}` {statement}".replace("%", "%%"))


def _definitions(connection: sa.Connection, table: sa.Table) -> dict[str, str]:
    """Each column as MariaDB defines it, without its comment: a change of the comment repeats the rest."""
    made = connection.exec_driver_sql(f"SHOW CREATE TABLE `{table.name}`").one()[1]
    lines = re.findall(r"^  (`([^`]+)` .*?)(?: COMMENT '(?:[^']|'')*')?,?$", made, re.MULTILINE)
    return {name: line for line, name in lines}


def _quoted(comment: str | None) -> str:
    return "'" + (comment or "").replace("'", "''") + "'"
