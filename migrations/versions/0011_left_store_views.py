"""Create the list of store views, and exclude those that left it from the views of current products.

Lock   CREATE TABLE, and views replaced in place: waits for nothing.
Order  after 0004, whose views it replaces. An empty table hides nothing.
Back   restores the views and drops the table; the next pass fills it again.
"""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0011"
down_revision = "0010"

UtcDateTime = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
SERVER_OPTIONS = {"charset": "utf8mb4", "collate": "utf8mb4_nopad_bin", "engine": "InnoDB"}
TABLE_OPTIONS: dict[str, Any] = {
    f"{server}_{name}": value for server in ("mysql", "mariadb") for name, value in SERVER_OPTIONS.items()
}

CURRENT = "SELECT * FROM products WHERE deleted_at IS NULL"
LEFT = "(SELECT store_view FROM sync_store_views WHERE left_at IS NOT NULL)"


def before() -> ModuleType:
    """Revision 0004, which created the views."""
    spec = spec_from_file_location("views_0004", Path(__file__).with_name("0004_views.py"))
    assert spec is not None  # noqa: S101 - the file lies beside this one
    assert spec.loader is not None  # noqa: S101
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def selects() -> dict[str, str]:
    """Each view's definition before this revision."""
    dialect = op.get_bind().dialect.name
    dialect = "mysql" if dialect == "mariadb" else dialect
    views = before()
    return {
        "products_current": CURRENT,
        "product_attribute_labels": views.labels(dialect),
        "product_overrides": views.overrides(dialect),
    }


def without_left(name: str, select: str) -> str:
    """The same definition without store views that left."""
    if name == "products_current":
        return f"{select} AND store_view NOT IN {LEFT}"
    if name == "product_attribute_labels":
        return f"{select} WHERE pa.store_view NOT IN {LEFT}"
    live = str(before().LIVE)
    return select.replace(live, f"{live} AND v.store_view NOT IN {LEFT}")


def replace_view(name: str, select: str) -> None:
    """Give a view another definition with the same columns; views that others built on it stay."""
    full = before().full_name(name)
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"DROP VIEW IF EXISTS {full}")
        op.execute(f"CREATE VIEW {full} AS {select}")
    else:
        op.execute(f"CREATE OR REPLACE VIEW {full} AS {select}")


def upgrade() -> None:
    op.create_table(
        "sync_store_views",
        sa.Column("store_view", sa.String(length=64), nullable=False),
        sa.Column("left_at", UtcDateTime),
        sa.Column("reason", sa.String(length=16)),
        sa.PrimaryKeyConstraint("store_view", name="pk_sync_store_views"),
        **TABLE_OPTIONS,
        if_not_exists=True,
    )
    for name, select in selects().items():
        replace_view(name, without_left(name, select))


def downgrade() -> None:
    for name, select in selects().items():
        replace_view(name, select)
    op.drop_table("sync_store_views", if_exists=True)
