"""Create the copy: products, their child tables, the change feed, rejected items.

Lock   creates only; waits for nothing.
Order  first.
Back   keeps the tables: a downgrade never deletes a merchant's data, and the next upgrade finds them.
       To remove them, drop them by hand.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None

BigKey = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # INTEGER PRIMARY KEY is SQLite's rowid
Json = sa.JSON().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
LongText = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
Money = sa.Numeric(20, 6)
UtcDateTime = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
# Byte-wise and without padding, so that `abc`, `ABC` and `abc ` are three SKUs in MariaDB too.
SERVER_OPTIONS = {"charset": "utf8mb4", "collate": "utf8mb4_nopad_bin", "engine": "InnoDB"}
TABLE_OPTIONS: dict[str, Any] = {
    f"{server}_{name}": value for server in ("mysql", "mariadb") for name, value in SERVER_OPTIONS.items()
}


def create_table(name: str, *columns: Any, **options: Any) -> None:
    op.create_table(name, *columns, **TABLE_OPTIONS, **options, if_not_exists=True)


def full_name(view: str) -> str:
    """A view's name with its schema: without it, DROP would find a view further down the search path."""
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return view
    schema = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
    return f'"{schema}".{view}'


def upgrade() -> None:
    create_table(
        "products",
        sa.Column("store_view", sa.String(length=64), nullable=False),
        sa.Column("product_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("sku", sa.String(length=255), nullable=False),
        sa.Column("name", LongText),
        sa.Column("type_id", sa.String(length=255)),
        sa.Column("attribute_set_id", sa.BigInteger(), autoincrement=False),
        sa.Column("status", sa.BigInteger(), autoincrement=False),
        sa.Column("visibility", sa.BigInteger(), autoincrement=False),
        sa.Column("price", Money),
        sa.Column("weight", Money),
        sa.Column("created_at", UtcDateTime),
        sa.Column("updated_at", UtcDateTime),
        sa.Column("content_hash", sa.String(length=32), nullable=False),
        sa.Column("first_seen_at", UtcDateTime, nullable=False),
        sa.Column("changed_at", UtcDateTime, nullable=False),
        sa.Column("deleted_at", UtcDateTime),
        sa.Column("run_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("document", LongText, nullable=False),
        sa.PrimaryKeyConstraint("store_view", "product_id", name="pk_products"),
    )
    op.create_index("ix_products_sku", "products", ["sku"], if_not_exists=True)
    create_table(
        "product_attributes",
        sa.Column("store_view", sa.String(length=64), nullable=False),
        sa.Column("product_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("attribute_code", sa.String(length=255), nullable=False),
        sa.Column("value", LongText),
        sa.PrimaryKeyConstraint("store_view", "product_id", "attribute_code", name="pk_product_attributes"),
        sqlite_with_rowid=False,
    )
    create_table(
        "product_categories",
        sa.Column("store_view", sa.String(length=64), nullable=False),
        sa.Column("product_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("category_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False),
        sa.PrimaryKeyConstraint("store_view", "product_id", "category_id", name="pk_product_categories"),
        sqlite_with_rowid=False,
    )
    create_table(
        "product_websites",
        sa.Column("store_view", sa.String(length=64), nullable=False),
        sa.Column("product_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("website_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("store_view", "product_id", "website_id", name="pk_product_websites"),
        sqlite_with_rowid=False,
    )
    create_table(
        "product_media",
        sa.Column("store_view", sa.String(length=64), nullable=False),
        sa.Column("product_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("entry_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("media_type", sa.String(length=255)),
        sa.Column("label", LongText),
        sa.Column("position", sa.BigInteger(), autoincrement=False),
        sa.Column("disabled", sa.Boolean()),
        sa.Column("types", Json),
        sa.Column("file", LongText),
        sa.PrimaryKeyConstraint("store_view", "product_id", "entry_id", name="pk_product_media"),
        sqlite_with_rowid=False,
    )
    create_table(
        "product_tier_prices",
        sa.Column("store_view", sa.String(length=64), nullable=False),
        sa.Column("product_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("ordinal", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("customer_group_id", sa.BigInteger(), autoincrement=False),
        sa.Column("qty", Money),
        sa.Column("value", Money),
        sa.Column("percentage_value", Money),
        sa.Column("website_id", sa.BigInteger(), autoincrement=False),
        sa.PrimaryKeyConstraint("store_view", "product_id", "ordinal", name="pk_product_tier_prices"),
        sqlite_with_rowid=False,
    )
    create_table(
        "product_links",
        sa.Column("store_view", sa.String(length=64), nullable=False),
        sa.Column("product_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("link_type", sa.String(length=64), nullable=False),
        sa.Column("linked_product_sku", sa.String(length=255), nullable=False),
        sa.Column("linked_product_type", sa.String(length=255)),
        sa.Column("position", sa.BigInteger(), autoincrement=False),
        sa.Column("qty", Money),
        sa.PrimaryKeyConstraint(
            "store_view", "product_id", "link_type", "linked_product_sku", name="pk_product_links"
        ),
        sqlite_with_rowid=False,
    )
    create_table(
        "product_variants",
        sa.Column("store_view", sa.String(length=64), nullable=False),
        sa.Column("product_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("child_product_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("store_view", "product_id", "child_product_id", name="pk_product_variants"),
        sqlite_with_rowid=False,
    )
    create_table(
        "product_changes",
        sa.Column("change_id", BigKey, nullable=False, autoincrement=False),
        sa.Column("store_view", sa.String(length=64), nullable=False),
        sa.Column("product_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("sku", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("changed_at", UtcDateTime, nullable=False),
        sa.Column("fields", Json),
        sa.Column("run_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("change_id", name="pk_product_changes"),
    )
    op.create_index(
        "ix_product_changes_store_view_product_id",
        "product_changes",
        ["store_view", "product_id"],
        if_not_exists=True,
    )
    create_table(
        "rejected_items",
        sa.Column("rejected_id", BigKey, autoincrement=True, nullable=False),
        sa.Column("store_view", sa.String(length=64), nullable=False),
        sa.Column("product_id", sa.BigInteger(), autoincrement=False),
        sa.Column("first_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("last_id", sa.BigInteger(), autoincrement=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("reason", LongText, nullable=False),
        sa.Column("payload", LongText),
        sa.Column("first_seen_at", UtcDateTime, nullable=False),
        sa.Column("last_seen_at", UtcDateTime, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("resolved_at", UtcDateTime),
        sa.Column("run_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("rejected_id", name="pk_rejected_items"),
    )
    op.create_index(
        "ix_rejected_items_store_view_product_id",
        "rejected_items",
        ["store_view", "product_id"],
        if_not_exists=True,
    )
    view = full_name("products_current")
    op.execute(f"DROP VIEW IF EXISTS {view}")
    op.execute(f"CREATE VIEW {view} AS SELECT * FROM products WHERE deleted_at IS NULL")


def downgrade() -> None:
    """Keep the tables; the next upgrade finds them."""
