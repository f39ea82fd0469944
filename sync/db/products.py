"""Products and their children: what is here, what is written, what is gone.

Bulk by page: a handful of statements, whatever the page's size.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from sync.db.dialects import Row, bulk_insert, bulk_upsert
from sync.db.schema import CHILDREN, metadata, products
from sync.db.skus import equivalent
from sync.model import CHILD_COLUMNS, PRODUCT_COLUMNS, Interval

_WRITTEN = (*PRODUCT_COLUMNS, "content_hash", "first_seen_at", "changed_at", "deleted_at", "run_id")


class StoredHash(NamedTuple):
    """What the copy knows of a product without reading it."""

    content_hash: str
    is_deleted: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """A product as the copy has it."""

    document: str
    first_seen_at: datetime
    changed_at: datetime


class Write(NamedTuple):
    """A product to be written, with its children.

    product     values of PRODUCT_COLUMNS
    children    rows by table; a table that is not named stays as it is
    """

    product: Row
    children: dict[str, list[Row]]
    content_hash: str
    first_seen_at: datetime
    changed_at: datetime


def _within(interval: Interval) -> list[sa.ColumnElement[bool]]:
    bounds = [products.c.product_id > interval.after]
    if interval.last is not None:
        bounds.append(products.c.product_id <= interval.last)
    return bounds


# --- what is here ----------------------------------------------------------------------------


def known_in(connection: sa.Connection, store_view: str, interval: Interval) -> dict[int, StoredHash]:
    """Everything the copy knows in an interval, tombstones included."""
    return _known(connection, products.c.store_view == store_view, *_within(interval))


def known_of(connection: sa.Connection, store_view: str, ids: Collection[int]) -> dict[int, StoredHash]:
    """What the copy knows of these products, tombstones included."""
    return _known(connection, products.c.store_view == store_view, products.c.product_id.in_(ids))


def _known(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> dict[int, StoredHash]:
    table = products.c
    rows = connection.execute(
        sa.select(table.product_id, table.content_hash, table.deleted_at.is_not(None)).where(*where)
    )
    return {product_id: StoredHash(content_hash, bool(gone)) for product_id, content_hash, gone in rows}


def stored(connection: sa.Connection, store_view: str, ids: Collection[int]) -> dict[int, Stored]:
    """The documents of these products, and when they came and changed."""
    if not ids:
        return {}
    table = products.c
    rows = connection.execute(
        sa.select(table.product_id, table.document, table.first_seen_at, table.changed_at).where(
            table.store_view == store_view, table.product_id.in_(ids)
        )
    )
    return {row.product_id: Stored(row.document, row.first_seen_at, row.changed_at) for row in rows}


def is_empty(connection: sa.Connection, store_view: str, interval: Interval) -> bool:
    """Whether the copy holds nothing of an interval, no tombstone either."""
    where = [products.c.store_view == store_view, *_within(interval)]
    return not connection.scalar(sa.select(sa.exists().where(*where)))


def count_live(connection: sa.Connection, store_view: str, up_to: int | None = None) -> int:
    """How many products live in the copy, or how many up to an id.

    All without the tombstones: both are counted in an index, while a product's row holds its document.
    """
    where = [products.c.store_view == store_view, *_within(Interval(0, up_to))]
    every = sa.select(sa.func.count()).select_from(products).where(*where)
    return int(connection.execute(every).scalar_one()) - int(
        connection.execute(every.where(products.c.deleted_at.is_not(None))).scalar_one()
    )


def differ(connection: sa.Connection, store_view: str, other: str, before: datetime) -> bool:
    """Whether two store views hold other products, or other `updated_at`, that are stamped before a time."""
    return _has_other(connection, store_view, other, before) or _has_other(
        connection, other, store_view, before
    )


def _has_other(connection: sa.Connection, store_view: str, other: str, before: datetime) -> bool:
    """Whether a product of one store view is not in the other one, or has another stamp there."""
    one, two = products.alias().c, products.alias().c
    same = sa.and_(
        two.store_view == other,
        two.product_id == one.product_id,
        two.deleted_at.is_(None),
        sa.or_(two.updated_at == one.updated_at, two.updated_at >= before),
    )
    lacking = sa.exists().where(
        one.store_view == store_view,
        one.deleted_at.is_(None),
        one.updated_at < before,
        ~sa.exists().where(same).correlate_except(two.store_view.table),
    )
    return bool(connection.scalar(sa.select(lacking)))


def highest_live(connection: sa.Connection, store_view: str) -> int:
    """The highest id that lives in the copy; 0 when none does.

    Not by `max`: before its first ANALYZE, PostgreSQL reads every product for that.
    """
    descending = (
        sa.select(products.c.product_id)
        .where(products.c.store_view == store_view, products.c.deleted_at.is_(None))
        .order_by(products.c.product_id.desc())
        .limit(1)
    )
    return int(connection.scalar(descending) or 0)


def live_ids(connection: sa.Connection, store_view: str, interval: Interval) -> array[int]:
    """The ids that live in an interval, ascending: 8 bytes each, so a million cost 8 MB."""
    found = array("q")
    while some := _some_live_ids(connection, store_view, interval):
        found.extend(some)
        interval = Interval(some[-1], interval.last)
    return found


def _some_live_ids(connection: sa.Connection, store_view: str, interval: Interval) -> Sequence[int]:
    """The first of them: drivers hold a whole result in memory, and its rows are 50 times as large."""
    return (
        connection.execute(
            sa.select(products.c.product_id)
            .where(products.c.store_view == store_view, products.c.deleted_at.is_(None), *_within(interval))
            .order_by(products.c.product_id)
            .limit(20_000)
        )
        .scalars()
        .all()
    )


def live_of(connection: sa.Connection, store_view: str, ids: Collection[int]) -> set[int]:
    """Those of these products that live here."""
    return {i for i, known in known_of(connection, store_view, ids).items() if not known.is_deleted}


def newest_live(
    connection: sa.Connection, store_view: str, besides: Collection[int], limit: int
) -> list[int]:
    """The highest ids that live here and are not among `besides`, descending."""
    rows = connection.execute(
        sa.select(products.c.product_id)
        .where(products.c.store_view == store_view, products.c.deleted_at.is_(None))
        .order_by(products.c.product_id.desc())
        .limit(limit + len(besides))
    )
    return [i for i in rows.scalars() if i not in besides][:limit]


def named(
    connection: sa.Connection, store_view: str, ids: Collection[int], skus: Collection[str]
) -> dict[int, str]:
    """Live products with one of these ids or SKUs: SKU by id. Compared as Commerce does."""
    table = products.c
    rows = connection.execute(
        sa.select(table.product_id, table.sku).where(
            table.store_view == store_view,
            table.deleted_at.is_(None),
            table.product_id.in_(ids) | table.sku.in_(equivalent(connection, skus)),
        )
    )
    return {row.product_id: row.sku for row in rows}


def find(connection: sa.Connection, sku: str, store_view: str | None) -> list[sa.Row[tuple[Any, ...]]]:
    """Products with this SKU, tombstones last: one per store view, more where the SKU was used again.

    Without their documents, which may be many and long: see `document_of`.
    """
    where: list[sa.ColumnElement[bool]] = [products.c.sku.in_(equivalent(connection, [sku.strip()]))]
    if store_view is not None:
        where.append(products.c.store_view == store_view)
    order = (products.c.deleted_at.is_not(None), products.c.store_view, products.c.product_id.desc())
    columns = [column for column in products.c if column.name != "document"]
    return list(connection.execute(sa.select(*columns).where(*where).order_by(*order)))


def document_of(connection: sa.Connection, store_view: str, product_id: int) -> str:
    """One product's document."""
    key = products.c.store_view == store_view, products.c.product_id == product_id
    return str(connection.execute(sa.select(products.c.document).where(*key)).scalar_one())


