"""Who may write to this database: one lease, taken for a while, renewed, taken over when it ran out.

The lease row carries a fencing number that grows with every holder. A page's transaction begins
by renewing the lease under its own number; a holder that slept through its lease finds another
number there and cannot commit (M. Kleppmann, "How to do distributed locking", 2016).

Time is the database server's, so that machines with different clocks agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from sync.db.dialects import utc_now
from sync.db.engine import in_transaction, reading
from sync.db.schema import sync_leases
from sync.errors import LeaseHeld

WRITER = "writer"
LIFE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Lease:
    """A right to write, valid until it is taken over.

    owner    who holds it, in words: host, process, command
    """

    owner: str
    fencing: int


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lease now, since when, until when."""

    owner: str
    since: datetime
    until: datetime


def acquire(engine: sa.Engine, owner: str, is_dead: Callable[[str], bool]) -> Lease:
    """Take the lease, at once or not at all.

    is_dead    tells of an owner of this same machine that it no longer runs: then there is
               no need to wait for its lease to run out

    Raises LeaseHeld, naming the holder.
    """
    return in_transaction(engine, lambda connection: _acquire(connection, owner, is_dead))


def _acquire(connection: sa.Connection, owner: str, is_dead: Callable[[str], bool]) -> Lease:
    now = utc_now(connection)
    row = connection.execute(
        sa.select(sync_leases).where(sync_leases.c.name == WRITER).with_for_update()
    ).one_or_none()
    fencing = row.fencing + 1 if row else 1
    values = {"owner": owner, "fencing": fencing, "acquired_at": now, "expires_at": now + LIFE}
    if row is None:
        connection.execute(sync_leases.insert().values(name=WRITER, **values))
        return Lease(owner, fencing)
    if row.owner is not None and row.expires_at > now and not is_dead(row.owner):
        raise LeaseHeld(row.owner, row.acquired_at, row.expires_at)
    claimed = connection.execute(
        sync_leases.update()
        .where(sync_leases.c.name == WRITER, sync_leases.c.fencing == row.fencing)
        .values(values)
    )
    if claimed.rowcount != 1:  # somebody was faster between the two statements
        raise LeaseHeld("another run", now, now + LIFE)
    return Lease(owner, fencing)


def renew(connection: sa.Connection, lease: Lease) -> None:
    """Hold the lease for another LIFE, in the transaction of `connection`.

    The row stays locked until that transaction ends, so nobody can take over before it does.
    Raises LeaseHeld when somebody already has: then nothing of this transaction may be kept.
    """
    renewed = connection.execute(
        sync_leases.update()
        .where(sync_leases.c.name == WRITER, sync_leases.c.fencing == lease.fencing)
        .values(expires_at=utc_now(connection) + LIFE)
    )
    if renewed.rowcount != 1:
        row = connection.execute(sa.select(sync_leases).where(sync_leases.c.name == WRITER)).one()
        raise LeaseHeld(row.owner or "another run", row.acquired_at, row.expires_at)


def release(engine: sa.Engine, lease: Lease) -> None:
    """Give the lease back, if it is still ours."""
    in_transaction(
        engine,
        lambda connection: connection.execute(
            sync_leases.update()
            .where(sync_leases.c.name == WRITER, sync_leases.c.fencing == lease.fencing)
            .values(owner=None, expires_at=None)
        ),
    )


def holder(engine: sa.Engine) -> Holder | None:
    """Who holds the lease now, or None."""
    return reading(engine, _holder)


def _holder(connection: sa.Connection) -> Holder | None:
    now = utc_now(connection)
    row = connection.execute(sa.select(sync_leases).where(sync_leases.c.name == WRITER)).one_or_none()
    if row is None or row.owner is None or row.expires_at <= now:
        return None
    return Holder(row.owner, row.acquired_at, row.expires_at)
