"""The id ranges of a run and how far each was read: what makes a pass resumable, and lets workers share it.

A local run reads its ranges under its own lease. Where workers read them, each range has a lease
besides: a worker takes it by a conditional update, holds it in every page's transaction, and whoever
lost it cannot commit. A worker that dies leaves its range to the next one when the lease has run out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from sync.db.dialects import from_now, utc_now
from sync.db.schema import sync_partitions
from sync.errors import RangeLost
from sync.model import Interval

LIFE = timedelta(seconds=15)  # of a worker's lease: the longest that a dead worker's range lies idle


@dataclass(frozen=True, slots=True)
class Partition:
    """One id range of a run.

    first_id    the smallest id in it: its name within the run
    cursor      the last id already read; `first_id - 1` at the start
    last        the largest id in it, None when it has no upper end
    products    about how many it holds, where somebody counted; not stored
    """

    store_view: str
    first_id: int
    cursor: int
    last: int | None
    products: int | None = field(default=None, compare=False)

    @property
    def rest(self) -> Interval:
        """What is still to be read."""
        return Interval(self.cursor, self.last)

    @classmethod
    def of(cls, store_view: str, interval: Interval, products: int | None = None) -> Partition:
        return cls(store_view, interval.after + 1, interval.after, interval.last, products)

    @property
    def name(self) -> tuple[str, int]:
        """What stays the same as it is read, or divided."""
        return self.store_view, self.first_id


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's lease of one range.

    owner    who holds it; another text for each claim, so that nobody takes a successor's for his own
    """

    run_id: int
    partition: Partition
    owner: str


class Found(NamedTuple):
    """A range that is not read to its end.

    is_claimed    a worker's lease of it is running
    failure       what `fail` noted; None while it may still be read
    """

    partition: Partition
    is_claimed: bool
    failure: Any


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
    """Continue another run's ranges under a new run; no worker holds one any more, and none has failed."""
    mine = sync_partitions.c.run_id == new_run
    connection.execute(
        sync_partitions.update().where(sync_partitions.c.run_id == old_run).values(run_id=new_run)
    )
    connection.execute(
        sync_partitions.update()
        .where(mine, sync_partitions.c.status != "done")
        .values(status="pending", lease_owner=None, lease_expires_at=None, failure=None)
    )


def store_views(connection: sa.Connection, run_id: int) -> set[str]:
    """The store views that a run found something to read in."""
    table = sync_partitions.c
    return set(connection.execute(sa.select(table.store_view).where(table.run_id == run_id)).scalars())


def pending(connection: sa.Connection, run_id: int) -> list[Partition]:
    """The ranges not read to their end, by store view, then by id."""
    return [found.partition for found in unread(connection, run_id)]


def unread(connection: sa.Connection, run_id: int) -> list[Found]:
    """The ranges not read to their end, by store view, then by id, and who has them in hand."""
    table, now = sync_partitions.c, utc_now(connection)
    rows = connection.execute(
        sa.select(sync_partitions)
        .where(table.run_id == run_id, table.status != "done")
        .order_by(table.store_view, table.first_id)
    )
    return [
        Found(
            Partition(row.store_view, row.first_id, row.cursor_id, row.last_id),
            row.lease_owner is not None and row.lease_expires_at > now,
            row.failure,
        )
        for row in rows
    ]


def move_cursor(connection: sa.Connection, run_id: int, partition: Partition, to: int | None) -> None:
    """Everything up to `to` is read and written; None: up to the range's end.

    A range that is read stays so, when ids of it are read once more later in the run.
    """
    mine = {"run": run_id, "view": partition.store_view, "first": partition.first_id}
    if to is None:
        connection.execute(_END, mine)
    else:
        connection.execute(_MOVE, {**mine, "to": to})


def divide(connection: sa.Connection, run_id: int, shorter: Partition, taken: Partition) -> None:
    """Store that the end of a range became a range of its own; nothing where the range is not stored."""
    mine = {"run": run_id, "view": shorter.store_view, "first": shorter.first_id}
    whole = sync_partitions.c.last_id == taken.last, sync_partitions.c.status != "done"
    cut = connection.execute(_MINE.where(*whole).values(last_id=shorter.last), mine)
    if cut.rowcount == 1:
        plan(connection, run_id, [taken])


# Built once, as every statement that each page's transaction makes: building takes as long as executing.
_MINE = sync_partitions.update().where(
    sync_partitions.c.run_id == sa.bindparam("run"),
    sync_partitions.c.store_view == sa.bindparam("view"),
    sync_partitions.c.first_id == sa.bindparam("first"),
)
_MOVE = _MINE.where(sync_partitions.c.status != "done").values(status="running", cursor_id=sa.bindparam("to"))
_END = _MINE.values(status="done")


