"""The writer lease: acquired for a limited time, renewed by its holder, taken over once it has expired.

The lease row carries a fencing token that grows with every holder. A page's transaction begins by
renewing the lease with its token; a holder whose lease was taken over finds another token and cannot
commit (M. Kleppmann, "How to do distributed locking", 2016). The holder's workers use the same token.

A migration creates the row, and acquiring the lease locks it. Times are the database server's, so that
machines with different clocks agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from sync.db import receipts
from sync.db.dialects import from_now, utc_now
from sync.db.engine import in_transaction, reading
from sync.db.schema import sync_leases
from sync.errors import LeaseHeld

WRITER = "writer"
LIFE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write, valid until another process takes over.

    owner    description of the holder: host, process, command
    life     how long it is valid without renewal
    """

    owner: str
    fencing: int
    life: timedelta = LIFE


@dataclass(frozen=True, slots=True)
class Holder:
    """The current holder of the lease, with the times of acquisition and expiry."""

    owner: str
    since: datetime
    until: datetime


def name_of(owner: str) -> str:
    """The part of an owner that people read: command, process and host, not how a process is recognised.

    >>> name_of("backfill (process 4711 on shop-etl) since 342602, machine 1ae751bb-4026531836")
    'backfill (process 4711 on shop-etl)'
    """
    name, identified, _ = owner.partition(") since ")
    return f"{name})" if identified else owner


def acquire(engine: sa.Engine, owner: str, is_dead: Callable[[str], bool], life: timedelta = LIFE) -> Lease:
    """Acquire the lease without waiting.

    is_dead    whether an owner on this machine no longer runs: its lease is taken over before it expires
    life       at most LIFE

    Raises LeaseHeld, naming the holder.
    """
    return in_transaction(engine, lambda connection: _acquire(connection, owner, is_dead, life))


def _acquire(connection: sa.Connection, owner: str, is_dead: Callable[[str], bool], life: timedelta) -> Lease:
    row = connection.execute(
        sa.select(sync_leases).where(sync_leases.c.name == WRITER).with_for_update()
    ).one()
    now = utc_now(connection)
    if _is_held(row, now) and not is_dead(row.owner):
        raise LeaseHeld(name_of(row.owner), row.acquired_at, row.expires_at)
    receipts.clear(connection)
    lease = Lease(owner, row.fencing + 1, life)
    connection.execute(
        sync_leases.update()
        .where(sync_leases.c.name == WRITER)
        .values(owner=owner, fencing=lease.fencing, acquired_at=now, expires_at=now + life)
    )
    return lease


def _is_held(row: sa.Row[Any], now: datetime) -> bool:
    """Whether the lease is held. An expiry beyond any possible one dates from before the clock was set back:
    the lease is taken over, and a holder that still runs is fenced off."""
    return row.owner is not None and now < row.expires_at < now + 2 * LIFE


def lock(tx: sa.Connection) -> None:
    """Serialise writes that no lease protects, until the transaction of `tx` ends."""
    tx.execute(sa.select(sync_leases).where(sync_leases.c.name == WRITER).with_for_update())


def renew(connection: sa.Connection, lease: Lease) -> None:
    """Extend the lease by its life, in the transaction of `connection`.

    The row stays locked until that transaction ends, so no process can take over before.
    Raises LeaseHeld when another process has taken over: roll this transaction back.
    """
    renewed = connection.execute(_renewal(connection.dialect.name, lease.life), {"mine": lease.fencing})
    if renewed.rowcount != 1:
        row = connection.execute(sa.select(sync_leases).where(sync_leases.c.name == WRITER)).one()
        raise LeaseHeld(name_of(row.owner), row.acquired_at, row.expires_at)


@cache
def _renewal(dialect: str, life: timedelta) -> sa.Update:
    return (
        sync_leases.update()
        .where(sync_leases.c.name == WRITER, sync_leases.c.fencing == sa.bindparam("mine"))
        .values(expires_at=from_now(dialect, life))
    )


def fencing(connection: sa.Connection) -> int:
    """The fencing token of the last lease, which its workers use."""
    return int(
        connection.execute(sa.select(sync_leases.c.fencing).where(sync_leases.c.name == WRITER)).scalar_one()
    )


def share(connection: sa.Connection, fencing: int) -> None:
    """Share the lease with this fencing token until the transaction of `connection` ends.

    For workers: they do not wait for each other, and a process that takes over waits for all of them.
    Raises LeaseHeld when another process has taken over: roll this transaction back.
    """
    row = connection.execute(_SHARED).one()
    if row.fencing != fencing:
        raise LeaseHeld(name_of(row.owner), row.acquired_at, row.expires_at)


_SHARED = (
    sa.select(sync_leases).where(sync_leases.c.name == WRITER).with_for_update(read=True, key_share=True)
)


def release(engine: sa.Engine, lease: Lease) -> None:
    """Release the lease if it is still ours. The owner stays in the row, for messages."""
    in_transaction(
        engine,
        lambda connection: connection.execute(
            sync_leases.update()
            .where(sync_leases.c.name == WRITER, sync_leases.c.fencing == lease.fencing)
            .values(expires_at=utc_now(connection))
        ),
    )


def holder(engine: sa.Engine) -> Holder | None:
    """The current holder of the lease, or None."""
    return reading(engine, holder_of)


def holder_of(connection: sa.Connection) -> Holder | None:
    """The same, in the transaction of `connection`."""
    now = utc_now(connection)
    row = connection.execute(sa.select(sync_leases).where(sync_leases.c.name == WRITER)).one()
    return Holder(name_of(row.owner), row.acquired_at, row.expires_at) if _is_held(row, now) else None
