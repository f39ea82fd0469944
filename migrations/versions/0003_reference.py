"""Create reference data, the price and stock tables, and an index of the tombstones.

Lock   creates only; indexing a million products takes SQLite 0.3 s, MariaDB a few seconds.
Order  any, after 0002.
Back   keeps the tables, as 0001 does.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0003"
down_revision = "0002"

BigKey = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Json = sa.JSON().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
LongText = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
Money = sa.Numeric(20, 6)
UtcDateTime = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
SERVER_OPTIONS = {"charset": "utf8mb4", "collate": "utf8mb4_nopad_bin", "engine": "InnoDB"}
TABLE_OPTIONS: dict[str, Any] = {
    f"{server}_{name}": value for server in ("mysql", "mariadb") for name, value in SERVER_OPTIONS.items()
}


def create_table(name: str, *columns: Any) -> None:
    op.create_table(name, *columns, **TABLE_OPTIONS, if_not_exists=True)


def number(name: str, *, nullable: bool = True) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger(), nullable=nullable, autoincrement=False)


def upgrade() -> None:
    tombstoned = sa.text("deleted_at IS NOT NULL")
    op.create_index(
        "ix_products_tombstones",
        "products",
        ["store_view", "product_id", "deleted_at"],
        if_not_exists=True,
        sqlite_where=tombstoned,
        postgresql_where=tombstoned,
    )
    create_table(
        "attributes",
        sa.Column("attribute_code", sa.String(length=255), nullable=False),
        number("attribute_id"),
        sa.Column("frontend_input", sa.String(length=64)),
        sa.Column("backend_type", sa.String(length=64)),
        sa.Column("scope", sa.String(length=16)),
        sa.Column("label", LongText),
        sa.Column("is_required", sa.Boolean()),
        sa.Column("document", LongText, nullable=False),
        sa.PrimaryKeyConstraint("attribute_code", name="pk_attributes"),
    )
    create_table(
        "attribute_options",
        sa.Column("store_view", sa.String(length=64), nullable=False),
        sa.Column("attribute_code", sa.String(length=255), nullable=False),
        sa.Column("option_value", sa.String(length=255), nullable=False),
        sa.Column("label", LongText),
        number("sort_order"),
        sa.PrimaryKeyConstraint("store_view", "attribute_code", "option_value", name="pk_attribute_options"),
    )
    create_table(
        "attribute_sets",
        number("attribute_set_id", nullable=False),
        sa.Column("name", LongText),
        number("sort_order"),
        sa.PrimaryKeyConstraint("attribute_set_id", name="pk_attribute_sets"),
    )
    create_table(
        "categories",
        sa.Column("store_view", sa.String(length=64), nullable=False),
        number("category_id", nullable=False),
        number("parent_id"),
        sa.Column("name", LongText),
        sa.Column("path", LongText),
        sa.Column("path_ids", LongText),
        number("level"),
        number("position"),
        sa.Column("is_active", sa.Boolean()),
        sa.Column("document", LongText, nullable=False),
        sa.PrimaryKeyConstraint("store_view", "category_id", name="pk_categories"),
    )
    _create_stores()
    create_table(
        "reference_changes",
        sa.Column("change_id", BigKey, autoincrement=True, nullable=False),
        sa.Column("table_name", sa.String(length=64), nullable=False),
        sa.Column("row_key", Json, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("changed_at", UtcDateTime, nullable=False),
        sa.Column("fields", Json),
        number("run_id", nullable=False),
        sa.PrimaryKeyConstraint("change_id", name="pk_reference_changes"),
    )
    op.create_index(
        "ix_reference_changes_table_name_change_id",
        "reference_changes",
        ["table_name", "change_id"],
        if_not_exists=True,
    )
    _create_feeds()


def _create_stores() -> None:
    create_table(
        "websites",
        number("website_id", nullable=False),
        sa.Column("code", sa.String(length=255)),
        sa.Column("name", LongText),
        number("default_group_id"),
        sa.PrimaryKeyConstraint("website_id", name="pk_websites"),
    )
    create_table(
        "store_groups",
        number("store_group_id", nullable=False),
        sa.Column("code", sa.String(length=255)),
        sa.Column("name", LongText),
        number("website_id"),
        number("root_category_id"),
        number("default_store_id"),
        sa.PrimaryKeyConstraint("store_group_id", name="pk_store_groups"),
    )
    create_table(
        "store_views",
        number("store_view_id", nullable=False),
        sa.Column("code", sa.String(length=64)),
        sa.Column("name", LongText),
        number("website_id"),
        number("store_group_id"),
        sa.Column("is_active", sa.Boolean()),
        sa.PrimaryKeyConstraint("store_view_id", name="pk_store_views"),
    )


def _create_feeds() -> None:
    create_table(
        "product_prices",
        number("product_id", nullable=False),
        sa.Column("price_kind", sa.String(length=16), nullable=False),
        number("scope_id", nullable=False),
        sa.Column("starts_at", UtcDateTime, nullable=False),
        sa.Column("price", Money),
        sa.Column("ends_at", UtcDateTime),
        sa.Column("changed_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint(
            "product_id", "price_kind", "scope_id", "starts_at", name="pk_product_prices"
        ),
    )
    create_table(
        "source_items",
        sa.Column("source_code", sa.String(length=255), nullable=False),
        sa.Column("sku", sa.String(length=255), nullable=False),
        sa.Column("quantity", Money),
        number("status"),
        sa.Column("changed_at", UtcDateTime, nullable=False),
        sa.Column("deleted_at", UtcDateTime),
        sa.PrimaryKeyConstraint("source_code", "sku", name="pk_source_items"),
    )
    op.create_index("ix_source_items_sku", "source_items", ["sku"], if_not_exists=True)


def downgrade() -> None:
    """Keep the tables; the next upgrade finds them."""
