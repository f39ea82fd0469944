"""Every table. `migrations/` creates them; a test proves that both agree.

Options of a server (collation, engine, partial indexes, no rowid) are only in `migrations/`: here they would
load the drivers of every dialect, a twentieth of the time to start a pass.

Product tables are the contract with users; tables named `sync_` are the program's bookkeeping.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, Index, PrimaryKeyConstraint, Table

from sync.db.dialects import BigKey, Json, LongText, Money, UtcDateTime

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _store_view() -> Column[str]:
    return Column("store_view", sa.String(64), nullable=False)


def _id(name: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, sa.BigInteger, nullable=nullable, autoincrement=False)


def _time(name: str, *, nullable: bool = True) -> Column[Any]:
    return Column(name, UtcDateTime, nullable=nullable)


# `document` comes last: SQLite reads a row only up to the last selected column, and it is most of the row.
products = Table(
    "products",
    metadata,
    _store_view(),
    _id("product_id"),
    Column("sku", sa.String(255), nullable=False),
    Column("name", LongText),
    Column("type_id", sa.String(255)),
    _id("attribute_set_id", nullable=True),
    _id("status", nullable=True),
    _id("visibility", nullable=True),
    Column("price", Money),
    Column("weight", Money),
    _time("created_at"),
    _time("updated_at"),
    Column("content_hash", sa.String(32), nullable=False),
    _time("first_seen_at", nullable=False),
    _time("changed_at", nullable=False),
    _time("deleted_at"),
    _id("run_id"),
    Column("document", LongText, nullable=False),
    PrimaryKeyConstraint("store_view", "product_id"),
    Index(None, "sku", "store_view"),
)
TOMBSTONED = products.c.deleted_at.is_not(None)
# Partial where the server supports it. Live products are counted as all products minus the tombstones.
Index("ix_products_tombstones", products.c.store_view, products.c.product_id, products.c.deleted_at)


def _child(name: str, *columns: Column[Any], key: tuple[str, ...]) -> Table:
    """A table whose rows belong to one product and are deleted with it.

    There is no foreign key: PostgreSQL runs a trigger for every row of one, which made the first load
    2.3 times as long (286 against 124 µs a product). The page's transaction and reconcile keep it consistent.
    """
    return Table(
        name,
        metadata,
        _store_view(),
        _id("product_id"),
        *columns,
        PrimaryKeyConstraint("store_view", "product_id", *key),
    )


product_attributes = _child(
    "product_attributes",
    Column("attribute_code", sa.String(255), nullable=False),
    Column("value", LongText),
    key=("attribute_code",),
)
product_categories = _child(
    "product_categories", _id("category_id"), _id("position", nullable=True), key=("category_id",)
)
product_websites = _child("product_websites", _id("website_id"), key=("website_id",))
product_media = _child(
    "product_media",
    _id("entry_id"),
    Column("media_type", sa.String(255)),
    Column("label", LongText),
    _id("position", nullable=True),
    Column("disabled", sa.Boolean),
    Column("types", Json),
    Column("file", LongText),
    key=("entry_id",),
)
product_tier_prices = _child(
    "product_tier_prices",
    _id("ordinal"),
    _id("customer_group_id", nullable=True),
    Column("qty", Money),
    Column("value", Money),
    Column("percentage_value", Money),
    _id("website_id", nullable=True),
    key=("ordinal",),
)
product_links = _child(
    "product_links",
    Column("link_type", sa.String(64), nullable=False),
    Column("linked_product_sku", sa.String(255), nullable=False),
    Column("linked_product_type", sa.String(255)),
    _id("position", nullable=True),
    Column("qty", Money),
    key=("link_type", "linked_product_sku"),
)
product_variants = _child("product_variants", _id("child_product_id"), key=("child_product_id",))

CHILDREN = (
    product_attributes,
    product_categories,
    product_websites,
    product_media,
    product_tier_prices,
    product_links,
    product_variants,
)

product_changes = Table(
    "product_changes",
    metadata,
    Column("change_id", BigKey, primary_key=True, autoincrement=False),
    _store_view(),
    _id("product_id"),
    Column("sku", sa.String(255), nullable=False),
    Column("kind", sa.String(16), nullable=False),
    _time("changed_at", nullable=False),
    Column("fields", Json),
    _id("run_id"),
    Index(None, "store_view", "product_id"),
)

# Dead letters. `kind`: unreadable (the tenant cannot send it) and unmappable (we cannot store it) were not
# copied and are tried again by every pass; altered was copied with a value replaced.
rejected_items = Table(
    "rejected_items",
    metadata,
    Column("rejected_id", BigKey, primary_key=True, autoincrement=True),
    _store_view(),
    _id("product_id", nullable=True),
    _id("first_id"),
    _id("last_id", nullable=True),
    Column("kind", sa.String(16), nullable=False),
    Column("reason", LongText, nullable=False),
    Column("payload", LongText),
    _time("first_seen_at", nullable=False),
    _time("last_seen_at", nullable=False),
    Column("attempts", sa.Integer, nullable=False),
    _time("resolved_at"),
    _id("run_id"),
    Index(None, "store_view", "product_id"),
)

# --- reference data: what the rows of products refer to ---------------------------------------

attributes = Table(
    "attributes",
    metadata,
    Column("attribute_code", sa.String(255), primary_key=True),
    _id("attribute_id", nullable=True),
    Column("frontend_input", sa.String(64)),
    Column("backend_type", sa.String(64)),
    Column("scope", sa.String(16)),
    Column("label", LongText),
    Column("is_required", sa.Boolean),
    Column("document", LongText, nullable=False),
)

attribute_options = Table(
    "attribute_options",
    metadata,
    _store_view(),
    Column("attribute_code", sa.String(255), nullable=False),
    Column("option_value", sa.String(255), nullable=False),
    Column("label", LongText),
    _id("sort_order", nullable=True),
    PrimaryKeyConstraint("store_view", "attribute_code", "option_value"),
)

attribute_sets = Table(
    "attribute_sets",
    metadata,
    Column("attribute_set_id", sa.BigInteger, primary_key=True, autoincrement=False),
    Column("name", LongText),
    _id("sort_order", nullable=True),
)

# `path` is made of names, from the root category on; `path_ids` is Commerce's `1/2/14`.
categories = Table(
    "categories",
    metadata,
    _store_view(),
    _id("category_id"),
    _id("parent_id", nullable=True),
    Column("name", LongText),
    Column("path", LongText),
    Column("path_ids", LongText),
    _id("level", nullable=True),
    _id("position", nullable=True),
    Column("is_active", sa.Boolean),
    Column("document", LongText, nullable=False),
    PrimaryKeyConstraint("store_view", "category_id"),
)

websites = Table(
    "websites",
    metadata,
    Column("website_id", sa.BigInteger, primary_key=True, autoincrement=False),
    Column("code", sa.String(255)),
    Column("name", LongText),
    _id("default_group_id", nullable=True),
)

store_groups = Table(
    "store_groups",
    metadata,
    Column("store_group_id", sa.BigInteger, primary_key=True, autoincrement=False),
    Column("code", sa.String(255)),
    Column("name", LongText),
    _id("website_id", nullable=True),
    _id("root_category_id", nullable=True),
    _id("default_store_id", nullable=True),
)

store_views = Table(
    "store_views",
    metadata,
    Column("store_view_id", sa.BigInteger, primary_key=True, autoincrement=False),
    Column("code", sa.String(64)),
    Column("name", LongText),
    _id("website_id", nullable=True),
    _id("store_group_id", nullable=True),
    Column("is_active", sa.Boolean),
)

# Changes of the tables above: `row_key` and `fields` name columns, where `product_changes` names paths.
reference_changes = Table(
    "reference_changes",
    metadata,
    Column("change_id", BigKey, primary_key=True, autoincrement=True),
    Column("table_name", sa.String(64), nullable=False),
    Column("row_key", Json, nullable=False),
    Column("kind", sa.String(16), nullable=False),
    _time("changed_at", nullable=False),
    Column("fields", Json),
    _id("run_id"),
    Index(None, "table_name", "change_id"),
)

# --- price and stock feeds: changes that do not move a product's `updated_at` -----------------

# A price without a start begins at the epoch, because a key cannot be null.
product_prices = Table(
    "product_prices",
    metadata,
    _id("product_id"),
    Column("price_kind", sa.String(16), nullable=False),
    _id("scope_id"),
    _time("starts_at", nullable=False),
    Column("price", Money),
    _time("ends_at"),
    _time("changed_at", nullable=False),
    PrimaryKeyConstraint("product_id", "price_kind", "scope_id", "starts_at"),
)

source_items = Table(
    "source_items",
    metadata,
    Column("source_code", sa.String(255), nullable=False),
    Column("sku", sa.String(255), nullable=False),
    Column("quantity", Money),
    _id("status", nullable=True),
    _time("changed_at", nullable=False),
    _time("deleted_at"),
    PrimaryKeyConstraint("source_code", "sku"),
    Index(None, "sku"),
)

# --- bookkeeping -----------------------------------------------------------------------------

sync_runs = Table(
    "sync_runs",
    metadata,
    Column("run_id", BigKey, primary_key=True, autoincrement=True),
    Column("kind", sa.String(16), nullable=False),
    Column("status", sa.String(16), nullable=False),
    Column("store_views", LongText, nullable=False),
    Column("scope", LongText, nullable=False),
    _time("started_at", nullable=False),
    _time("finished_at"),
    _time("server_time"),
    _time("heard_at"),
    *(
        Column(name, sa.BigInteger, nullable=False, server_default="0")
        for name in ("fetched", "inserted", "updated", "unchanged", "deleted", "rejected")
    ),
    *(
        Column(name, sa.BigInteger, nullable=False, server_default="0")
        for name in ("requests", "throttled", "retries")
    ),
    Column("seconds", sa.Float, nullable=False, server_default="0"),
    Column("error", LongText),
    _id("expected", nullable=True),
    Column("answer_seconds", sa.Float, nullable=False, server_default="0"),
    Column("altered", sa.BigInteger, nullable=False, server_default="0"),
)

sync_watermarks = Table(
    "sync_watermarks",
    metadata,
    Column("store_view", sa.String(64), primary_key=True),
    _time("watermark", nullable=False),
    _id("updated_by_run"),
)

# Store views that the settings ever named: current, or left because of the `settings` or the `tenant`.
sync_store_views = Table(
    "sync_store_views",
    metadata,
    Column("store_view", sa.String(64), primary_key=True),
    _time("left_at"),
    Column("reason", sa.String(16)),
)

sync_partitions = Table(
    "sync_partitions",
    metadata,
    _id("run_id"),
    _store_view(),
    _id("first_id"),
    _id("last_id", nullable=True),
    _id("cursor_id"),
    Column("status", sa.String(16), nullable=False),
    Column("lease_owner", sa.String(255)),
    _time("lease_expires_at"),
    Column("failure", Json),
    PrimaryKeyConstraint("run_id", "store_view", "first_id"),
)

# Cache of verified pages: an unchanged answer need not be read again.
sync_pages = Table(
    "sync_pages",
    metadata,
    _store_view(),
    _id("after_id"),
    _id("last_id"),
    _id("products"),
    Column("answer_hash", sa.String(32), nullable=False),
    Column("copy_hash", sa.String(32), nullable=False),
    Column("rows_hash", sa.String(32)),
    Column("wire_hash", sa.String(32)),
    _id("total_count", nullable=True),
    _id("body_bytes", nullable=True),
    PrimaryKeyConstraint("store_view", "after_id"),
)

# Digest of a price feed's last answer for a product, where the stored rows differ from it.
sync_price_answers = Table(
    "sync_price_answers",
    metadata,
    _id("product_id"),
    Column("price_kind", sa.String(16), nullable=False),
    Column("digest", sa.String(16), nullable=False),
    PrimaryKeyConstraint("product_id", "price_kind"),
)

# One row: the writer lease. `fencing` grows with every new holder.
sync_leases = Table(
    "sync_leases",
    metadata,
    Column("name", sa.String(64), primary_key=True),
    Column("owner", sa.String(255)),
    _id("fencing"),
    _time("acquired_at"),
    _time("expires_at"),
)

# One row: the last change_id assigned. Its row lock makes commits follow the order of the ids.
sync_feed = Table(
    "sync_feed",
    metadata,
    Column("name", sa.String(64), primary_key=True),
    _id("last_change_id"),
)

# Findings of a sweep that are not acted upon yet: `missing`, and for a verify also `extra` and `different`.
sync_findings = Table(
    "sync_findings",
    metadata,
    _id("run_id"),
    _store_view(),
    _id("product_id"),
    Column("kind", sa.String(16), nullable=False),
    Column("detail", LongText),
    PrimaryKeyConstraint("run_id", "store_view", "product_id"),
)

# State that survives a restart, such as rate, requests in flight, page size: small JSON values by name.
sync_state = Table(
    "sync_state",
    metadata,
    Column("name", sa.String(64), primary_key=True),
    Column("value", Json, nullable=False),
)
