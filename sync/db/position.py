"""How far a reader of the change feed came, where the copy itself keeps it, and what stands there."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from sync.db import state
from sync.db.schema import product_changes, sync_feed, sync_state


def entry_at(connection: sa.Connection, change_id: int) -> Any:
    """A row with store view, product, kind and time of one entry of the feed; None when there is none."""
    entry = product_changes.c
    return connection.execute(
        sa.select(entry.store_view, entry.product_id, entry.kind, entry.changed_at).where(
            entry.change_id == change_id
        )
    ).one_or_none()


def end(connection: sa.Connection) -> int:
    """The last change_id that was given, 0 for an empty feed."""
    return int(connection.execute(sa.select(sync_feed.c.last_change_id)).scalar_one())


def replace(connection: sa.Connection, name: str, expected: Any, value: Any) -> bool:
    """Keep `value` under `name` if what is kept there is `expected`, None for nothing; whether it was.

    The row is locked in between, so that of two who expect the same, one is told that it is not so.
    """
    kept = connection.execute(
        sa.select(sync_state.c.value).where(sync_state.c.name == name).with_for_update()
    ).scalar_one_or_none()
    if kept != expected:
        return False
    try:
        state.save(connection, name, value)
    except sa.exc.IntegrityError:  # there was nothing to lock: another one was first to write the row
        return False
    return True
