"""The position of a feed reader, stored in the copy, and the feed entries that it refers to."""

from __future__ import annotations

from datetime import datetime
from itertools import takewhile
from typing import Any

import sqlalchemy as sa

from sync.db import state
from sync.db.schema import product_changes, sync_feed, sync_state

WEBHOOK = "webhook"  # in sync_state, the rows with the positions of webhooks begin with this word


def entry_at(connection: sa.Connection, change_id: int) -> Any:
    """Store view, product, kind and time of one feed entry; None when there is none."""
    entry = product_changes.c
    return connection.execute(
        sa.select(entry.store_view, entry.product_id, entry.kind, entry.changed_at).where(
            entry.change_id == change_id
        )
    ).one_or_none()


def last_change_id(connection: sa.Connection) -> int:
    """The last change_id of the feed, 0 for an empty feed."""
    return int(connection.execute(sa.select(sync_feed.c.last_change_id)).scalar_one())


def oldest_change_id(connection: sa.Connection) -> int:
    """The oldest change_id that is kept; the next one to be assigned when none is."""
    oldest = connection.scalar(sa.select(sa.func.min(product_changes.c.change_id)))
    return last_change_id(connection) + 1 if oldest is None else int(oldest)


def delete_older(tx: sa.Connection, before: datetime, limit: int) -> int:
    """Delete up to `limit` of the oldest entries, and return their number.

    before    the time of the first entry to keep

    The last entry is kept, and what a webhook with a position in the copy has not passed yet. Entries go in
    the order of their ids, so what is kept has no gap.
    """
    entry = product_changes.c
    end = min([last_change_id(tx), *_webhook_positions(tx)])
    oldest = sa.select(entry.change_id, entry.changed_at).where(entry.change_id < end)
    rows = tx.execute(oldest.order_by(entry.change_id).limit(limit)).all()
    ids = [row.change_id for row in takewhile(lambda row: row.changed_at < before, rows)]
    if ids:
        tx.execute(product_changes.delete().where(entry.change_id.between(ids[0], ids[-1])))
    return len(ids)


def _webhook_positions(connection: sa.Connection) -> list[int]:
    rows = connection.execute(sa.select(sync_state.c.value).where(sync_state.c.name.like(f"{WEBHOOK} %")))
    return [int(row.value["change_id"]) for row in rows]


def compare_and_set(connection: sa.Connection, name: str, expected: Any, value: Any) -> bool:
    """Compare and set: store `value` under `name` if `expected` is stored there, None for nothing.

    Returns whether it was stored. The row is locked in between, so only one of two concurrent calls succeeds.
    """
    kept = connection.execute(
        sa.select(sync_state.c.value).where(sync_state.c.name == name).with_for_update()
    ).scalar_one_or_none()
    if kept != expected:
        return False
    try:
        state.save(connection, name, value)
    except sa.exc.IntegrityError:  # no row to lock: a concurrent call inserted it first
        return False
    return True
