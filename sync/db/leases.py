"""Who may write to this database: one lease, taken for a while, renewed, taken over when it ran out.

The lease row carries a fencing number that grows with every holder. A page's transaction begins
by renewing the lease under its own number; a holder that slept through its lease finds another
number there and cannot commit (M. Kleppmann, "How to do distributed locking", 2016). Workers that read
for the holder show the same number.

The row is there from the first migration on: whoever wants the lease locks it. Time is the database
server's, so that machines with different clocks agree.
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
    """A right to write, valid until it is taken over.

    owner    who holds it, in words: host, process, command
    life     how long it is valid without being renewed
    """

    owner: str
    fencing: int
    life: timedelta = LIFE


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lease now, since when, until when."""

    owner: str
    since: datetime
    until: datetime


def acquire(engine: sa.Engine, owner: str, is_dead: Callable[[str], bool], life: timedelta = LIFE) -> Lease:
    """Take the lease, at once or not at all.

    is_dead    tells of an owner of this same machine that it no longer runs: then there is
               no need to wait for its lease to run out
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
        raise LeaseHeld(row.owner, row.acquired_at, row.expires_at)
    receipts.clear(connection)
    lease = Lease(owner, row.fencing + 1, life)
    connection.execute(
        sync_leases.update()
        .where(sync_leases.c.name == WRITER)
        .values(owner=owner, fencing=lease.fencing, acquired_at=now, expires_at=now + life)
    )
    return lease


def _is_held(row: sa.Row[Any], now: datetime) -> bool:
    """Whether somebody holds the lease. One that ends later than any lease can was given out before the
    clock was set back: nobody should wait an hour for it, and a holder that lives is fenced off."""
    return row.owner is not None and now < row.expires_at < now + 2 * LIFE


def lock(tx: sa.Connection) -> None:
    """Let nobody else write what is not fenced by a lease, until the transaction of `tx` ends."""
    tx.execute(sa.select(sync_leases).where(sync_leases.c.name == WRITER).with_for_update())


def renew(connection: sa.Connection, lease: Lease) -> None:
    """Hold the lease for another life, in the transaction of `connection`.

    The row stays locked until that transaction ends, so nobody can take over before it does.
    Raises LeaseHeld when somebody already has: then nothing of this transaction may be kept.
    """
    renewed = connection.execute(_renewal(connection.dialect.name, lease.life), {"mine": lease.fencing})
    if renewed.rowcount != 1:
        row = connection.execute(sa.select(sync_leases).where(sync_leases.c.name == WRITER)).one()
        raise LeaseHeld(row.owner, row.acquired_at, row.expires_at)


@cache
def _renewal(dialect: str, life: timedelta) -> sa.Update:
    return (
        sync_leases.update()
        .where(sync_leases.c.name == WRITER, sync_leases.c.fencing == sa.bindparam("mine"))
        .values(expires_at=from_now(dialect, life))
    )


def fencing(connection: sa.Connection) -> int:
    """The number of the lease that was given out last: what workers show who write under it."""
    return int(
        connection.execute(sa.select(sync_leases.c.fencing).where(sync_leases.c.name == WRITER)).scalar_one()
    )


def share(connection: sa.Connection, fencing: int) -> None:
    """Write beside others under the lease with this number, until the transaction of `connection` ends.

    For workers: they do not wait for each other here, and whoever wants to take over waits for all of them.
    Raises LeaseHeld when somebody has taken over: then nothing of this transaction may be kept.
    """
    row = connection.execute(_SHARED).one()
    if row.fencing != fencing:
        raise LeaseHeld(row.owner, row.acquired_at, row.expires_at)


_SHARED = (
    sa.select(sync_leases).where(sync_leases.c.name == WRITER).with_for_update(read=True, key_share=True)
)


def release(engine: sa.Engine, lease: Lease) -> None:
    """Give the lease back, if it is still ours. Who held it stays on record, for one that comes late."""
    in_transaction(
        engine,
        lambda connection: connection.execute(
            sync_leases.update()
            .where(sync_leases.c.name == WRITER, sync_leases.c.fencing == lease.fencing)
            .values(expires_at=utc_now(connection))
        ),
    )


def holder(engine: sa.Engine) -> Holder | None:
    """Who holds the lease now, or None."""
    return reading(engine, _holder)


def _holder(connection: sa.Connection) -> Holder | None:
    now = utc_now(connection)
    row = connection.execute(sa.select(sync_leases).where(sync_leases.c.name == WRITER)).one()
    return Holder(row.owner, row.acquired_at, row.expires_at) if _is_held(row, now) else None
