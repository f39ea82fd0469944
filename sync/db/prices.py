"""Prices in the copy: those in the products' own rows, and `product_prices`, filled from the price feeds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from sync.db import state
from sync.db.dialects import bulk_upsert
from sync.db.schema import (
    product_attributes,
    product_prices,
    product_tier_prices,
    products,
    store_views,
    sync_price_answers,
)
from sync.model import Interval

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)  # the start of a price without one
ATTRIBUTES: Final = ("special_price", "special_from_date", "special_to_date", "cost")
MEMORY: Final = "prices"  # key in sync_state of the scopes and kinds of the last `prices`
SELDOM_CHANGED: Final = ("cost", "tier")  # feeds that scheduled passes leave out while they find nothing
PATIENCE: Final = 6  # readings in vain for each pass left out
MOST_LEFT_OUT: Final = 3  # passes in a row
LONGEST_REST_S: Final = 86_000.0  # a pass a day leaves nothing out
_COLUMNS: Final = ("product_id", "price_kind", "scope_id", "starts_at", "price", "ends_at", "changed_at")


class PriceRow(NamedTuple):
    """A row of `product_prices` without product, kind and `changed_at`."""

    scope_id: int
    starts_at: datetime
    price: Decimal
    ends_at: datetime | None


class FeedRecord(NamedTuple):
    """What the readings of a price feed were good for.

    in_vain     readings in a row that found no changed price
    left_out    scheduled passes since the last one
    read_at     unix time of the last one, by the database's clock
    """

    in_vain: int = 0
    left_out: int = 0
    read_at: float = 0.0

    def rests(self, now: datetime) -> bool:
        """Whether the next scheduled pass goes without this feed."""
        is_recent = now.timestamp() - self.read_at < LONGEST_REST_S
        return is_recent and self.left_out < min(MOST_LEFT_OUT, self.in_vain // PATIENCE)

    def after(self, now: datetime, *, read: bool, found: bool) -> FeedRecord:
        """The record after one more pass."""
        if not read:
            return self._replace(left_out=self.left_out + 1)
        return FeedRecord(0 if found else self.in_vain + 1, 0, now.timestamp())


class TierRow(NamedTuple):
    """A tier price in a product's own rows."""

    customer_group_id: int | None
    website_id: int | None
    qty: Decimal | None
    value: Decimal | None
    percentage_value: Decimal | None


@dataclass(slots=True)
class Carried:
    """The prices in a product's own rows of one store view; `attributes` are texts by name."""

    sku: str
    type_id: str | None
    price: Decimal | None
    attributes: dict[str, str | None] = field(default_factory=dict)
    tiers: list[TierRow] = field(default_factory=list)


Key = tuple[int, str]  # product and kind
Known = dict[Key, set[PriceRow]]
Moved = dict[Key, tuple[set[PriceRow], set[PriceRow]]]  # removed rows, added rows


# --- products of the copy --------------------------------------------------------------------


def skus(
    connection: sa.Connection, views: Collection[str], interval: Interval, limit: int | None = None
) -> list[tuple[int, str]]:
    """Products that are live in any of these store views, ascending: (id, SKU), at most `limit`."""
    found: dict[int, str] = {}
    for view in views:
        rows = connection.execute(
            sa.select(products.c.product_id, products.c.sku)
            .where(*_living(view), *_inside(products, interval))
            .order_by(products.c.product_id)
            .limit(limit)
        )
        found.update((row.product_id, row.sku) for row in rows)
    return sorted(found.items())[:limit]


def carried(connection: sa.Connection, view: str, which: Interval | Collection[int]) -> dict[int, Carried]:
    """The prices in the own rows of a store view's products, in an interval or with these ids."""
    rows = connection.execute(
        sa.select(products.c.product_id, products.c.sku, products.c.type_id, products.c.price).where(
            *_living(view), *_inside(products, which)
        )
    )
    found = {row.product_id: Carried(row.sku, row.type_id, row.price) for row in rows}
    attributes, tiers = product_attributes, product_tier_prices
    for row in connection.execute(
        sa.select(attributes.c.product_id, attributes.c.attribute_code, attributes.c.value).where(
            attributes.c.store_view == view,
            attributes.c.attribute_code.in_(ATTRIBUTES),
            *_inside(attributes, which),
        )
    ):
        if row.product_id in found:
            found[row.product_id].attributes[row.attribute_code] = row.value
    for row in connection.execute(sa.select(tiers).where(tiers.c.store_view == view, *_inside(tiers, which))):
        if row.product_id in found:
            found[row.product_id].tiers.append(TierRow(*(getattr(row, name) for name in TierRow._fields)))
    return found


def scopes(connection: sa.Connection) -> dict[str, tuple[int, int | None]]:
    """Store views by code, from the reference data: (id, website)."""
    rows = connection.execute(
        sa.select(store_views.c.code, store_views.c.store_view_id, store_views.c.website_id)
    )
    return {row.code: (row.store_view_id, row.website_id) for row in rows if row.code is not None}


