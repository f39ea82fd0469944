"""State that survives a restart: small JSON values by name, in sync_state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from sync.db.schema import sync_state

Work = Callable[[sa.Connection], None]


def load(connection: sa.Connection, name: str) -> Any:
    """The value of `name`, None when there is none."""
    return connection.execute(
        sa.select(sync_state.c.value).where(sync_state.c.name == name)
    ).scalar_one_or_none()


def lock(connection: sa.Connection, name: str) -> None:
    """Lock `name` until the transaction ends. When two calls create it concurrently, one fails."""
    held = connection.execute(sync_state.update().where(sync_state.c.name == name).values(name=name))
    if held.rowcount == 0:
        connection.execute(sync_state.insert().values(name=name, value={}))


def save(connection: sa.Connection, name: str, value: Any) -> None:
    """Store `value`, any JSON value, under `name`, replacing the previous one."""
    kept = connection.execute(sync_state.update().where(sync_state.c.name == name).values(value=value))
    if kept.rowcount == 0:
        connection.execute(sync_state.insert().values(name=name, value=value))
