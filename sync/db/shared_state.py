"""State shared between processes: a named text that one process at a time reads and replaces.

A tenant's processes share their pace and their token this way. It is a row of sync_state, locked during an
update; times are the database server's. PostgreSQL only.
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


class SharedStateRow:
    """A shared text.

    stop    ends waiting for an unavailable database
    """

    def __init__(self, engine: sa.Engine, name: str, stop: Event) -> None:
        self._engine = engine
        self._name = name
        self._stop = stop

    def update(self, step: Callable[[str | None, float], tuple[str | None, T]]) -> T:
        """Call `step` with the text and the time, store the text it returns, and return its result.

        step    gets None as the first text; may return None to leave the text unchanged. May run more than
                once, so it must have no side effects. The time is seconds since 1970 by the server's clock,
                and never goes back

        Raises DatabaseUnavailable, and Interrupted once `stop` is set.
        """

        def work(tx: sa.Connection) -> T:
            row = tx.execute(_READ, {"row": self._name}).one_or_none()
            if row is None:
                tx.execute(_insert_missing(), {"name": self._name, "value": None})
                row = tx.execute(_READ, {"row": self._name}).one()
            text, result = step(row.value, row.now)
            if text is not None and text != row.value:
                tx.execute(_WRITE, {"row": self._name, "value": text})
            return result

        return in_transaction(self._engine, work, stop=self._stop)


_NOW = sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()), sa.Float).label("now")
_ROW = sync_state.c.name == sa.bindparam("row")
_READ = sa.select(sync_state.c.value, _NOW).where(_ROW).with_for_update()
_WRITE = sync_state.update().where(_ROW)


@cache
def _insert_missing() -> sa.Insert:
    from sqlalchemy.dialects.postgresql import insert  # loads all its drivers, 25 ms

    return insert(sync_state).on_conflict_do_nothing()