def _living(view: str) -> tuple[sa.ColumnElement[bool], ...]:
    return products.c.store_view == view, products.c.deleted_at.is_(None)


def _inside(table: sa.Table, which: Interval | Collection[int]) -> list[sa.ColumnElement[bool]]:
    column: sa.ColumnElement[Any] = table.c.product_id
    if not isinstance(which, Interval):
        return [column.in_(which)]
    upper = [] if which.last is None else [column <= which.last]
    return [column > which.after, *upper]


def compared(connection: sa.Connection) -> dict[str, tuple[int, int | None]]:
    """Store views of the last `prices` run: (id, website) by code. Empty before the first one."""
    memory = state.load(connection, MEMORY) or {}
    return {view: (scope_id, website_id) for view, (scope_id, website_id) in memory.get("scopes", {}).items()}


def feed_records(connection: sa.Connection) -> dict[str, FeedRecord]:
    """The records of the feeds that may be left out, by kind."""
    kept = (state.load(connection, MEMORY) or {}).get("records", {})
    return {kind: FeedRecord(*kept.get(kind, ())) for kind in SELDOM_CHANGED}


def resting(connection: sa.Connection, now: datetime) -> list[str]:
    """The kinds that a scheduled pass leaves out now, by the database's clock."""
    return [kind for kind, record in feed_records(connection).items() if record.rests(now)]


# --- product_prices --------------------------------------------------------------------------


def known(connection: sa.Connection, which: Interval | Collection[int]) -> Known:
    """The stored rows of an interval, or of products with these ids."""
    found: Known = {}
    for row in connection.execute(sa.select(product_prices).where(*_inside(product_prices, which))):
        key = (row.product_id, row.price_kind)
        found.setdefault(key, set()).add(PriceRow(row.scope_id, row.starts_at, row.price, row.ends_at))
    return found


def replace(
    connection: sa.Connection, before: Known, after: Mapping[Key, set[PriceRow]], at: datetime
) -> Moved:
    """Replace the stored rows of these products and kinds, writing only the differences.

    before    the stored rows
    """
    moved = {
        key: (before.get(key, set()) - rows, rows - before.get(key, set())) for key, rows in after.items()
    }
    moved = {key: (gone, come) for key, (gone, come) in moved.items() if gone or come}
    _delete(connection, [(*key, row) for key, (gone, _) in moved.items() for row in gone])
    written = [
        (*key, row.scope_id, row.starts_at, row.price, row.ends_at, at)
        for key, (_, come) in moved.items()
        for row in come
    ]
    bulk_upsert(connection, product_prices, _COLUMNS, written)
    return moved


def _delete(connection: sa.Connection, gone: Sequence[tuple[int, str, PriceRow]]) -> None:
    if not gone:
        return
    table = product_prices.c
    names = ("product_id", "price_kind", "scope_id", "starts_at")
    connection.execute(
        product_prices.delete().where(*(table[name] == sa.bindparam(f"old_{name}") for name in names)),
        [
            {
                "old_product_id": product_id,
                "old_price_kind": kind,
                "old_scope_id": row.scope_id,
                "old_starts_at": row.starts_at,
            }
            for product_id, kind, row in gone
        ],
    )


def drop(connection: sa.Connection, product_ids: Collection[int]) -> None:
    """Delete the prices of deleted products."""
    for table in (product_prices, sync_price_answers) if product_ids else ():
        connection.execute(table.delete().where(table.c.product_id.in_(product_ids)))


def drop_dead(connection: sa.Connection, product_ids: Collection[int]) -> None:
    """Delete the prices of the products among these that are live in no store view."""
    views = compared(connection) if product_ids else {}
    if views:
        table = products.c
        alive = sa.select(table.product_id).where(
            table.store_view.in_(views), table.product_id.in_(product_ids), table.deleted_at.is_(None)
        )
        drop(connection, set(product_ids) - set(connection.scalars(alive)))


# --- digests of feed answers, where they differ from the stored rows --------------------------


def answers(connection: sa.Connection, which: Interval | Collection[int]) -> dict[Key, str]:
    """Digests of the feeds' last answers, by product and kind."""
    table = sync_price_answers
    return {
        (row.product_id, row.price_kind): row.digest
        for row in connection.execute(sa.select(table).where(*_inside(table, which)))
    }


def remember(connection: sa.Connection, before: Mapping[Key, str], now: Mapping[Key, str | None]) -> None:
    """Store digests; None where the stored rows, or the product, equal the feed's answer."""
    table = sync_price_answers
    outdated = [key for key, digest in now.items() if key in before and digest is None]
    if outdated:
        connection.execute(
            table.delete().where(
                table.c.product_id == sa.bindparam("old_product_id"),
                table.c.price_kind == sa.bindparam("old_price_kind"),
            ),
            [{"old_product_id": product_id, "old_price_kind": kind} for product_id, kind in outdated],
        )
    columns = ("product_id", "price_kind", "digest")
    new = [(*key, digest) for key, digest in now.items() if digest is not None and before.get(key) != digest]
    bulk_upsert(connection, table, columns, new)
