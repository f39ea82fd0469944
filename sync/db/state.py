"""What the program learned and wants to know again after a restart: small JSON values by name."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from sync.db.schema import sync_state


def load(connection: sa.Connection, name: str) -> Any:
    """The value saved under `name`, None when there is none."""
    return connection.execute(
        sa.select(sync_state.c.value).where(sync_state.c.name == name)
    ).scalar_one_or_none()


def lock(connection: sa.Connection, name: str) -> None:
    """Keep others from `name` until the transaction ends. Of the first two to come at once, one fails."""
    held = connection.execute(sync_state.update().where(sync_state.c.name == name).values(name=name))
    if held.rowcount == 0:
        connection.execute(sync_state.insert().values(name=name, value={}))


def save(connection: sa.Connection, name: str, value: Any) -> None:
    """Keep `value`, anything JSON can hold, in place of what was saved under `name`."""
    kept = connection.execute(sync_state.update().where(sync_state.c.name == name).values(value=value))
    if kept.rowcount == 0:
        connection.execute(sync_state.insert().values(name=name, value=value))
