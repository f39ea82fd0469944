"""The position of a feed reader, stored in the copy, and the feed entries that it refers to."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from sync.db import state
from sync.db.schema import product_changes, sync_feed, sync_state


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