def children_of(
    connection: sa.Connection, store_view: str, product_id: int
) -> dict[str, list[dict[str, Any]]]:
    """One product's child rows by table, without the columns that name the product."""
    return {
        table.name: [
            {name: value for name, value in row._mapping.items() if name not in ("store_view", "product_id")}
            for row in connection.execute(
                sa.select(table)
                .where(table.c.store_view == store_view, table.c.product_id == product_id)
                .order_by(*table.primary_key)
            )
        ]
        for table in CHILDREN
    }


# --- what is written -------------------------------------------------------------------------


def insert(connection: sa.Connection, store_view: str, writes: Sequence[Write], run_id: int) -> None:
    """Write products that the copy never had."""
    if not writes:
        return
    _clear_orphans(connection, store_view, [write.product[1] for write in writes])
    bulk_insert(connection, products, _WRITTEN, [_row(write, run_id) for write in writes])
    for name, columns in CHILD_COLUMNS.items():
        bulk_insert(connection, metadata.tables[name], columns, _child_rows(writes, name))


def update(connection: sa.Connection, store_view: str, writes: Sequence[Write], run_id: int) -> None:
    """Write products that the copy has; only the child tables a write names."""
    if not writes:
        return
    bulk_upsert(connection, products, _WRITTEN, [_row(write, run_id) for write in writes])
    for name, columns in CHILD_COLUMNS.items():
        touched = [write for write in writes if name in write.children]
        if touched:
            table = metadata.tables[name]
            _delete_of(connection, table, store_view, [write.product[1] for write in touched])
            bulk_insert(connection, table, columns, _child_rows(touched, name))


