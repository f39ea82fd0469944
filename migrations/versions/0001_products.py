"""The copy itself: products, their children, the change feed, what was rejected.

Lock   creates only; nothing to wait for.
Order  first.
Back   keeps the tables: a downgrade never deletes a merchant's data. Going up again finds them
       and goes on; whoever wants them gone drops them by hand.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from sync.db.dialects import TABLE_OPTIONS, BigKey, Json, LongText, Money, UtcDateTime, own_schema
from sync.errors import SettingsError

revision = "0001"
down_revision = None


def create_table(name: str, *columns: Any, **options: Any) -> None:
    op.create_table(name, *columns, **TABLE_OPTIONS, **options, if_not_exists=True)


def refuse_foreign_table() -> None:
    """Stop before somebody else's `products` is taken for ours: ours has a `content_hash`."""
    inspector = sa.inspect(op.get_bind())
    if inspector.has_table("products") and "content_hash" not in {
        c["name"] for c in inspector.get_columns("products")
    }:
        raise SettingsError(
            "DATABASE_URL: this database has a table `products` of another program; "
            "example: DATABASE_URL=sqlite:///catalogue.db"
        )


def upgrade() -> None:
    refuse_foreign_table()
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
        sa.Column("price", Money()),
        sa.Column("weight", Money()),
        sa.Column("created_at", UtcDateTime()),
        sa.Column("updated_at", UtcDateTime()),
        sa.Column("content_hash", sa.String(length=32), nullable=False),
        sa.Column("first_seen_at", UtcDateTime(), nullable=False),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.Column("deleted_at", UtcDateTime()),
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
        sa.Column("qty", Money()),
        sa.Column("value", Money()),
        sa.Column("percentage_value", Money()),
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
        sa.Column("qty", Money()),
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
        sa.Column("changed_at", UtcDateTime(), nullable=False),
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
        sa.Column("first_seen_at", UtcDateTime(), nullable=False),
        sa.Column("last_seen_at", UtcDateTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("resolved_at", UtcDateTime()),
        sa.Column("run_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("rejected_id", name="pk_rejected_items"),
    )
    op.create_index(
        "ix_rejected_items_store_view_product_id",
        "rejected_items",
        ["store_view", "product_id"],
        if_not_exists=True,
    )
    view = "products_current"
    if schema := own_schema(op.get_bind()):
        view = f'"{schema}".{view}'
    op.execute(f"DROP VIEW IF EXISTS {view}")
    op.execute(f"CREATE VIEW {view} AS SELECT * FROM products WHERE deleted_at IS NULL")


def downgrade() -> None:
    """Keep everything: see the top of this file."""
