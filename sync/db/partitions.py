"""The id ranges of a run and how far each was read: what makes every pass resumable."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from sync.db.schema import sync_partitions
from sync.model import Interval


@dataclass(frozen=True, slots=True)
class Partition:
    """One id range of a run.

    first_id    the smallest id in it: its name within the run
    cursor      the last id already read; `first_id - 1` at the start
    last        the largest id in it, None when it has no upper end
    """

    store_view: str
    first_id: int
    cursor: int
    last: int | None

    @property
    def rest(self) -> Interval:
        """What is still to be read."""
        return Interval(self.cursor, self.last)

    @classmethod
    def of(cls, store_view: str, interval: Interval) -> Partition:
        return cls(store_view, interval.after + 1, interval.after, interval.last)


def plan(connection: sa.Connection, run_id: int, partitions: Iterable[Partition]) -> None:
    """Store the ranges that a run is going to read."""
    rows = [
        {
            "run_id": run_id,
            "store_view": p.store_view,
            "first_id": p.first_id,
            "last_id": p.last,
            "cursor_id": p.cursor,
            "status": "pending",
        }
        for p in partitions
    ]
    if rows:
        connection.execute(sync_partitions.insert(), rows)


def adopt(connection: sa.Connection, old_run: int, new_run: int) -> None:
    """Continue another run's ranges under a new run."""
    connection.execute(
        sync_partitions.update().where(sync_partitions.c.run_id == old_run).values(run_id=new_run)
    )


def pending(connection: sa.Connection, run_id: int) -> list[Partition]:
    """The ranges not read to their end, by store view, then by id."""
    table = sync_partitions
    rows = connection.execute(
        sa.select(table.c.store_view, table.c.first_id, table.c.cursor_id, table.c.last_id)
        .where(table.c.run_id == run_id, table.c.status != "done")
        .order_by(table.c.store_view, table.c.first_id)
    )
    return [Partition(*row) for row in rows]


def move_cursor(connection: sa.Connection, run_id: int, partition: Partition, to: int | None) -> None:
    """Everything up to `to` is read and written; None: up to the range's end."""
    mine = {"run": run_id, "view": partition.store_view, "first": partition.first_id}
    if to is None:
        connection.execute(_END, mine)
    else:
        connection.execute(_MOVE, {**mine, "to": to})


# Built once, as every statement that each page's transaction makes: building takes as long as executing.
_MINE = sync_partitions.update().where(
    sync_partitions.c.run_id == sa.bindparam("run"),
    sync_partitions.c.store_view == sa.bindparam("view"),
    sync_partitions.c.first_id == sa.bindparam("first"),
)
_MOVE = _MINE.values(status="running", cursor_id=sa.bindparam("to"))
_END = _MINE.values(status="done")


def drop(connection: sa.Connection, run_id: int) -> None:
    """Forget the ranges of a run: it completed, or it will not be continued."""
    connection.execute(sync_partitions.delete().where(sync_partitions.c.run_id == run_id))