def _row(write: Write, run_id: int) -> Row:
    return (*write.product, write.content_hash, write.first_seen_at, write.changed_at, None, run_id)


def _child_rows(writes: Iterable[Write], table: str) -> list[Row]:
    rows: list[Row] = []
    for write in writes:
        rows += write.children[table]
    return rows


def _clear_orphans(connection: sa.Connection, store_view: str, ids: Sequence[int]) -> None:
    """Remove child rows that a hand-made deletion of these products may have left behind.

    On a first load nothing lies between the first and the last of them: then one question says it all.
    """
    where = {"view": store_view, "after": ids[0] - 1, "last": ids[-1]}
    if connection.scalar(_any_child(), where):
        delete_children(connection, store_view, ids)


@cache
def _any_child() -> sa.Select[bool]:
    """Whether an id interval of a store view has child rows."""
    inside = (
        sa.exists().where(
            table.c.store_view == sa.bindparam("view"),
            table.c.product_id > sa.bindparam("after"),
            table.c.product_id <= sa.bindparam("last"),
        )
        for table in CHILDREN
    )
    return sa.select(sa.or_(*inside))


def delete_children(connection: sa.Connection, store_view: str, ids: Sequence[int]) -> None:
    """Remove every child row of these products."""
    for table in CHILDREN:
        _delete_of(connection, table, store_view, ids)


def _delete_of(connection: sa.Connection, table: sa.Table, store_view: str, ids: Sequence[int]) -> None:
    connection.execute(table.delete().where(table.c.store_view == store_view, table.c.product_id.in_(ids)))


def tombstone(
    connection: sa.Connection, store_view: str, ids: Collection[int], at: datetime, run_id: int
) -> list[tuple[int, str]]:
    """Mark products as deleted and remove their children; returns (id, SKU) of those that lived."""
    where = (
        products.c.store_view == store_view,
        products.c.product_id.in_(ids),
        products.c.deleted_at.is_(None),
    )
    gone = [
        (row.product_id, row.sku)
        for row in connection.execute(
            sa.select(products.c.product_id, products.c.sku).where(*where).order_by(products.c.product_id)
        )
    ]
    if gone:
        connection.execute(
            products.update().where(*where).values(deleted_at=at, changed_at=at, run_id=run_id)
        )
        delete_children(connection, store_view, [product_id for product_id, _ in gone])
    return gone


def remove_first(connection: sa.Connection, store_view: str, count: int) -> list[tuple[int, str]]:
    """Remove the rows of the first products of a store view; returns (id, SKU) of those that lived."""
    first = connection.execute(
        sa.select(products.c.product_id, products.c.sku, products.c.deleted_at)
        .where(products.c.store_view == store_view)
        .order_by(products.c.product_id)
        .limit(count)
    ).all()
    ids = [row.product_id for row in first]
    delete_children(connection, store_view, ids)
    _delete_of(connection, products, store_view, ids)
    return [(row.product_id, row.sku) for row in first if row.deleted_at is None]
