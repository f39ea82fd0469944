"""Declare amounts as REAL in SQLite, since a NUMERIC column returns 10.00 as the integer 10.

Polars takes a column's type from its first rows, and read 10.50 as 10. Only the declared types change, in the
stored schema: rows have the same bytes on disk under both, so none is rewritten. An SQLite that protects its
schema keeps NUMERIC. PostgreSQL and MariaDB: nothing to do.

Lock   an instant.
Order  any.
Back   declares NUMERIC again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

TABLES = ("products", "product_tier_prices", "product_links", "product_prices", "source_items")
EXACT, REAL = "NUMERIC(20, 6)", "REAL"
RENAME = sa.text(
    "UPDATE sqlite_master SET sql = replace(sql, :old, :new) WHERE type = 'table' AND name IN :tables"
).bindparams(sa.bindparam("tables", TABLES, expanding=True))


def upgrade() -> None:
    declare(EXACT, REAL)


def downgrade() -> None:
    declare(REAL, EXACT)


def declare(old: str, new: str) -> None:
    """Replace a declared type in `TABLES`. Every connection sees it, since the schema's version moves."""
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        return
    connection.exec_driver_sql("PRAGMA writable_schema=ON")
    if connection.exec_driver_sql("PRAGMA writable_schema").scalar_one():
        connection.execute(RENAME, {"old": f" {old}", "new": f" {new}"})
        version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
        connection.exec_driver_sql(f"PRAGMA schema_version={version + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema=OFF")
