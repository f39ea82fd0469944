"""The change feed: every change of the copy, in commit order.

`change_id` comes from a one-row counter whose row lock is held until the commit, not from a
sequence: with a sequence, 8 may commit before 7, and a reader that has read 8 would skip 7.

Within a transaction, a SKU is released before another product takes it, so that a consumer may key its
products by SKU instead of by id.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from sync.collation import collated
from sync.db.dialects import bulk_insert
from sync.db.schema import product_changes, sync_feed
from sync.model import ChangeKind


class FeedEntry(NamedTuple):
    """One entry of the feed.

    fields    JSON text: for an update, changed paths with old and new value; otherwise None
    """

    store_view: str
    product_id: int
    sku: str
    kind: ChangeKind
    fields: str | None = None


_COLUMNS = ("change_id", "store_view", "product_id", "sku", "kind", "fields", "changed_at", "run_id")


def append(connection: sa.Connection, changes: Sequence[FeedEntry], at: datetime, run_id: int) -> None:
    """Add entries to the feed, in this order, in the transaction of `connection`."""
    if not changes:
        return
    feed = sync_feed.c
    connection.execute(sync_feed.update().values(last_change_id=feed.last_change_id + len(changes)))
    last = connection.execute(sa.select(feed.last_change_id)).scalar_one()
    first = last - len(changes) + 1
    rows = [(first + i, *change, at, run_id) for i, change in enumerate(changes)]
    bulk_insert(connection, product_changes, _COLUMNS, rows)


def in_order(entries: Sequence[FeedEntry], renamed: Mapping[int, str]) -> list[FeedEntry]:
    """Order the entries of one store view so that a SKU is released before it is taken.

    renamed    by id, the SKU that an updated product had before

    Deletions come first, and an update that releases a SKU precedes the entry that takes it. When products
    exchange their SKUs in a cycle, one of them is deleted first and restored with its new SKU.

    >>> swap = [FeedEntry("all", 7, "B", "update", "{}"), FeedEntry("all", 8, "A", "update", "{}")]
    >>> [(entry.kind, entry.product_id, entry.sku) for entry in in_order(swap, {7: "A", 8: "B"})]
    [('delete', 7, 'A'), ('update', 8, 'A'), ('restore', 7, 'B')]
    """
    if not renamed:
        return sorted(entries, key=lambda entry: entry.kind != "delete")
    ordered = [entry for entry in entries if entry.kind == "delete"]
    others = [entry for entry in entries if entry.kind != "delete"]
    releases = {
        collated(renamed[entry.product_id]): entry
        for entry in others
        if entry.product_id in renamed and collated(renamed[entry.product_id]) != collated(entry.sku)
    }
    placed: set[int] = set()
    for entry in others:
        chain: list[FeedEntry] = []  # each entry takes the SKU that the next one releases
        following: FeedEntry | None = entry
        while following is not None and following.product_id not in placed:
            chain.append(following)
            placed.add(following.product_id)
            following = releases.get(collated(following.sku))
        if following is not None and following in chain:
            former = renamed[following.product_id]
            ordered.append(following._replace(kind="delete", sku=former, fields=None))
            chain[chain.index(following)] = following._replace(kind="restore")
        ordered += reversed(chain)
    return ordered


def left_empty(entries: Sequence[FeedEntry], renamed: Mapping[int, str]) -> list[str]:
    """The SKUs that no longer have a product after these entries, for a consumer that keys by SKU."""
    if not renamed and all(entry.kind != "delete" for entry in entries):
        return []
    empty: dict[str, str] = {}
    for entry in entries:
        if entry.kind == "delete":
            empty[collated(entry.sku)] = entry.sku
            continue
        if entry.kind == "update" and entry.product_id in renamed:
            former = renamed[entry.product_id]
            empty[collated(former)] = former
        empty.pop(collated(entry.sku), None)
    return list(empty.values())


def since(
    connection: sa.Connection, change_id: int, limit: int, most_length: int
) -> list[sa.Row[tuple[object, ...]]]:
    """Up to `limit` entries after `change_id`, oldest first.

    most_length    of their `fields` together, unless the first entry alone has more
    """
    table, length, count = product_changes, 0, 0
    following = table.c.change_id > change_id
    fields = sa.func.coalesce(sa.func.length(sa.cast(table.c.fields, sa.Text)), 0)
    for one in connection.scalars(
        sa.select(fields).where(following).order_by(table.c.change_id).limit(limit)
    ):
        length += one
        if count and length > most_length:
            break
        count += 1
    return list(
        connection.execute(sa.select(table).where(following).order_by(table.c.change_id).limit(count))
    )


def changed_by(
    connection: sa.Connection, run_id: int, store_views: Collection[str], product_ids: Collection[int]
) -> set[int]:
    """The products among these that this run has written an entry for."""
    table = product_changes.c
    entries = sa.select(table.product_id).where(
        table.store_view.in_(store_views), table.product_id.in_(product_ids), table.run_id == run_id
    )
    return set(connection.scalars(entries)) if product_ids else set()


def history(connection: sa.Connection, store_view: str, product_id: int) -> list[sa.Row[tuple[object, ...]]]:
    """One product's entries, oldest first."""
    table = product_changes
    return list(
        connection.execute(
            sa.select(table)
            .where(table.c.store_view == store_view, table.c.product_id == product_id)
            .order_by(table.c.change_id)
        )
    )
