"""One text by name that processes share: read and replaced by one at a time, under one clock.

For what the processes of a tenant must agree about from request to request: their pace, their token. It is
a row of sync_state, locked while it is looked at; the clock is the server's. PostgreSQL only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from threading import Event
from typing import TypeVar

import sqlalchemy as sa

from sync.db.engine import in_transaction
from sync.db.schema import sync_state

T = TypeVar("T")


class SharedState:
    """One such text.

    stop    ends the waiting for a database that is away
    """

    def __init__(self, engine: sa.Engine, name: str, stop: Event) -> None:
        self._engine = engine
        self._name = name
        self._stop = stop

    def update(self, step: Callable[[str | None, float], tuple[str | None, T]]) -> T:
        """Run `step` with the text, None at first, and the time; it returns the new text and what we return.

        step    a text that is None, or the same, is not written; it may run more than once, so it keeps no
                state. The time is seconds since 1970 by the server's clock, not before any earlier step's

        Raises DatabaseUnavailable, and Interrupted once `stop` is set.
        """

        def work(tx: sa.Connection) -> T:
            row = tx.execute(_LOOK, {"shelf": self._name}).one_or_none()
            if row is None:
                tx.execute(_make(), {"name": self._name, "value": None})
                row = tx.execute(_LOOK, {"shelf": self._name}).one()
            text, result = step(row.value, row.now)
            if text is not None and text != row.value:
                tx.execute(_PUT, {"shelf": self._name, "value": text})
            return result

        return in_transaction(self._engine, work, stop=self._stop)


_NOW = sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()), sa.Float).label("now")
_MINE = sync_state.c.name == sa.bindparam("shelf")
_LOOK = sa.select(sync_state.c.value, _NOW).where(_MINE).with_for_update()
_PUT = sync_state.update().where(_MINE)


@cache
def _make() -> sa.Insert:
    from sqlalchemy.dialects.postgresql import insert  # all its drivers, 25 ms: only where there is a shelf

    return insert(sync_state).on_conflict_do_nothing()
