"""Every table. `migrations/` creates them; a test proves that both agree.

A comment is the column's entry in the data dictionary, `docs/data-dictionary.md`, and `sync/db/comments.py`
writes it into PostgreSQL and MariaDB. Options of a server (collation, engine, partial indexes, no rowid) are
only in `migrations/`: here they would load the drivers of every dialect, 5 % of the time to start a pass.

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


def _store_view(comment: str = "Code of the store view; `all` is the admin scope") -> Column[str]:
    return Column("store_view", sa.String(64), nullable=False, comment=comment)


def _id(name: str, comment: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, sa.BigInteger, nullable=nullable, autoincrement=False, comment=comment)


def _time(name: str, comment: str, *, nullable: bool = True) -> Column[Any]:
    return Column(name, UtcDateTime, nullable=nullable, comment=comment)


def _run() -> Column[int]:
    return _id("run_id", "The run that wrote the row, in `sync_runs`")


def _text(name: str, comment: str) -> Column[str]:
    return Column(name, LongText, comment=comment)


def _amount(name: str, comment: str) -> Column[Any]:
    return Column(name, Money, comment=comment)


def _document() -> Column[str]:
    return Column("document", LongText, nullable=False, comment="The whole item as Commerce sent it, JSON")


# `document` comes last: SQLite reads a row only up to the last selected column, and it is most of the row.
products = Table(
    "products",
    metadata,
    _store_view(),
    _id("product_id", "`entity_id` in Commerce: the identity of the product, never changed or reused"),
    Column("sku", sa.String(255), nullable=False, comment="The merchant's code; it can be edited"),
    _text("name", "Name in this store view"),
    Column(
        "type_id",
        sa.String(255),
        comment="`simple`, `configurable`, `grouped`, `bundle`, `virtual`, `downloadable` or another",
    ),
    _id("attribute_set_id", "The attribute set, in `attribute_sets`", nullable=True),
    _id("status", "1 enabled, 2 disabled", nullable=True),
    _id("visibility", "1 not visible individually, 2 catalog, 3 search, 4 catalog and search", nullable=True),
    _amount("price", "Base price as the product carries it; configurable products have none"),
    _amount("weight", "Weight in the unit that the shop is set to"),
    _time("created_at", "When the product was created in Commerce"),
    _time("updated_at", "When Commerce last stamped it as changed; not every change moves it"),
    Column("content_hash", sa.String(32), nullable=False, comment="Hash of `document`"),
    _time("first_seen_at", "When this copy first had the product", nullable=False),
    _time("changed_at", "When this copy last changed the row", nullable=False),
    _time("deleted_at", "When it was proven deleted; null while the product exists"),
    _run(),
    _document(),
    PrimaryKeyConstraint("store_view", "product_id"),
    Index(None, "sku", "store_view"),
    comment="One row for each product and store view; deleted products stay, with `deleted_at`",
)
TOMBSTONED = products.c.deleted_at.is_not(None)
# Partial where the server supports it. Live products are counted as all products minus the tombstones.
Index("ix_products_tombstones", products.c.store_view, products.c.product_id, products.c.deleted_at)


def _child(name: str, comment: str, *columns: Column[Any], key: tuple[str, ...]) -> Table:
    """A table whose rows belong to one product and are deleted with it.

    There is no foreign key: PostgreSQL runs a trigger for every row of one, which made the first load
    2.3 times as long (286 against 124 µs a product). The page's transaction and reconcile keep it consistent.
    """
    return Table(
        name,
        metadata,
        _store_view(),
        _id("product_id", "The product, in `products`"),
        *columns,
        PrimaryKeyConstraint("store_view", "product_id", *key),
        comment=comment,
    )


product_attributes = _child(
    "product_attributes",
    "Custom attributes of a product; one that Commerce sent as null has no row",
    Column("attribute_code", sa.String(255), nullable=False, comment="The attribute, in `attributes`"),
    _text("value", "Scalars as text, lists and objects as JSON; ids of options stand in `attribute_options`"),
    key=("attribute_code",),
)
product_categories = _child(
    "product_categories",
    "Categories that a product is assigned to",
    _id("category_id", "The category, in `categories`"),
    _id("position", "Place of the product within the category", nullable=True),
    key=("category_id",),
)
product_websites = _child(
    "product_websites",
    "Websites that sell a product",
    _id("website_id", "The website, in `websites`"),
    key=("website_id",),
)
product_media = _child(
    "product_media",
    "Images and videos of a product",
    _id("entry_id", "Id of the entry in Commerce's media gallery"),
    Column("media_type", sa.String(255), comment="`image` or `external-video`"),
    _text("label", "Alternative text"),
    _id("position", "Place in the gallery", nullable=True),
    Column("disabled", sa.Boolean, comment="Whether it is hidden on the product's page"),
    Column("types", Json, comment="Roles: a list of `image`, `small_image`, `thumbnail`, `swatch_image`"),
    _text("file", "Path below the shop's `media/catalog/product`"),
    key=("entry_id",),
)
product_tier_prices = _child(
    "product_tier_prices",
    "Prices by quantity and customer group",
    _id("ordinal", "Place in Commerce's list, from 0"),
    _id("customer_group_id", "Customer group; 32000 is all groups", nullable=True),
    _amount("qty", "Smallest quantity that has this price"),
    _amount("value", "Price of one piece"),
    _amount("percentage_value", "Discount in percent, where the price is given as one"),
    _id("website_id", "The website, in `websites`; 0 is all", nullable=True),
    key=("ordinal",),
)
product_links = _child(
    "product_links",
    "Products that a product refers to",
    Column(
        "link_type",
        sa.String(64),
        nullable=False,
        comment="`related`, `upsell`, `crosssell`, or `associated` for the parts of a grouped product",
    ),
    Column("linked_product_sku", sa.String(255), nullable=False, comment="SKU of the other product"),
    Column("linked_product_type", sa.String(255), comment="Its `type_id`"),
    _id("position", "Place in the list", nullable=True),
    _amount("qty", "Default quantity in a grouped product"),
    key=("link_type", "linked_product_sku"),
)
product_variants = _child(
    "product_variants",
    "Simple products of a configurable product",
    _id("child_product_id", "The simple product, in `products`"),
    key=("child_product_id",),
)

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
    Column(
        "change_id",
        BigKey,
        primary_key=True,
        autoincrement=False,
        comment="Position in the feed: grows in the order of commits, never reused",
    ),
    _store_view(),
    _id("product_id", "The product, in `products`"),
    Column("sku", sa.String(255), nullable=False, comment="Its SKU after the change"),
    Column("kind", sa.String(16), nullable=False, comment="`insert`, `update`, `delete` or `restore`"),
    _time("changed_at", "When this copy saw the change", nullable=False),
    Column("fields", Json, comment="Of an update: changed paths, each with `old` and `new`; else null"),
    _run(),
    Index(None, "store_view", "product_id"),
    comment="The change feed: replayed from the first entry, it gives the products that live",
)

rejected_items = Table(
    "rejected_items",
    metadata,
    Column("rejected_id", BigKey, primary_key=True, autoincrement=True, comment="Number of the entry"),
    _store_view(),
    _id("product_id", "The product, where it is known", nullable=True),
    _id("first_id", "First id of the range that was asked for"),
    _id("last_id", "Last id of that range; null when it had no upper end", nullable=True),
    Column(
        "kind",
        sa.String(16),
        nullable=False,
        comment="`unreadable`, `unmappable`: not copied, tried again; `altered`: copied, a value replaced",
    ),
    Column("reason", LongText, nullable=False, comment="What is wrong with it"),
    _text("payload", "What Commerce sent, where it sent something"),
    _time("first_seen_at", "When it was first rejected", nullable=False),
    _time("last_seen_at", "When it was last rejected", nullable=False),
    Column("attempts", sa.Integer, nullable=False, comment="How often it was tried"),
    _time("resolved_at", "When it could be copied, or was gone; null while it is open"),
    _run(),
    Index(None, "store_view", "product_id"),
    comment="Products that could not be copied, or not as they are, each with the reason",
)

# --- reference data: what the rows of products refer to ---------------------------------------

attributes = Table(
    "attributes",
    metadata,
    Column("attribute_code", sa.String(255), primary_key=True, comment="Code of the attribute"),
    _id("attribute_id", "Its number in Commerce", nullable=True),
    Column(
        "frontend_input",
        sa.String(64),
        comment="How it is edited: `text`, `select`, `multiselect`, `price` …",
    ),
    Column(
        "backend_type",
        sa.String(64),
        comment="How Commerce stores it: `varchar`, `int`, `decimal`, `text`, `datetime`, `static`",
    ),
    Column("scope", sa.String(16), comment="Where it can differ: `global`, `website` or `store`"),
    _text("label", "Label in the admin scope"),
    Column("is_required", sa.Boolean, comment="Whether each product must have it"),
    _document(),
    comment="Attributes of products",
)

attribute_options = Table(
    "attribute_options",
    metadata,
    _store_view(),
    Column("attribute_code", sa.String(255), nullable=False, comment="The attribute, in `attributes`"),
    Column("option_value", sa.String(255), nullable=False, comment="What `product_attributes.value` holds"),
    _text("label", "What a person reads"),
    _id("sort_order", "Place in the list", nullable=True),
    PrimaryKeyConstraint("store_view", "attribute_code", "option_value"),
    comment="Options of attributes, spelled out for each store view",
)

attribute_sets = Table(
    "attribute_sets",
    metadata,
    Column(
        "attribute_set_id", sa.BigInteger, primary_key=True, autoincrement=False, comment="Number of the set"
    ),
    _text("name", "Its name"),
    _id("sort_order", "Place in the list", nullable=True),
    comment="Attribute sets: which attributes a kind of product has",
)

categories = Table(
    "categories",
    metadata,
    _store_view(),
    _id("category_id", "Number of the category"),
    _id("parent_id", "The category above it", nullable=True),
    _text("name", "Name in this store view"),
    _text("path", "Names from the root category to this one, without the technical root, joined by `/`"),
    _text("path_ids", "Ids from the root to this one, as in `1/2/14`"),
    _id("level", "Depth; the root is 0", nullable=True),
    _id("position", "Place among its siblings", nullable=True),
    Column("is_active", sa.Boolean, comment="Whether the shop shows it"),
    _document(),
    PrimaryKeyConstraint("store_view", "category_id"),
    comment="The tree of categories, for each store view",
)

websites = Table(
    "websites",
    metadata,
    Column(
        "website_id", sa.BigInteger, primary_key=True, autoincrement=False, comment="Number of the website"
    ),
    Column("code", sa.String(255), comment="Its code"),
    _text("name", "Its name"),
    _id("default_group_id", "Its default store group, in `store_groups`", nullable=True),
    comment="Websites: the scope of prices and customers",
)

store_groups = Table(
    "store_groups",
    metadata,
    Column(
        "store_group_id",
        sa.BigInteger,
        primary_key=True,
        autoincrement=False,
        comment="Number of the store group",
    ),
    Column("code", sa.String(255), comment="Its code"),
    _text("name", "Its name"),
    _id("website_id", "The website, in `websites`", nullable=True),
    _id("root_category_id", "Root of its tree, in `categories`", nullable=True),
    _id("default_store_id", "Its default store view, in `store_views`", nullable=True),
    comment="Store groups: store views that share a tree of categories",
)

store_views = Table(
    "store_views",
    metadata,
    Column(
        "store_view_id",
        sa.BigInteger,
        primary_key=True,
        autoincrement=False,
        comment="Number of the store view",
    ),
    Column("code", sa.String(64), comment="Its code: `store_view` in the other tables"),
    _text("name", "Its name"),
    _id("website_id", "The website, in `websites`", nullable=True),
    _id("store_group_id", "The store group, in `store_groups`", nullable=True),
    Column("is_active", sa.Boolean, comment="Whether the shop shows it"),
    comment="Store views of the tenant, also those that are not copied",
)

reference_changes = Table(
    "reference_changes",
    metadata,
    Column(
        "change_id",
        BigKey,
        primary_key=True,
        autoincrement=True,
        comment="Grows; not that of `product_changes`",
    ),
    Column("table_name", sa.String(64), nullable=False, comment="The table that changed"),
    Column("row_key", Json, nullable=False, comment="Key of the row: column and value"),
    Column("kind", sa.String(16), nullable=False, comment="`insert`, `update` or `delete`"),
    _time("changed_at", "When this copy saw the change", nullable=False),
    Column("fields", Json, comment="Of an update: changed columns, each with `old` and `new`; else null"),
    _run(),
    Index(None, "table_name", "change_id"),
    comment="What changed in the reference tables",
)

# --- price and stock feeds: changes that do not move a product's `updated_at` -----------------

# A price without a start begins at the epoch, because a key cannot be null.
product_prices = Table(
    "product_prices",
    metadata,
    _id("product_id", "The product, in `products`"),
    Column("price_kind", sa.String(16), nullable=False, comment="`base`, `special` or `cost`"),
    _id("scope_id", "0 for all store views, else the `store_view_id` that has another price"),
    _time("starts_at", "From when it holds; 1970-01-01 without a start", nullable=False),
    _amount("price", "The price, in the base currency of the website"),
    _time("ends_at", "Until when it holds; null without an end"),
    _time("changed_at", "When this copy last changed the row", nullable=False),
    PrimaryKeyConstraint("product_id", "price_kind", "scope_id", "starts_at"),
    comment="Prices from Commerce's price feeds, by scope and date",
)

source_items = Table(
    "source_items",
    metadata,
    Column("source_code", sa.String(255), nullable=False, comment="The warehouse or other source of stock"),
    Column("sku", sa.String(255), nullable=False, comment="SKU of the product"),
    _amount("quantity", "Pieces on hand; reservations are not subtracted"),
    _id("status", "1 in stock, 0 out of stock", nullable=True),
    _time("changed_at", "When this copy last changed the row", nullable=False),
    _time("deleted_at", "When it was proven deleted; null while it exists"),
    PrimaryKeyConstraint("source_code", "sku"),
    Index(None, "sku"),
    comment="Stock of a SKU at a source (multi-source inventory)",
)

# --- bookkeeping -----------------------------------------------------------------------------


def _counter(name: str, comment: str) -> Column[int]:
    return Column(name, sa.BigInteger, nullable=False, server_default="0", comment=comment)


def _seconds(name: str, comment: str) -> Column[float]:
    return Column(name, sa.Float, nullable=False, server_default="0", comment=comment)


sync_runs = Table(
    "sync_runs",
    metadata,
    Column("run_id", BigKey, primary_key=True, autoincrement=True, comment="Number of the run"),
    Column(
        "kind",
        sa.String(16),
        nullable=False,
        comment="`backfill`, `incremental`, `reconcile`, `prices`, `stock`, `reference`, `verify`, `forget`",
    ),
    Column(
        "status",
        sa.String(16),
        nullable=False,
        comment="`running`, `succeeded`, `partial`, `failed` or `interrupted`",
    ),
    Column("store_views", LongText, nullable=False, comment="Codes of the store views, joined by commas"),
    Column("scope", LongText, nullable=False, comment="What it reads: equal scopes mean equal work"),
    _time("started_at", "When it began", nullable=False),
    _time("finished_at", "When it ended; null while it runs"),
    _time("server_time", "The tenant's clock at its first answer"),
    _time("heard_at", "The database's clock at that answer"),
    _counter("fetched", "Products that Commerce sent"),
    _counter("inserted", "New products, and restored ones"),
    _counter("updated", "Products that changed"),
    _counter("unchanged", "Products that were as stored"),
    _counter("deleted", "Products proven deleted"),
    _counter("rejected", "Products that could not be copied"),
    _counter("requests", "Requests to Commerce"),
    _counter("throttled", "Answers with status 429"),
    _counter("retries", "Requests that were tried again"),
    _seconds("seconds", "How long it took"),
    _text("error", "Why it did not succeed; null when it did"),
    _id("expected", "Products that it expects to read; null where that is unknown", nullable=True),
    _seconds("answer_seconds", "Time spent waiting for answers, added up over parallel requests"),
    _counter("altered", "Products copied with a value replaced"),
    comment="Every attempt at a pass, with its outcome and counters",
)

sync_watermarks = Table(
    "sync_watermarks",
    metadata,
    Column("store_view", sa.String(64), primary_key=True, comment="Code of the store view"),
    _time("watermark", "Up to when, by the tenant's clock, the copy is proven complete", nullable=False),
    _id("updated_by_run", "The run that moved it, in `sync_runs`"),
    comment="How fresh the copy is",
)

sync_store_views = Table(
    "sync_store_views",
    metadata,
    Column("store_view", sa.String(64), primary_key=True, comment="Code of the store view"),
    _time("left_at", "When it was no longer copied; null while it is"),
    Column(
        "reason", sa.String(16), comment="Why it left: it is not in the `settings`, or not on the `tenant`"
    ),
    comment="Store views that the settings ever named",
)

sync_partitions = Table(
    "sync_partitions",
    metadata,
    _id("run_id", "The run, in `sync_runs`"),
    _store_view(),
    _id("first_id", "First product id of the range"),
    _id("last_id", "Last product id; null when it has no upper end", nullable=True),
    _id("cursor_id", "The last id that was read and committed"),
    Column("status", sa.String(16), nullable=False, comment="`pending`, `done` or `failed`"),
    Column("lease_owner", sa.String(255), comment="The worker that reads it"),
    _time("lease_expires_at", "When another worker may take it"),
    Column("failure", Json, comment="Why a worker could not read it"),
    PrimaryKeyConstraint("run_id", "store_view", "first_id"),
    comment="Id ranges of unfinished runs: where reading continues",
)

sync_pages = Table(
    "sync_pages",
    metadata,
    _store_view(),
    _id("after_id", "The page begins after this product id"),
    _id("last_id", "Last product id of the page"),
    _id("products", "Number of products on it"),
    Column("answer_hash", sa.String(32), nullable=False, comment="Hash of the products as sent"),
    Column("copy_hash", sa.String(32), nullable=False, comment="Hash of the copy once it agreed with them"),
    Column("rows_hash", sa.String(32), comment="Hash of all rows once they were compared with the documents"),
    Column("wire_hash", sa.String(32), comment="Hash of the whole answer"),
    _id("total_count", "`total_count` of the answer", nullable=True),
    _id("body_bytes", "Size of the answer in bytes", nullable=True),
    PrimaryKeyConstraint("store_view", "after_id"),
    comment="Cache of verified pages: an unchanged answer need not be compared again",
)

sync_price_answers = Table(
    "sync_price_answers",
    metadata,
    _id("product_id", "The product, in `products`"),
    Column("price_kind", sa.String(16), nullable=False, comment="The feed: `base`, `special` or `cost`"),
    Column("digest", sa.String(16), nullable=False, comment="Hash of the answer"),
    PrimaryKeyConstraint("product_id", "price_kind"),
    comment="A price feed's last answer for a product, where the stored rows differ from it",
)

sync_leases = Table(
    "sync_leases",
    metadata,
    Column("name", sa.String(64), primary_key=True, comment="There is one: `writer`"),
    Column("owner", sa.String(255), comment="The process that holds it; null when it is free"),
    _id("fencing", "Grows with each new holder; a process with an old number cannot commit"),
    _time("acquired_at", "When it was taken"),
    _time("expires_at", "When it runs out unless it is renewed"),
    comment="The right to write",
)

sync_feed = Table(
    "sync_feed",
    metadata,
    Column("name", sa.String(64), primary_key=True, comment="There is one: `product_changes`"),
    _id("last_change_id", "The last `change_id` assigned; its lock keeps ids in the order of commits"),
    comment="Counter of the change feed",
)

sync_findings = Table(
    "sync_findings",
    metadata,
    _id("run_id", "The run, in `sync_runs`"),
    _store_view(),
    _id("product_id", "The product"),
    Column(
        "kind",
        sa.String(16),
        nullable=False,
        comment="`missing`, and of a verify also `extra` or `different`",
    ),
    _text("detail", "What differs"),
    PrimaryKeyConstraint("run_id", "store_view", "product_id"),
    comment="What a pass noticed and has yet to prove or report",
)

sync_state = Table(
    "sync_state",
    metadata,
    Column("name", sa.String(64), primary_key=True, comment="What it is"),
    Column("value", Json, nullable=False, comment="Its value"),
    comment="Facts that survive a restart: tenant, rate, page size, positions of readers of the feed",
)