def drop(connection: sa.Connection, run_id: int) -> None:
    """Forget the ranges of a run: it completed, or it will not be continued."""
    connection.execute(sync_partitions.delete().where(sync_partitions.c.run_id == run_id))


# --- ranges that workers read ----------------------------------------------------------------


def claim(connection: sa.Connection, run_id: int, store_view: str, first_id: int, owner: str) -> Claim | None:
    """Take a range of a run, unless it is read, has failed, is not there, or is in another worker's hands.

    Who has it already gets it as it is by now: the leader may have cut it shorter. One that is locked is in
    hands, be it those of a worker that was cut off in the middle of a transaction: nobody waits for these.
    """
    table = sync_partitions.c
    mine = (table.run_id == run_id, table.store_view == store_view, table.first_id == first_id)
    row = connection.execute(
        sa.select(sync_partitions).where(*mine).with_for_update(skip_locked=True)
    ).one_or_none()
    if row is None or row.status not in ("pending", "running"):
        return None
    if row.lease_owner not in (None, owner) and row.lease_expires_at >= utc_now(connection):
        return None
    connection.execute(
        sync_partitions.update()
        .where(*mine)
        .values(status="running", lease_owner=owner, lease_expires_at=from_now(connection.dialect.name, LIFE))
    )
    return Claim(run_id, Partition(store_view, first_id, row.cursor_id, row.last_id), owner)


def renew(connection: sa.Connection, claim: Claim) -> None:
    """Hold a claim for another life, in the transaction of `connection`.

    Raises RangeLost when another worker has it, it has failed, or it was cut shorter: then nothing of this
    transaction may be kept.
    """
    partition = claim.partition
    mine = {
        "run": claim.run_id,
        "view": partition.store_view,
        "first": partition.first_id,
        "mine": claim.owner,
        "last": partition.last,
    }
    if connection.execute(_renewal(connection.dialect.name), mine).rowcount != 1:
        raise RangeLost(f"{partition.store_view} {partition.rest}")


@cache
def _renewal(dialect: str) -> sa.Update:
    return _MINE.where(
        sync_partitions.c.lease_owner == sa.bindparam("mine"),
        sync_partitions.c.status == "running",
        sync_partitions.c.last_id == sa.bindparam("last"),
    ).values(lease_expires_at=from_now(dialect, LIFE))


def give_back(connection: sa.Connection, claim: Claim) -> None:
    """Leave a range to the next worker, at once."""
    renew(connection, claim)
    _release(connection, claim, status="pending")


def fail(connection: sa.Connection, claim: Claim, failure: dict[str, Any]) -> None:
    """Note why a range cannot be read: no worker tries it again in this run."""
    renew(connection, claim)
    _release(connection, claim, status="failed", failure=failure)


def _release(connection: sa.Connection, claim: Claim, **values: Any) -> None:
    partition = claim.partition
    mine = {"run": claim.run_id, "view": partition.store_view, "first": partition.first_id}
    connection.execute(_MINE.values(lease_owner=None, lease_expires_at=None, **values), mine)


def release_overdue(connection: sa.Connection, run_id: int) -> list[Partition]:
    """Take from workers the ranges whose lease has run out, and return them: somebody else may read them.

    One that is locked is being renewed just now, or its worker was cut off in the middle of a transaction,
    which the server will end: a later look finds out.
    """
    table, now = sync_partitions.c, utc_now(connection)
    overdue = (table.run_id == run_id, table.status == "running", table.lease_expires_at < now)
    rows = connection.execute(
        sa.select(sync_partitions).where(*overdue).with_for_update(skip_locked=True)
    ).all()
    for row in rows:
        mine = {"run": run_id, "view": row.store_view, "first": row.first_id}
        connection.execute(_MINE.values(status="pending", lease_owner=None, lease_expires_at=None), mine)
    return [Partition(row.store_view, row.first_id, row.cursor_id, row.last_id) for row in rows]


def cut_off(connection: sa.Connection, run_id: int, partition: Partition, middle: int) -> Partition | None:
    """Make a new range of what lies behind `middle`, whoever reads the range; None where that came too late.

    Its worker notices at its next commit, and goes on up to `middle`.
    """
    table = sync_partitions.c
    mine = {"run": run_id, "view": partition.store_view, "first": partition.first_id}
    cut = connection.execute(
        _MINE.where(
            table.status == "running", table.cursor_id < middle, table.last_id == partition.last
        ).values(last_id=middle),
        mine,
    )
    if cut.rowcount != 1:
        return None
    behind = Partition(partition.store_view, middle + 1, middle, partition.last)
    plan(connection, run_id, [behind])
    return behind
