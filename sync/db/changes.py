"""The change feed: what happened to the copy, in the order in which it was committed.

`change_id` comes from a one-row counter whose row lock is held until the commit, not from a
sequence: a sequence hands out 7 before 8 but may commit 8 before 7, and a reader that has
seen 8 would never look for 7 again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from sync.db.dialects import bulk_insert
from sync.db.schema import product_changes, sync_feed
from sync.model import ChangeKind


class Change(NamedTuple):
    """One entry of the feed.

    fields    JSON text: for an update, changed paths with old and new value; otherwise None
    """

    store_view: str
    product_id: int
    sku: str
    kind: ChangeKind
    fields: str | None = None


_COLUMNS = ("change_id", "store_view", "product_id", "sku", "kind", "fields", "changed_at", "run_id")


def append(connection: sa.Connection, changes: Sequence[Change], at: datetime, run_id: int) -> None:
    """Add entries to the feed, in this order, in the transaction of `connection`."""
    if not changes:
        return
    feed = sync_feed.c
    connection.execute(sync_feed.update().values(last_change_id=feed.last_change_id + len(changes)))
    last = connection.execute(sa.select(feed.last_change_id)).scalar_one()
    first = last - len(changes) + 1
    rows = [(first + i, *change, at, run_id) for i, change in enumerate(changes)]
    bulk_insert(connection, product_changes, _COLUMNS, rows)


def since(connection: sa.Connection, change_id: int, limit: int) -> list[sa.Row[tuple[object, ...]]]:
    """Up to `limit` entries after `change_id`, oldest first."""
    table = product_changes
    return list(
        connection.execute(
            sa.select(table).where(table.c.change_id > change_id).order_by(table.c.change_id).limit(limit)
        )
    )


def changed_by(
    connection: sa.Connection, run_id: int, store_views: Collection[str], product_ids: Collection[int]
) -> set[int]:
    """Those of these products of which this run has written an entry."""
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
